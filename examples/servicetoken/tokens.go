package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// services are those that may call, by the SHA-256 of their token: whoever reads
// the configuration has no token, and a lookup by digest tells nothing by its
// time. It is enough for random tokens of 128 bits and more; people's passwords
// need a slow hash.
type services map[[sha256.Size]byte]engine.AuthContext

// parseServices reads "name:digest:scope scope,name:digest:scope".
func parseServices(text string) (services, error) {
	known := services{}
	for entry := range strings.SplitSeq(text, ",") {
		parts := strings.SplitN(entry, ":", 3)
		if len(parts) != 3 || parts[0] == "" {
			return nil, errors.New("SERVICE_TOKENS must be name:digest:scopes, with commas between")
		}
		var digest [sha256.Size]byte
		sum, err := hex.DecodeString(parts[1])
		if err != nil || len(sum) != len(digest) {
			return nil, errors.New("SERVICE_TOKENS: " + parts[0] + " has no SHA-256 in hex")
		}
		copy(digest[:], sum)
		if _, twice := known[digest]; twice {
			return nil, errors.New("SERVICE_TOKENS: two services have one token")
		}
		known[digest] = engine.AuthContext{Subject: parts[0], AppID: parts[0], Scopes: strings.Fields(parts[2])}
	}
	return known, nil
}

// authenticate is the bridge's. Such tokens never expire: one that got lost is
// taken out of the configuration, and what it has open is ended with
// Engine.Revoke(Revocation{AppID: ...}).
func (s services) authenticate(c *fiber.Ctx) (engine.AuthContext, error) {
	scheme, token, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	auth, known := s[sha256.Sum256([]byte(token))]
	if !known || !strings.EqualFold(scheme, "Bearer") {
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "a service token is required")
	}
	return auth, nil
}
