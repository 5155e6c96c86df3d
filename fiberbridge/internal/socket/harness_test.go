package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds every wait for something that must happen, also on a machine
// that has much else to do.
const patience = time.Minute

// eachPath runs f on the fast path, where there is one, and the portable one.
func eachPath(t *testing.T, opt Options, f func(t *testing.T, g *Group)) {
	t.Helper()
	for _, path := range []struct {
		name    string
		disable bool
	}{{"fast", false}, {"portable", true}} {
		t.Run(path.name, func(t *testing.T) {
			opt := opt
			opt.DisableFastPath = path.disable
			g := newTestGroup(t, opt)
			if !path.disable && len(g.loops) == 0 {
				t.Skip("no fast path on this system")
			}
			f(t, g)
		})
	}
}

func newTestGroup(t *testing.T, opt Options) *Group {
	t.Helper()
	g, err := NewGroup(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeGroup(t, g) })
	return g
}

func closeGroup(t *testing.T, g *Group) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.Close(ctx); err != nil {
		t.Errorf("Group.Close: %v", err)
	}
	if n := g.Len(); n != 0 {
		t.Errorf("%d sockets are left after Group.Close", n)
	}
}

// tcpPair returns the two ends of a loopback connection.
func tcpPair(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return acceptPair(t, ln)
}

func acceptPair(t testing.TB, ln net.Listener) (server, client *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// recorder is a Handler that keeps what it hears, and fails the test if calls
// overlap or follow the last.
type recorder struct {
	t    testing.TB
	busy atomic.Int32

	mu       sync.Mutex
	changed  chan struct{} // closed and renewed with every call
	bytes    bytes.Buffer
	writable int
	err      error

	readable func(p []byte) // hooks, set before Adopt
	onWrite  func()
	onHangup func(err error)
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, changed: make(chan struct{})}
}

func (r *recorder) enter() func() {
	if r.busy.Add(1) != 1 {
		r.t.Error("calls of a Handler overlap")
	}
	r.mu.Lock()
	if r.err != nil {
		r.t.Error("a call followed Hangup")
	}
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
		r.busy.Add(-1)
	}
}

func (r *recorder) Readable(p []byte) {
	defer r.enter()()
	r.mu.Lock()
	r.bytes.Write(p)
	r.mu.Unlock()
	if r.readable != nil {
		r.readable(p)
	}
}

func (r *recorder) Writable() {
	defer r.enter()()
	r.mu.Lock()
	r.writable++
	r.mu.Unlock()
	if r.onWrite != nil {
		r.onWrite()
	}
}

func (r *recorder) Hangup(err error) {
	defer r.enter()()
	if r.onHangup != nil {
		r.onHangup(err)
	}
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
}

// quiet reports that ok did not become true for d.
func (r *recorder) quiet(d time.Duration, ok func() bool) bool {
	timeout := time.After(d)
	for {
		r.mu.Lock()
		done, changed := ok(), r.changed
		r.mu.Unlock()
		if done {
			return false
		}
		select {
		case <-changed:
		case <-timeout:
			return true
		}
	}
}

// wait blocks until ok, called with mu held, returns true.
func (r *recorder) wait(what string, ok func() bool) {
	r.t.Helper()
	if r.quiet(patience, ok) {
		r.t.Fatalf("waited in vain for %s", what)
	}
}

func (r *recorder) waitBytes(want string) {
	r.t.Helper()
	r.wait("bytes "+want, func() bool { return r.bytes.String() == want })
}

func (r *recorder) waitHangup() error {
	r.t.Helper()
	r.wait("Hangup", func() bool { return r.err != nil })
	return r.err
}

func (r *recorder) heard() (read string, writable int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.String(), r.writable, r.err
}

// adopt gives conn to g as the bridge does: if it can be taken over it is
// closed, else it is closed when the Socket is done.
func adopt(t testing.TB, g *Group, conn net.Conn, pending []byte, h Handler) *Socket {
	t.Helper()
	taken := g.CanTakeOver(conn)
	s, err := g.Adopt(conn, pending, h)
	if err != nil {
		t.Fatal(err)
	}
	if s.Taken() != taken {
		t.Fatalf("CanTakeOver said %v, Taken says %v", taken, s.Taken())
	}
	if taken {
		_ = conn.Close()
	}
	return s
}

func waitDone(t testing.TB, s *Socket) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("the socket is not done")
	}
}

// send writes all of p, waiting on r's Writable when the socket is full.
func send(t testing.TB, s *Socket, r *recorder, p []byte) {
	t.Helper()
	for len(p) > 0 {
		_, before, _ := r.heard()
		n, err := s.TryWrite(p)
		if err != nil {
			t.Fatal(err)
		}
		if p = p[n:]; len(p) > 0 {
			if n == 0 || s.Taken() {
				r.wait("Writable", func() bool { return r.writable > before })
			}
		}
	}
}

func mustRead(t testing.TB, c net.Conn, n int) []byte {
	t.Helper()
	buf := make([]byte, n)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatal(err)
	}
	return buf
}

// readEnd reads what is left and returns it with the error that ended it (nil
// for a FIN).
func readEnd(t testing.TB, c net.Conn) ([]byte, error) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Fatal("the peer was not told of the end")
	}
	return b, err
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

type nobody struct{}

func (nobody) Readable([]byte) {}
func (nobody) Writable()       {}
func (nobody) Hangup(error)    {}
