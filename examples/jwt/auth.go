package main

import (
	"context"
	"strings"
	"time"

	jwtware "github.com/gofiber/contrib/jwt"
	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// claims is what a token of this host says.
type claims struct {
	// Scope lists scopes, separated by blanks (RFC 8693, section 4.2).
	Scope string `json:"scope"`
	jwt.RegisteredClaims
}

// verify is the host's middleware. It refuses nobody: a request without a valid
// token goes on without claims, and the bridge answers it in the protocol's
// words, on a WebSocket with close code 1008, which a plain 401 is not.
func verify(secret []byte) fiber.Handler {
	return jwtware.New(jwtware.Config{
		SigningKey: jwtware.SigningKey{JWTAlg: jwtware.HS256, Key: secret},
		Claims:     &claims{},
		// EventSource and WebSocket of a browser cannot set headers.
		TokenLookup:  "header:Authorization,query:access_token",
		AuthScheme:   "Bearer",
		ErrorHandler: func(c *fiber.Ctx, _ error) error { return c.Next() },
	})
}

// authFromToken maps a verified token to the engine's AuthContext. ExpiresAt is
// what ends a stream when its token does.
func authFromToken(c *fiber.Ctx) (engine.AuthContext, error) {
	token, ok := c.Locals("user").(*jwt.Token)
	if !ok {
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "a valid token is required")
	}
	said, ok := token.Claims.(*claims)
	if !ok || said.ExpiresAt == nil {
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "the token never expires")
	}
	auth := engine.AuthContext{
		Subject:   said.Subject,
		Scopes:    strings.Fields(said.Scope),
		ExpiresAt: said.ExpiresAt.Truncate(time.Second),
	}
	if said.IssuedAt != nil { // for Engine.Revoke(Revocation{Subject: ..., IssuedBefore: ...})
		auth.IssuedAt = said.IssuedAt.Time
	}
	if said.ID != "" { // for Engine.Revoke(Revocation{Attributes: ...}): this token alone
		auth.Attributes = map[string]string{"jti": said.ID}
	}
	return auth, nil
}

// ownersWithScope is engine.OwnerOnly, except that creating takes a scope.
func ownersWithScope(scope string) engine.OwnershipPolicy {
	owners, creators := engine.OwnerOnly(), engine.ScopeBased(map[engine.Access]string{engine.AccessCreate: scope})
	return engine.OwnershipFunc(func(ctx context.Context, auth engine.AuthContext, access engine.Access, task engine.Task) error {
		if access == engine.AccessCreate {
			return creators.Allow(ctx, auth, access, task)
		}
		return owners.Allow(ctx, auth, access, task)
	})
}
