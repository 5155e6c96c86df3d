package main

import (
	"context"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// claims is what a token of this host says.
type claims struct {
	// Scope lists scopes, separated by blanks (RFC 8693, section 4.2).
	Scope string `json:"scope"`
	jwt.RegisteredClaims
}

// authFromToken returns the bridge's Config.Auth: it verifies the token of a
// request and maps it to the engine's AuthContext. ExpiresAt is what ends a
// stream when its token does. issuer and audience are what the token has to say
// in iss and aud: a secret or key pair that signs tokens for several services
// would otherwise make each of them good for all.
//
// The bridge calls it on each of its routes and answers a refusal as the protocol says,
// so no middleware is needed before them. Do not use middleware that lets a request with
// a bad token through: if the host's own routes are in the same group, they would be open
// to that request.
func authFromToken(secret []byte, issuer, audience string) fiberbridge.AuthContextResolver {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(),
		jwt.WithIssuer(issuer), jwt.WithAudience(audience))
	key := func(*jwt.Token) (any, error) { return secret, nil }
	return func(c *fiber.Ctx) (engine.AuthContext, error) {
		var said claims
		// No cause goes along: a parser's error may repeat what a token says.
		if _, err := parser.ParseWithClaims(tokenOf(c), &said, key); err != nil {
			return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "a valid token with an expiry, for this service, is required")
		}
		if said.Subject == "" {
			return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "the token names no subject")
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
}

// tokenOf returns the request's token, unverified: of the Authorization header,
// or of the query, since a browser's EventSource and WebSocket cannot set
// headers.
func tokenOf(c *fiber.Ctx) string {
	if scheme, token, ok := strings.Cut(c.Get(fiber.HeaderAuthorization), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return token
	}
	return c.Query("access_token")
}

// signedIn guards the host's own routes by the same tokens: a request without a valid
// token gets 401, and no handler behind it runs.
func signedIn(auth fiberbridge.AuthContextResolver) fiber.Handler {
	return func(c *fiber.Ctx) error {
		caller, err := auth(c)
		if err != nil {
			return fiber.ErrUnauthorized
		}
		c.Locals(callerKey{}, caller)
		return c.Next()
	}
}

// callerKey is where signedIn leaves who the caller is.
type callerKey struct{}

// me is a route of the host's own, which has nothing to do with tasks.
func me(c *fiber.Ctx) error {
	caller, ok := c.Locals(callerKey{}).(engine.AuthContext)
	if !ok { // mounted without signedIn
		return fiber.ErrUnauthorized
	}
	return c.JSON(fiber.Map{"subject": caller.Subject, "scopes": caller.Scopes})
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
