package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/session"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// lifetime is how long somebody stays signed in.
const lifetime = 8 * time.Hour

// The keys of a session, and the attribute that names it to the engine.
const (
	keyUser    = "user"
	keySince   = "since"
	attribute  = "session"
	cookieName = "session_id"
)

// sessions signs people in and out.
type sessions struct {
	users map[string]string // passwords by name; a real host keeps hashes
	store *session.Store
	eng   *engine.Engine
}

func newSessions(users map[string]string, eng *engine.Engine) *sessions {
	return &sessions{users: users, eng: eng, store: session.New(session.Config{
		Expiration: lifetime,
		KeyLookup:  "cookie:" + cookieName,
		// The cookie goes out over TLS only, no script reads it, and no other
		// site's form or fetch carries it: that is what keeps the POST routes
		// from being forged. WebSockets are guarded by their Origin.
		CookieSecure:   true,
		CookieHTTPOnly: true,
		CookieSameSite: fiber.CookieSameSiteLaxMode,
	})}
}

func (s *sessions) login(c *fiber.Ctx) error {
	name, given := c.FormValue("name"), sha256.Sum256([]byte(c.FormValue("password")))
	password, known := s.users[name]
	wanted := sha256.Sum256([]byte(password))
	if subtle.ConstantTimeCompare(given[:], wanted[:]) != 1 || !known {
		return c.SendStatus(fiber.StatusUnauthorized)
	}
	sess, err := s.store.Get(c)
	if err != nil {
		return err
	}
	// A new id: one that was planted before must not become a signed-in one.
	if err := sess.Regenerate(); err != nil {
		return err
	}
	sess.Set(keyUser, name)
	sess.Set(keySince, time.Now().UnixMilli())
	if err := sess.Save(); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// streamsEnd is how long the revocation of a session holds. A destroyed session admits
// no request, so the revocation is only needed for streams that are open: in each process
// they end as soon as that process has read the revocation.
const streamsEnd = 15 * time.Minute

// logout destroys the session, then ends its open streams. If the revocation cannot be
// stored, the user is signed out all the same: the session is gone, and its streams in
// this process end. Streams in other processes end with their tasks. The engine logs
// that the revocation was not stored.
func (s *sessions) logout(c *fiber.Ctx) error {
	auth, err := s.authenticate(c)
	if err != nil {
		return c.SendStatus(fiber.StatusNoContent)
	}
	sess, err := s.store.Get(c)
	if err == nil {
		err = sess.Destroy()
	}
	_, _ = s.eng.Revoke(c.UserContext(), engine.Revocation{
		Subject: auth.Subject, Attributes: auth.Attributes, ExpiresAt: time.Now().Add(streamsEnd), Reason: "signed out",
	})
	if err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// authenticate is the bridge's: it sees the cookie of every request, the
// WebSocket's handshake included.
func (s *sessions) authenticate(c *fiber.Ctx) (engine.AuthContext, error) {
	if c.Cookies(cookieName) == "" { // or a session would be begun for nobody
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "sign in first")
	}
	sess, err := s.store.Get(c)
	if err != nil {
		return engine.AuthContext{}, engine.NewError(engine.CodeStoreUnavailable, "sessions cannot be read").WithCause(err)
	}
	user, _ := sess.Get(keyUser).(string)
	since, _ := sess.Get(keySince).(int64)
	if user == "" {
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "sign in first")
	}
	began := time.UnixMilli(since)
	return engine.AuthContext{
		Subject: user, IssuedAt: began, ExpiresAt: began.Add(lifetime),
		Attributes: map[string]string{attribute: nameOf(sess.ID())},
	}, nil
}

// nameOf stands for a session's id, which is a credential: what is revoked is
// stored, listed and logged.
func nameOf(id string) string {
	digest := sha256.Sum256([]byte(id))
	return hex.EncodeToString(digest[:16])
}
