package fiberbridge

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var (
	errUnauthenticated = engine.NewError(engine.CodeAuthentication, "authentication is required")
	errCredentialsOld  = engine.NewError(engine.CodeAuthentication, "the credentials have expired")
	errCredentialsGone = engine.NewError(engine.CodeAuthentication, "the credentials have been revoked")
)

// authenticate asks the host who the request comes from. An empty subject, an
// expiry that has passed and revoked credentials are AUTHENTICATION_ERROR.
//
// The result holds nothing of the request: the host may well have taken a
// subject from c.Get or c.Params, whose memory fasthttp uses again.
func (b *Bridge) authenticate(c *fiber.Ctx) (engine.AuthContext, error) {
	auth, err := b.identify(c)
	if engine.CodeOf(err) == engine.CodeAuthentication {
		b.eng.Audit(c.UserContext(), engine.AuditEvent{
			Action: engine.AuditAuthenticationDenied, Subject: auth.Subject, Reason: withoutCredentials(c, err.Error()),
		})
		return engine.AuthContext{}, err
	}
	return auth, err
}

// identify is authenticate without the audit event. With an error it returns the
// subject that was refused, if the credentials name one.
func (b *Bridge) identify(c *fiber.Ctx) (engine.AuthContext, error) {
	auth, err := b.cfg.Auth(c)
	if err != nil {
		var e *engine.Error
		if errors.As(err, &e) {
			return engine.AuthContext{}, e
		}
		b.cfg.Logger.InfoContext(c.UserContext(), "authentication failed",
			slog.String("error", withoutCredentials(c, err.Error())))
		return engine.AuthContext{}, errUnauthenticated
	}
	switch {
	case auth.Subject == "":
		return engine.AuthContext{}, errUnauthenticated
	case !auth.ExpiresAt.IsZero() && !b.streams.deadlines.wall().Before(auth.ExpiresAt.Round(0)):
		return engine.AuthContext{Subject: strings.Clone(auth.Subject)}, errCredentialsOld
	case b.eng.Revoked(&auth, "") == engine.StandingRevoked:
		return engine.AuthContext{Subject: strings.Clone(auth.Subject)}, errCredentialsGone
	}
	return detach(auth), nil
}

// detach returns a deep copy.
func detach(auth engine.AuthContext) engine.AuthContext {
	auth.Subject = strings.Clone(auth.Subject)
	auth.AppID = strings.Clone(auth.AppID)
	auth.Scopes = slices.Clone(auth.Scopes)
	for i, s := range auth.Scopes {
		auth.Scopes[i] = strings.Clone(s)
	}
	attributes := maps.Clone(auth.Attributes)
	clear(attributes)
	for k, v := range auth.Attributes {
		attributes[strings.Clone(k)] = strings.Clone(v)
	}
	auth.Attributes = attributes
	return auth
}

// withoutCredentials is a host's error text without what it repeats of the
// request's credentials: token libraries like to quote what they could not read.
// Any word that the Authorization header, a cookie, another header that seems to
// carry a credential, or the query holds as well is taken out, in full or in part.
func withoutCredentials(c *fiber.Ctx, text string) string {
	given := credentialsOf(c)
	return eachWord(text, func(word string) bool { return len(word) >= shortestSecret && strings.Contains(given, word) })
}

// credentialsOf is all in the request that may be a credential, line by line.
func credentialsOf(c *fiber.Ctx) string {
	scheme, rest, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	if rest == "" { // no scheme, a bare token
		rest = scheme
	}
	credentials := []string{
		rest, c.Get(fiber.HeaderCookie),
		string(c.Request().URI().QueryString()), c.Context().QueryArgs().String(),
	}
	for _, value := range c.Context().QueryArgs().All() {
		credentials = append(credentials, string(value))
	}
	for name, value := range c.Request().Header.All() {
		if carriesCredential(string(name)) {
			credentials = append(credentials, string(value))
		}
	}
	return strings.Join(credentials, "\n")
}

// carriesCredential goes by a header's name: X-Api-Key, X-Auth-Token, and the
// one in which browsers' scripts bring a token to a WebSocket.
func carriesCredential(header string) bool {
	header = strings.ToLower(header)
	return header == "sec-websocket-protocol" || header != "authorization" &&
		slices.ContainsFunc([]string{"auth", "key", "secret", "token"}, func(part string) bool { return strings.Contains(header, part) })
}
