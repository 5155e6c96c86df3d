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
	// sock is not to be used before it is adopted. Its handler is the transport's
	// stream, which this one is part of; see self.
	sock socket.Socket
	s    *streams
	// outlet is set before anyone else sees the stream.
	outlet *fanout.Outlet
	// auth is who subscribed. It is shared and never changed.
	auth *engine.AuthContext
	who  *subject // streams.mu guards it; nil before enter
	// recheckAt is when the policy is to be asked again; zero is never. The
	// sweeper's.
	recheckAt instant

	mu sync.Mutex
	// until is when the stream reaches its maximum age, zero is never; when it is
	// ending, when that is cut short. mu guards it.
	until instant

	place int32    // streams.mu guards it; -1 is no subscriber
	slot  deadline // deadlines.mu guards it
	flags streamFlags

	// mu guards what follows.

	// ending says that the end was decided.
	ending bool
	// hasty says that somebody waits for the place: no end is waited for.
	hasty bool
	// over says that the socket was let go of, or will be as it comes.
	over, gracefully bool
}

// streamFlags are what is asked about a stream without its mutex.
type streamFlags struct{ bits atomic.Uint32 }

const (
	// adopted: there is a socket.
	adopted = 1 << iota
	// parked: the socket is full.
	parked
	// asked: the policy is being asked, or will be soon.
	asked
	// held: the socket is paused, since its client is ahead of us.
	held
)

func (f *streamFlags) has(flag uint32) bool { return f.bits.Load()&flag != 0 }

// set sets the flag and reports whether it was set before.
func (f *streamFlags) set(flag uint32) (was bool) { return f.bits.Or(flag)&flag != 0 }

func (f *streamFlags) clear(flag uint32) { f.bits.And(^flag) }

// init fills in what does not depend on the transport.
func (st *stream) init(s *streams, self subscriber, auth *engine.AuthContext) {
	st.sock.Handle(self)
	st.s, st.place, st.auth = s, -1, auth
	st.recheckAt = s.recheck.first(self.heartbeat())
	if age := s.cfg.Streams.MaxAge; age > 0 {
		st.until = s.deadlines.now() + instant(age-jitter(age/10))
	}
}

// self is the transport's stream.
func (st *stream) self() subscriber { return st.sock.Handler().(subscriber) }

// quick is how long sent bytes may stay unacknowledged while the peer takes
// what it gets: a vanished one is noticed by then. That is within two
// heartbeats: the kernel counts from the first retransmission, and looks at the
// next ones only.
func (st *stream) quick() time.Duration {
	heartbeat := st.self().heartbeat()
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
			st.s.leave(st.self())
			panic(r)
		}
	}()
	if err := st.s.group.AdoptInto(&st.sock, h.conn, h.pending()); err != nil {
		st.outlet.Gone()
		st.letGo(false)
		st.s.leave(st.self())
		return err
	}
	st.sock.SetUserTimeout(st.quick())
	st.mu.Lock()
	st.flags.set(adopted)
	over, gracefully, linger := st.over, st.gracefully, st.linger()
	st.mu.Unlock()
	if over { // before there was a socket to let go of, or a place to leave
		st.release(gracefully, linger)
		st.s.leave(st.self())
	} else {
		st.outlet.Writable()
		self := st.self()
		if at := self.check(st.s.deadlines.now(), st.s.deadlines.wall()); at > 0 {
			st.s.deadlines.set(self, at)
		}
		// A revocation that came after it was admitted, and before it could be
		// found among the others.
		self.standing(context.Background(), false)
	}
	if !st.sock.Taken() {
		<-st.sock.Done()
	}
	return nil
}

// Backlog is fanout.Backlogged's.
func (st *stream) Backlog() (n int, ok bool) {
	if !st.flags.has(adopted) {
		return 0, false
	}
	return st.sock.Backlog()
}

// TryWrite is fanout.Sink's.
func (st *stream) TryWrite(p []byte) (int, error) {
	if !st.flags.has(adopted) { // adopt calls Writable
		return 0, nil
	}
	n, err := st.sock.TryWrite(p)
	if err != nil {
		return n, err
	}
	switch full := n < len(p); {
	case full == st.flags.has(parked):
	case full:
		st.flags.set(parked)
		// Whether a slow reader takes anything, the outlet sees. The kernel
		// does not: a window that opens by less than the segment at the
		// head of its queue is a shut one to TCP_USER_TIMEOUT.
		st.sock.SetUserTimeout(0)
	default:
		st.flags.clear(parked)
		st.sock.SetUserTimeout(st.quick())
		st.self().resumed()
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
	st.until = st.s.deadlines.now() + instant(limit)
	st.s.deadlines.set(st.self(), st.until)
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
	open, linger := st.flags.has(adopted), st.linger()
	st.mu.Unlock()
	if open {
		st.release(gracefully, linger)
		st.s.leave(st.self())
	}
}

// checkLife ends a stream whose time is over: a credential that expired, the
// maximum age, or an end that takes too long. It returns when to look again.
func (st *stream) checkLife(now instant, wall time.Time, expired func()) instant {
	st.mu.Lock()
	over, ending, until := st.over, st.ending, st.until
	st.mu.Unlock()
	switch {
	case over:
		return 0
	case ending && now >= until:
		st.cut()
		return 0
	case ending:
		return until
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
	if until > 0 {
		if now >= until {
			st.self().endFor(closingMaxAge, st.s.retryAfter())
			return now + instant(farewellTime)
		}
		next = sooner(next, until)
	}
	if st.recheckAt > 0 {
		if now >= st.recheckAt {
			st.recheckAt = st.s.recheck.again(st, now)
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

// release closes the socket.
func (st *stream) release(gracefully bool, linger time.Duration) {
	if gracefully {
		st.sock.CloseGracefully(linger)
	} else {
		st.sock.Close()
	}
}

// sooner returns the earlier of two instants, of which zero is never.
func sooner(a, b instant) instant {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
