package socket

import (
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Options tune a Group. The zero value of each field is a default.
type Options struct {
	// Loops is the number of epoll loops. Defaults to GOMAXPROCS.
	Loops int
	// DisableFastPath serves every connection through net.Conn.
	DisableFastPath bool
	// NotSentBytes bounds what the kernel takes in beyond what it may send at
	// the moment (TCP_NOTSENT_LOWAT), and with that the memory that a stalled
	// reader holds: tens of kilobytes where it would be megabytes. Linux only.
	// Defaults to 16 KiB; negative leaves the system's setting.
	NotSentBytes int
	// KeepAlive, if enabled, is set on each TCP connection (also below TLS).
	// It finds peers that vanished while nothing is sent. Without it a
	// connection keeps what its listener gave it: Go's default takes 151 s.
	KeepAlive net.KeepAliveConfig
	// UserTimeout is the first SetUserTimeout of each socket. Zero leaves it
	// to the system.
	UserTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.Loops <= 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	if o.NotSentBytes == 0 {
		o.NotSentBytes = 16 << 10
	}
	return o
}

// Group serves sockets with a small fixed number of epoll loops. Make one with
// NewGroup; it is safe for concurrent use.
type Group struct {
	opt     Options
	open    atomic.Int64
	next    atomic.Uint32
	loops   []*loop
	lingers lingers
	wg      sync.WaitGroup // loops, and the goroutines of the portable path

	mu       sync.Mutex
	closed   bool                 // guarded by mu
	portable map[*Socket]struct{} // guarded by mu
	over     chan struct{}        // closed when wg is done; nil before Close
}

// NewGroup starts a group's loops. Close ends them. It fails if the system has
// no descriptors left.
func NewGroup(opt Options) (*Group, error) {
	g := &Group{opt: opt.withDefaults(), portable: map[*Socket]struct{}{}}
	g.lingers.start()
	if !g.opt.DisableFastPath {
		if err := g.startLoops(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// CanTakeOver reports whether Adopt would duplicate conn's descriptor, so that
// the caller must close conn itself and may return. If not, Adopt uses conn
// and the caller must keep it open until Socket.Done is closed, and close it
// then.
//
// A connection can be taken over on Linux if it is exactly a *net.TCPConn, or
// one inside fasthttp's wrappers: that of a hijacked connection (whose
// buffered bytes must be read first, and given to Adopt as pending) and the
// one that counts connections by address.
func (g *Group) CanTakeOver(conn net.Conn) bool {
	return len(g.loops) > 0 && plainTCP(conn) != nil
}

// Adopt begins to serve conn. pending are bytes that were read from it before;
// they are copied, and handed to Readable first. On an error conn is
// untouched and still the caller's: the process has no descriptor left, the
// connection is closed, or the group is (net.ErrClosed).
func (g *Group) Adopt(conn net.Conn, pending []byte, h Handler) (*Socket, error) {
	s := new(Socket)
	s.Handle(h)
	if err := g.AdoptInto(s, conn, pending); err != nil {
		return nil, err
	}
	return s, nil
}

// AdoptInto is Adopt for a Socket that is part of what handles it, which costs no
// allocation and nobody a pointer. It is a new one, given its Handler by Handle.
func (g *Group) AdoptInto(s *Socket, conn net.Conn, pending []byte) error {
	s.lingerAt = -1
	if tcp := plainTCP(conn); tcp != nil && len(g.loops) > 0 {
		l := g.loops[g.next.Add(1)%uint32(len(g.loops))]
		return l.adopt(s, tcp, pending)
	}
	return g.adoptPortable(s, conn, pending)
}

// Len is the number of open sockets.
func (g *Group) Len() int { return int(g.open.Load()) }

// Close closes every socket as Socket.Close does, one that is being closed
// gracefully once its last bytes are written, and waits for the loops and
// goroutines, or for ctx, whose error it then returns. It may be called again,
// but not from within a Handler.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		g.over = make(chan struct{})
		go func() { // ends with the last of those that it waits for
			g.wg.Wait()
			close(g.over)
		}()
	}
	rest := make([]*Socket, 0, len(g.portable))
	for s := range g.portable {
		rest = append(rest, s)
	}
	g.mu.Unlock()

	for _, s := range rest {
		// On the fast path what was accepted is the kernel's already.
		s.port.awaitFarewell(ctx, s)
		s.Close()
	}
	for _, l := range g.loops {
		l.close()
	}
	g.lingers.stop()
	select {
	case <-g.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// forget drops a portable socket that is over.
func (g *Group) forget(s *Socket) {
	g.mu.Lock()
	delete(g.portable, s)
	g.mu.Unlock()
}
