// Package socket writes to, reads from and watches very many connections
// without a goroutine for each.
//
// On Linux a plain TCP connection is taken over by duplicating its descriptor:
// the original may then be closed by whoever served the upgrade, and epoll
// tells when the duplicate takes bytes, has some, or is gone. Everything else
// (TLS, in-memory pipes, other systems) is served through net.Conn by one
// goroutine that reads, and one that writes while there is something to write;
// Handler sees no difference.
//
// A descriptor number is never used after its close: every system call on it
// happens under the Socket's lock, and Close waits for that lock.
package socket

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Handler hears about one connection.
//
// Calls for one Socket never overlap. They come from the Group's goroutines,
// never from within a call of Adopt or of a Socket's method, so a Handler may
// hold a lock of its own around those; they may come before Adopt has
// returned. They must not block, and may call the Socket's methods, Close
// included.
//
// Bytes are handed over before the end that followed them. Hangup is the last
// call and comes at most once. No call begins after Close or CloseGracefully,
// other than one that the Group had already decided on in that instant; once
// Socket.Done is closed none is under way and none follows.
type Handler interface {
	// Readable hands over bytes that the peer sent. p is valid during the call
	// only, and may be changed.
	Readable(p []byte)
	// Writable tells that a Socket that was full takes bytes again. It may be
	// a false alarm.
	Writable()
	// Hangup is the last call: the peer closed or half-closed (io.EOF), or
	// reset or lost the connection (the system's error; on the portable path a
	// reset that a write runs into may be read as io.EOF). Within it TryWrite
	// and CloseGracefully still reach a peer that half-closed; when it returns
	// without the latter, the Socket is closed.
	Hangup(err error)
}

// Socket is one connection, once a Group has adopted it. From then on its methods
// may be called from any goroutine. It must not be copied.
//
// There are very many: the order of the fields keeps it at 64 bytes.
type Socket struct {
	h    Handler
	port *portable // nil on the fast path

	mu    sync.Mutex
	done  chan struct{} // guarded by mu; nil until somebody asks for it
	fast  fast          // guarded by mu
	state state         // guarded by mu
	// failed is the number of the error that a write met on the fast path,
	// guarded by mu. A socket tells an error once, and the end that is read
	// afterwards looks like a FIN.
	failed uint16

	lingerAt int32 // place in Group.lingers, guarded by its lock
}

// Handle names the Handler of a Socket that is given to Group.AdoptInto
// afterwards, before anybody else knows it.
func (s *Socket) Handle(h Handler) { s.h = h }

// Handler is the one that hears about s.
func (s *Socket) Handler() Handler { return s.h }

// group is the one that serves s.
func (s *Socket) group() *Group {
	if s.port != nil {
		return s.port.g
	}
	return s.fast.group()
}

// state is a set of flags.
type state uint16

const (
	// full: a write was cut short and Writable is owed.
	full state = 1 << iota
	// calling: a Handler's method runs or is about to.
	calling
	// ended: the peer's end was read; nothing will come any more.
	ended
	// draining: CloseGracefully was called; what comes is thrown away.
	draining
	// closed: the connection is closed, as far as it is ours to close.
	closed
	// quiet: closed, and no Handler call is or will be under way.
	quiet
	// queued: the loop has it on its list of those with more to read.
	queued
	// paused: what the peer sends is not read.
	paused
	// unread: some may be there that no further event will tell of.
	unread
	// left: an event has told that the connection is at its end, or half of it.
	left
)

// alwaysClosed is what Done returns once there is nothing to wait for.
var alwaysClosed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// TryWrite writes what fits without waiting. n < len(p) with a nil error means
// full: Handler.Writable follows (at once if there is room again by then). p
// must not be changed before it is written; on the portable path it may be
// kept until then.
//
// After Close or CloseGracefully the error is net.ErrClosed. Any other error
// is the connection's end, and Handler.Hangup follows with it.
func (s *Socket) TryWrite(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state&(closed|draining) != 0 {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if s.port != nil {
		return s.port.tryWrite(s, p)
	}
	return s.fastWrite(p)
}

// SetUserTimeout bounds how long sent bytes may stay unacknowledged
// (TCP_USER_TIMEOUT; see tcp(7)), to the millisecond; 0 leaves it to the
// system. It covers a window that stays shut as well, so it is also how long a
// peer may take nothing at all. It says nothing about an idle connection: see
// Options.KeepAlive. Where the option does not exist (other systems, in-memory
// connections) it bounds one write.
func (s *Socket) SetUserTimeout(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state&closed != 0 {
		return
	}
	if s.port != nil {
		s.port.setUserTimeout(d)
		return
	}
	s.fastUserTimeout(d)
}

// Backlog is how many written bytes the peer has not acknowledged yet. ok is
// false where the system does not tell, and on the portable path.
func (s *Socket) Backlog() (n int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state&closed != 0 || s.port != nil {
		return 0, false
	}
	return s.fastBacklog()
}

// CloseGracefully sends a FIN after what was written, and closes when the peer
// closes too or after linger, throwing away what it still sends: closing at
// once would turn unread bytes into a reset that destroys what is in flight.
// The Handler hears no more; Done tells the end. Calling it again changes
// nothing; Close cuts it short.
func (s *Socket) CloseGracefully(linger time.Duration) {
	s.mu.Lock()
	if s.state&(closed|draining) != 0 {
		s.mu.Unlock()
		return
	}
	s.state |= draining
	s.state &^= full
	s.unpause()
	if s.port != nil {
		s.port.finish(s)
	} else {
		s.fastFinish()
	}
	switch {
	case s.state&closed != 0:
	case linger <= 0:
		s.closeLocked()
	default:
		s.group().lingers.add(s, linger) // under mu, so that no close comes between
	}
	s.mu.Unlock()
}

// Close closes at once: the peer sees a FIN, or a reset if it had sent what
// was not read. It may be called again.
func (s *Socket) Close() {
	s.mu.Lock()
	s.closeLocked()
	s.mu.Unlock()
}

// Done is closed when the connection is, and the last call to the Handler has
// returned.
func (s *Socket) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state&quiet != 0 {
		return alwaysClosed
	}
	if s.done == nil {
		s.done = make(chan struct{})
	}
	return s.done
}

// Taken reports whether the socket is served by epoll (the fast path).
func (s *Socket) Taken() bool { return s.port == nil }

// closeLocked closes the connection, once.
func (s *Socket) closeLocked() {
	if s.state&closed != 0 {
		return
	}
	s.state |= closed
	s.unpause()
	if s.state&draining != 0 {
		s.group().lingers.remove(s)
	}
	if s.port != nil {
		s.port.close(s)
	} else {
		s.fastClose()
	}
	s.group().open.Add(-1)
	s.settle()
}

// settle closes Done if nothing is left to wait for. Called with mu held after
// each step that may have been the last.
func (s *Socket) settle() {
	if s.state&(closed|calling|quiet) != closed || s.port != nil && s.port.running > 0 {
		return
	}
	s.state |= quiet
	if s.port != nil {
		s.port.g.forget(s)
	}
	if s.done != nil {
		close(s.done)
	}
}

// call runs f, a Handler's method, with mu released. Called with mu held.
func (s *Socket) call(f func()) {
	s.state |= calling
	s.mu.Unlock()
	f()
	s.mu.Lock()
	s.state &^= calling
	s.settle()
}

// hangup tells the Handler of the end, unless it wants to hear no more, and
// closes. Called with mu held, by whoever makes the Handler's calls.
func (s *Socket) hangup(err error) {
	s.state |= ended
	switch {
	case s.state&(closed|draining) == 0:
		s.state &^= full
		s.call(func() { s.h.Hangup(err) })
		if s.state&draining == 0 { // else CloseGracefully has closed, or will
			s.closeLocked()
		}
	case s.port != nil && s.port.writing && errors.Is(err, io.EOF):
		// The peer only half-closed: what was accepted still goes out, and the
		// writer closes.
	default:
		s.closeLocked()
	}
}
