// Package socket writes to, reads from and watches very many connections
// without a goroutine for each.
//
// On Linux a plain TCP connection is taken over by duplicating its descriptor:
// the original may then be closed by whoever served the upgrade, and epoll
// tells when the duplicate takes bytes, has some, or is gone. Everything else
// (TLS, in-memory pipes, other systems) is served through net.Conn by two
// goroutines; Handler sees no difference.
//
// A descriptor number is never used after its close: every system call on it
// happens under the Socket's lock, and Close waits for that lock.
package socket

import (
	"context"
	"net"
	"time"
)

// Handler hears about one connection. Calls for one Socket never overlap, may
// come before Adopt has returned, and must not block; they may call the
// Socket's methods.
type Handler interface {
	// Readable hands over bytes that the peer sent. p is valid during the call
	// only.
	Readable(p []byte)
	// Writable tells that a Socket that was full takes bytes again.
	Writable()
	// Hangup is the last call: the peer closed or half-closed or reset the
	// connection (err tells, io.EOF for a FIN). It is not made after Close.
	Hangup(err error)
}

// Group serves sockets with a small fixed number of epoll loops.
type Group struct{}

// Options tune a Group.
type Options struct {
	// Loops is the number of epoll loops. Defaults to GOMAXPROCS.
	Loops int
	// DisableFastPath serves every connection through net.Conn.
	DisableFastPath bool
}

// NewGroup starts a group's loops. Close ends them.
func NewGroup(opt Options) (*Group, error) { panic("unwritten") }

// CanTakeOver reports whether Adopt would duplicate conn's descriptor, so that
// the caller must close conn itself and may return. If not, Adopt uses conn and
// the caller must keep it open until Socket.Done is closed.
func (g *Group) CanTakeOver(conn net.Conn) bool { panic("unwritten") }

// Adopt begins to serve conn. pending are bytes that were read from it before;
// they are handed to Readable first.
func (g *Group) Adopt(conn net.Conn, pending []byte, h Handler) (*Socket, error) { panic("unwritten") }

// Len is the number of open sockets.
func (g *Group) Len() int { panic("unwritten") }

// Close closes every socket and waits for the loops and goroutines, or for ctx.
func (g *Group) Close(ctx context.Context) error { panic("unwritten") }

// Socket is one connection. Its methods may be called from any goroutine.
type Socket struct{}

// TryWrite writes what fits without waiting. n < len(p) with a nil error means
// full: Handler.Writable follows. p must not be changed before it is written;
// on the portable path it may be kept until then.
func (s *Socket) TryWrite(p []byte) (n int, err error) { panic("unwritten") }

// SetUserTimeout bounds how long sent bytes may stay unacknowledged
// (TCP_USER_TIMEOUT; see tcp(7)). Where that does not exist it bounds one
// write. It covers a window that stays shut as well.
func (s *Socket) SetUserTimeout(d time.Duration) { panic("unwritten") }

// CloseGracefully sends a FIN after what was written, and closes when the peer
// closes too or after linger, throwing away what it still sends: closing at
// once would turn unread bytes into a reset that destroys what is in flight.
func (s *Socket) CloseGracefully(linger time.Duration) { panic("unwritten") }

// Close closes at once. It may be called again.
func (s *Socket) Close() { panic("unwritten") }

// Done is closed when the connection is.
func (s *Socket) Done() <-chan struct{} { panic("unwritten") }

// Taken reports whether the socket is served by epoll (the fast path).
func (s *Socket) Taken() bool { panic("unwritten") }
