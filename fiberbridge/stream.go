package fiberbridge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/socket"
)

// The transports' names in metrics.
const (
	transportSSE       = "sse"
	transportWebSocket = "websocket"
)

// stream is what SSE and WebSocket streams share: a socket that an outlet
// writes to, a place among the bridge's streams, and a life that ends.
//
// It ends in two steps. Somebody decides (beginEnd) and gives the outlet a
// farewell; when the outlet is over it lets go of the socket (letGo). A peer
// that goes away skips the first.
type stream struct {
	s    *streams
	self subscriber
	// outlet is set before anyone else sees the stream.
	outlet *fanout.Outlet
	// auth is who subscribed. It is shared and never changed.
	auth *engine.AuthContext
	// oldAt is when the stream reaches its maximum age, recheckAt when the
	// policy is to be asked again; zero is never.
	oldAt, recheckAt instant

	sock atomic.Pointer[socket.Socket]
	// parked says that the socket is full.
	parked atomic.Bool
	// asked says that the policy is being asked, or will be soon.
	asked atomic.Bool

	who  *subject // streams.mu guards it; nil before enter
	slot deadline // deadlines.mu guards it

	mu    sync.Mutex
	endBy instant // when an end that was decided is cut short
	place int32   // streams.mu guards it; -1 is no subscriber
	// ending says that the end was decided.
	ending bool
	// hasty says that somebody waits for the place: no end is waited for.
	hasty bool
	// over says that the socket was let go of, or will be as it comes.
	over, gracefully bool
}

// init fills in what does not depend on the transport.
func (st *stream) init(s *streams, self subscriber, auth *engine.AuthContext) {
	st.s, st.self, st.place, st.auth = s, self, -1, auth
	st.recheckAt = s.recheck.first(self.heartbeat())
	if age := s.cfg.Streams.MaxAge; age > 0 {
		st.oldAt = s.deadlines.now() + instant(age-jitter(age/10))
	}
}

// quick is how long sent bytes may stay unacknowledged while the peer takes
// what it gets: a vanished one is noticed by then. That is within two
// heartbeats: the kernel counts from the first retransmission, and looks at the
// next ones only.
func (st *stream) quick() time.Duration {
	heartbeat := st.self.heartbeat()
	if quick := max(heartbeat-heartbeat/5-250*time.Millisecond, heartbeat/2); quick > 0 {
		return quick
	}
	return st.s.cfg.Streams.WriteTimeout
}

func (st *stream) base() *stream       { return st }
func (st *stream) deadline() *deadline { return &st.slot }

// adopt gives the stream its connection. On an error the connection is still
// the caller's and nothing was written to it.
func (st *stream) adopt(h *handover) error {
	defer func() {
		if r := recover(); r != nil { // in a net.Conn of the host's
			st.cut()
			st.s.leave(st.self)
			panic(r)
		}
	}()
	sock, err := st.s.group.Adopt(h.conn, h.pending(), st.self)
	if err != nil {
		st.outlet.Gone()
		st.letGo(false)
		st.s.leave(st.self)
		return err
	}
	sock.SetUserTimeout(st.quick())
	st.mu.Lock()
	st.sock.Store(sock)
	over, gracefully, linger := st.over, st.gracefully, st.linger()
	st.mu.Unlock()
	if over { // before there was a socket to let go of, or a place to leave
		release(sock, gracefully, linger)
		st.s.leave(st.self)
	} else {
		st.outlet.Writable()
		if at := st.self.check(st.s.deadlines.now(), st.s.deadlines.wall()); at > 0 {
			st.s.deadlines.set(st.self, at)
		}
		// A revocation that came after it was admitted, and before it could be
		// found among the others.
		st.self.standing(context.Background(), false)
	}
	if !sock.Taken() {
		<-sock.Done()
	}
	return nil
}

// Backlog is fanout.Backlogged's.
func (st *stream) Backlog() (n int, ok bool) {
	sock := st.sock.Load()
	if sock == nil {
		return 0, false
	}
	return sock.Backlog()
}

// TryWrite is fanout.Sink's.
func (st *stream) TryWrite(p []byte) (int, error) {
	sock := st.sock.Load()
	if sock == nil { // adopt calls Writable
		return 0, nil
	}
	n, err := sock.TryWrite(p)
	if err != nil {
		return n, err
	}
	if full := n < len(p); full != st.parked.Load() {
		st.parked.Store(full)
		if full {
			// Whether a slow reader takes anything, the outlet sees. The kernel
			// does not: a window that opens by less than the segment at the
			// head of its queue is a shut one to TCP_USER_TIMEOUT.
			sock.SetUserTimeout(0)
		} else {
			sock.SetUserTimeout(st.quick())
			st.self.resumed()
		}
	}
	return n, nil
}

// beginEnd decides that the stream ends. It reports false if that was decided
// before. limit is how long the rest may take.
func (st *stream) beginEnd(limit time.Duration) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.beginEndLocked(limit)
}

func (st *stream) beginEndLocked(limit time.Duration) bool {
	if st.ending || st.over {
		return false
	}
	st.ending = true
	st.endBy = st.s.deadlines.now() + instant(limit)
	st.s.deadlines.set(st.self, st.endBy)
	return true
}

// cut ends the stream as it stands.
func (st *stream) cut() {
	st.outlet.Gone()
	st.letGo(false)
}

// letGo closes the socket, after what was written if gracefully, and gives the
// stream's place back. Only the first call counts.
func (st *stream) letGo(gracefully bool) {
	st.mu.Lock()
	if st.over {
		st.mu.Unlock()
		return
	}
	st.over, st.gracefully = true, gracefully
	sock, linger := st.sock.Load(), st.linger()
	st.mu.Unlock()
	if sock != nil {
		release(sock, gracefully, linger)
		st.s.leave(st.self)
	}
}

// checkLife ends a stream whose time is over: a credential that expired, the
// maximum age, or an end that takes too long. It returns when to look again.
func (st *stream) checkLife(now instant, wall time.Time, expired func()) instant {
	st.mu.Lock()
	over, ending, endBy := st.over, st.ending, st.endBy
	st.mu.Unlock()
	switch {
	case over:
		return 0
	case ending && now >= endBy:
		st.cut()
		return 0
	case ending:
		return endBy
	}
	var next instant
	if expires := st.auth.ExpiresAt; !expires.IsZero() {
		left := expires.Round(0).Sub(wall) // a monotonic reading would not see the wall clock jump
		if left <= 0 {
			expired()
			return now + instant(farewellTime)
		}
		next = now + instant(min(left, 24*time.Hour))
	}
	if st.oldAt > 0 {
		if now >= st.oldAt {
			st.self.endFor(closingMaxAge, st.s.retryAfter())
			return now + instant(farewellTime)
		}
		next = sooner(next, st.oldAt)
	}
	if st.recheckAt > 0 {
		if now >= st.recheckAt {
			st.recheckAt = st.s.recheck.again(st.self, now)
		}
		next = sooner(next, st.recheckAt)
	}
	return next
}

// linger is how long the connection waits for the peer's FIN. mu is held.
func (st *stream) linger() time.Duration {
	if st.hasty {
		return hastyLinger
	}
	return lingerTime
}

// release closes sock.
func release(sock *socket.Socket, gracefully bool, linger time.Duration) {
	if gracefully {
		sock.CloseGracefully(linger)
	} else {
		sock.Close()
	}
}

// sooner returns the earlier of two instants, of which zero is never.
func sooner(a, b instant) instant {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
