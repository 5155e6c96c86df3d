package fiberbridge

import (
	"container/list"
	"maps"
	"slices"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// subject is what one caller has open, as long as it has anything. streams.mu
// guards it.
type subject struct {
	name           string
	streams, polls int
	unread         int64 // bytes of large answers that have not left yet
	// bodies counts those that are streamed, arriving their bytes.
	bodies   int
	arriving int64
	// auth is the credential that came last. Streams of the same one share it.
	auth *engine.AuthContext
	// idle are its sockets that have not subscribed, in the order of their
	// coming; nil if there are none.
	idle *list.List
}

// subject finds or makes the caller's. s.mu is held.
func (s *streams) subject(auth *engine.AuthContext) *subject {
	who := s.subjects[auth.Subject]
	if who == nil {
		who = &subject{name: auth.Subject}
		s.subjects[who.name] = who
	}
	return who
}

// forget drops a subject that has nothing left. s.mu is held.
func (s *streams) forget(who *subject) {
	if who.streams == 0 && who.polls == 0 && who.unread == 0 && who.bodies == 0 {
		delete(s.subjects, who.name)
	}
}

// share gives the credential for a stream to keep: the one that another stream
// of the caller keeps already, if they are equal.
func (t *ticket) share(auth *engine.AuthContext) *engine.AuthContext {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if known := t.who.auth; known != nil && sameAuth(known, auth) {
		return known
	}
	kept := *auth
	t.who.auth = &kept
	return &kept
}

func sameAuth(a, b *engine.AuthContext) bool {
	return a.Subject == b.Subject && a.AppID == b.AppID && slices.Equal(a.Scopes, b.Scopes) &&
		maps.Equal(a.Attributes, b.Attributes) && a.IssuedAt.Equal(b.IssuedAt) && a.ExpiresAt.Equal(b.ExpiresAt)
}
