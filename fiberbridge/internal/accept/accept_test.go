package accept

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const enough = 20 * time.Second

// server reads from each connection until its end, as a server does that waits
// for requests. Those whose first byte is 'w' it works for: it reads no more
// until the test's end, or, after 'k', keeps them.
type server struct {
	*Listener
	t       *testing.T
	closed  atomic.Int64
	waited  atomic.Int64
	open    atomic.Int64
	log     lockedBuffer
	working chan struct{}
}

func serve(t *testing.T, ln net.Listener, opts Options) *server {
	t.Helper()
	s := &server{t: t, working: make(chan struct{})}
	opts.Closed = func(n int64) { s.closed.Add(n) }
	opts.Waited = func() { s.waited.Add(1) }
	opts.Opened = func(n int64) { s.open.Add(n) }
	opts.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	s.Listener = New(ln, opts)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := s.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			wait.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = s.Close()
		close(s.working)
		for _, c := range s.snapshot() {
			_ = c.SetReadDeadline(time.Unix(1, 0))
		}
		wait.Wait()
		if n := s.open.Load(); n != 0 || s.Open() != 0 {
			t.Errorf("%d and %d connections are open at the end", n, s.Open())
		}
	})
	return s
}

func (s *server) snapshot() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Conn(nil), s.conns...)
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	p := make([]byte, 1)
	for {
		if _, err := conn.Read(p); err != nil {
			return
		}
		switch p[0] {
		case 'w':
			_, _ = conn.Write(p)
			<-s.working
			return
		case 'k':
			conn.(*Conn).Keep()
		}
		if _, err := conn.Write(p); err != nil {
			return
		}
	}
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// dial connects and, unless say is empty, sends it and waits for it to come
// back.
func (s *server) dial(say string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(enough))
	if say != "" {
		s.echo(conn, say)
	}
	return conn
}

func (s *server) echo(conn net.Conn, say string) {
	s.t.Helper()
	if _, err := io.WriteString(conn, say); err != nil {
		s.t.Fatal(err)
	}
	back := make([]byte, len(say))
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != say {
		s.t.Fatalf("%q, %v", back, err)
	}
}

func (s *server) until(what string, holds func() bool) {
	s.t.Helper()
	for end := time.Now().Add(enough); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not: %s; %s", what, s.log.String())
		}
	}
}

func over(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// The connection that has been idle for longest gives way; those that are at
// work, or kept, never do.
func TestLongestIdleGivesWay(t *testing.T) {
	s := serve(t, loopback(t), Options{Max: 7})
	working, kept := s.dial("w"), s.dial("k")
	idle := func(n int, say string) net.Conn {
		conn := s.dial(say)
		s.until("it waits, too", func() bool { return s.waiting() == n })
		return conn
	}
	first, second, third, silent := idle(1, "x"), idle(2, "x"), idle(3, "x"), idle(4, "")
	s.echo(first, "y") // not the longest idle any more
	s.until("it waits again", func() bool { return s.waiting() == 4 })
	next := s.dial("n")
	s.until("the longest idle is closed", func() bool { return over(second) })
	s.dial("n")
	s.until("then the next one", func() bool { return over(third) })
	s.dial("n")
	s.until("then the silent one", func() bool { return over(silent) })
	s.echo(kept, "still")
	s.echo(next, "here")
	if over(working) || over(first) {
		t.Error("one too many was closed")
	}
	if n := s.closed.Load(); n != 3 {
		t.Errorf("%d were closed", n)
	}
	if !strings.Contains(s.log.String(), "open=7 closed_idle=1") {
		t.Error(s.log.String())
	}
}

// waiting is how many connections wait in a read.
func (s *server) waiting() (n int) {
	for _, c := range s.snapshot() {
		if c.since.Load() > 0 {
			n++
		}
	}
	return n
}

// With all at work the next one waits its turn, and is served then.
func TestFullListenerWaits(t *testing.T) {
	s := serve(t, loopback(t), Options{Max: 2})
	a := s.dial("k")
	s.dial("k")
	late := s.dial("") // the kernel has it
	_, _ = io.WriteString(late, "l")
	s.until("it is noticed", func() bool { return s.waited.Load() > 0 })
	if s.Open() != 2 {
		t.Errorf("%d are open", s.Open())
	}
	a.Close()
	back := make([]byte, 1)
	if _, err := io.ReadFull(late, back); err != nil || back[0] != 'l' {
		t.Errorf("%q, %v", back, err)
	}
	s.until("that took a second", func() bool { return s.waited.Load() == 1 })
}

// A listener that waits can be closed.
func TestFullListenerCloses(t *testing.T) {
	s := serve(t, loopback(t), Options{Max: 1})
	s.dial("k")
	s.dial("")
	s.until("it is full", func() bool { return s.waited.Load() > 0 })
	// The cleanup closes it, and waits for Accept.
}

// Whatever takes the descriptors, connections give way from the ceiling on, and
// some are let in even so.
func TestCeilingCountsAllDescriptors(t *testing.T) {
	ln := loopback(t)
	var files []*os.File
	for range 50 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	s := serve(t, ln, Options{Ceiling: int(files[0].Fd()) + 1})
	for i := range 3 * least {
		s.dial("x")
		if n := s.Open(); n > least+1 {
			t.Errorf("%d connections are open after %d", n, i+1)
		}
	}
	if s.closed.Load() == 0 {
		t.Error("none was closed")
	}
}

// failing is a listener that is out of something for a while.
type failing struct {
	net.Listener
	errs chan error
}

func (f *failing) Accept() (net.Conn, error) {
	select {
	case err := <-f.errs:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", err)}
	default:
		return f.Listener.Accept()
	}
}

// What passes is waited for, and idle connections make room; the log says it
// once.
func TestOutOfDescriptorsPasses(t *testing.T) {
	f := &failing{Listener: loopback(t), errs: make(chan error, 8)}
	s := serve(t, f, Options{})
	idle := s.dial("x")
	s.until("it waits", func() bool { return s.waiting() == 1 })
	time.Sleep(grace)
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ECONNABORTED} {
		f.errs <- err
	}
	s.dial("x")
	s.until("it goes on", func() bool { return s.waited.Load() == 4 })
	s.dial("x")
	s.until("an idle one has given way", func() bool { return over(idle) })
	if n := strings.Count(s.log.String(), "could not be accepted"); n != 1 {
		t.Errorf("%d lines: %s", n, s.log.String())
	}
}

func TestBrokenListenerIsSaid(t *testing.T) {
	f := &failing{Listener: loopback(t), errs: make(chan error, 1)}
	f.errs <- syscall.EINVAL
	l := New(f, Options{})
	defer l.Close()
	if _, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
}

// Requests that come just as their connection is chosen are answered, or the
// connection is closed before: never is one read and then lost.
func TestNoRequestIsLost(t *testing.T) {
	s := serve(t, loopback(t), Options{Max: 4})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var wait sync.WaitGroup
	var answered, refused atomic.Int64
	for range 12 {
		wait.Go(func() {
			for ctx.Err() == nil {
				conn, err := net.Dial("tcp", s.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(enough))
				for range 20 {
					_, _ = conn.Write([]byte("a"))
					n, err := conn.Read(make([]byte, 1))
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("a request was lost")
					}
					if n == 0 {
						refused.Add(1)
						break
					}
					answered.Add(1)
					time.Sleep(grace + 2*time.Millisecond) // as a client that thinks
				}
				conn.Close()
			}
		})
	}
	wait.Wait()
	if answered.Load() < 20 {
		t.Errorf("%d answered, %d closed", answered.Load(), refused.Load())
	}
	t.Logf("%d answered, %d closed", answered.Load(), refused.Load())
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What counting and watching add to a read.
func BenchmarkRead(b *testing.B) {
	for _, name := range []string{"plain", "accepted"} {
		b.Run(name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			if name == "accepted" {
				ln = New(ln, Options{})
			}
			defer ln.Close()
			client, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			conn, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			p := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(conn, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A client that does not read its answer holds its connection no longer than one
// that sends no request, if the place is needed.
func TestStalledReaderGivesWay(t *testing.T) {
	t.Parallel()
	l := New(loopback(t), Options{Max: 2})
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	wrote := make(chan error, 1)
	go func() {
		defer conn.Close()
		for {
			if _, err := conn.Write(make([]byte, 1<<20)); err != nil {
				wrote <- err
				return
			}
		}
	}()
	var others sync.WaitGroup
	defer others.Wait()
	for range 2 { // one that fits beside it, and one that does not
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for range 2 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.(*Conn).Keep()
		others.Go(func() { _, _ = io.Copy(io.Discard, conn); conn.Close() })
	}
	select {
	case err := <-wrote:
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took < writeGrace {
			t.Errorf("%v after %v", err, took)
		}
	case <-time.After(enough):
		t.Error("it still writes")
	}
}
