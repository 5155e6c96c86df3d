package main

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// maxSubject bounds a subject in bytes, maxExpiry is the end of the year 9999.
const (
	maxSubject = 255
	maxExpiry  = 253402300799
)

// authenticate believes whatever subject the caller names: it is a demo. A
// real host verifies a token here.
//
// The subject is in "Authorization: Bearer <subject>" or, for EventSource and
// WebSocket in browsers, which cannot set headers, in "?access_token=<subject>".
func authenticate(c *fiber.Ctx) (engine.AuthContext, error) {
	token, ok := bearer(c.Get(fiber.HeaderAuthorization))
	if !ok {
		token = c.Query("access_token")
	}
	return parseSubject(token)
}

// bearer returns the token of an Authorization header of the Bearer scheme.
func bearer(header string) (token string, ok bool) {
	scheme, token, found := strings.Cut(header, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// parseSubject reads "name" or "name;exp=<unix seconds>".
func parseSubject(token string) (engine.AuthContext, error) {
	// Fiber reuses the memory behind its strings after the handler; a subject
	// outlives it.
	name, rest, hasExpiry := strings.Cut(strings.Clone(token), ";")
	switch {
	case name == "":
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication,
			`say who you are: "Authorization: Bearer alice" or "?access_token=alice"`)
	case len(name) > maxSubject:
		return engine.AuthContext{}, engine.Errorf(engine.CodeAuthentication, "the subject is longer than %d bytes", maxSubject)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "the subject is not plain text")
	case !hasExpiry:
		return engine.AuthContext{Subject: name}, nil
	}
	seconds, found := strings.CutPrefix(rest, "exp=")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if !found || err != nil || unix <= 0 || unix > maxExpiry {
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication,
			`what follows the subject must be ";exp=<unix seconds>"`)
	}
	return engine.AuthContext{Subject: name, ExpiresAt: time.Unix(unix, 0)}, nil
}
