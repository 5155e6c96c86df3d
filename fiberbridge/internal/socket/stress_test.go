package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func scaled(n int) int {
	if raceEnabled || testing.Short() {
		return n / 5
	}
	return n
}

// A writer that goes on only when Writable says so never waits in vain,
// however the reader's pace falls.
func TestNoLostWakeUp(t *testing.T) {
	eachPath(t, Options{Loops: 2}, func(t *testing.T, g *Group) {
		var wg sync.WaitGroup
		for i := range 8 {
			server, client := tcpPair(t)
			_ = client.SetReadBuffer(256 << 10)
			total := scaled(20 << 20)
			w := &pacedWriter{t: t, block: make([]byte, 40<<10), total: total, done: make(chan struct{})}
			s := adopt(t, g, server, nil, w)
			w.start(s)
			wg.Add(1)
			go func() {
				defer wg.Done()
				rng := rand.New(rand.NewPCG(uint64(i), 7))
				buf := make([]byte, 128<<10)
				_ = client.SetReadDeadline(time.Now().Add(6 * patience))
				for got := 0; got < total; {
					n, err := client.Read(buf[:1+rng.IntN(len(buf))])
					if err != nil {
						t.Errorf("after %d of %d bytes: %v", got, total, err)
						return
					}
					for _, b := range buf[:n] {
						if b != byte(got) {
							t.Errorf("byte %d is %d", got, b)
							return
						}
						got++
					}
					if rng.IntN(8) == 0 {
						runtime.Gosched()
					}
				}
				<-w.done
				s.Close()
				waitDone(t, s)
			}()
		}
		wg.Wait()
	})
}

// pacedWriter writes total bytes that count up, from whichever goroutine is
// told that there is room: the starter and the loop may meet.
type pacedWriter struct {
	t     *testing.T
	done  chan struct{}
	total int

	mu    sync.Mutex
	s     *Socket
	block []byte
	sent  int
}

func (w *pacedWriter) start(s *Socket) {
	w.mu.Lock()
	w.s = s
	w.write()
	w.mu.Unlock()
}

func (w *pacedWriter) write() {
	for w.sent < w.total {
		want := min(len(w.block), w.total-w.sent)
		b := make([]byte, want)
		for i := range b {
			b[i] = byte(w.sent + i)
		}
		n, err := w.s.TryWrite(b)
		if err != nil {
			w.t.Errorf("TryWrite: %v", err)
			return
		}
		if w.sent += n; n < want {
			return
		}
	}
	select {
	case <-w.done:
	default:
		close(w.done)
	}
}

func (w *pacedWriter) Writable() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.s != nil {
		w.write()
	}
}
func (w *pacedWriter) Readable([]byte) {}
func (w *pacedWriter) Hangup(error)    {}

// Bytes that come and room for bytes are told one after the other, though two
// goroutines may find out at once.
func TestCallsNeverOverlap(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		h := &slowHandler{quietHandler: quietHandler{t: t}}
		s := adopt(t, g, server, nil, h)
		go func() { _, _ = io.Copy(io.Discard, client) }()
		go func() {
			for {
				if _, err := client.Write([]byte("more")); err != nil {
					return
				}
			}
		}()
		block := make([]byte, 64<<10)
		until(t, "calls of both kinds", func() bool {
			for range 20 {
				if _, err := s.TryWrite(block); err != nil {
					t.Fatal(err)
				}
			}
			return h.readable.Load() > 300 && h.writable.Load() > 30
		})
		s.Close()
		waitDone(t, s)
	})
}

// slowHandler stays in its calls long enough to meet another.
type slowHandler struct {
	quietHandler
	readable, writable atomic.Int64
}

func (h *slowHandler) call() {
	if h.running.Add(1) != 1 {
		h.t.Error("calls overlap")
	}
	runtime.Gosched()
	h.running.Add(-1)
}

func (h *slowHandler) Readable([]byte) { h.call(); h.readable.Add(1) }
func (h *slowHandler) Writable()       { h.call(); h.writable.Add(1) }

// Sockets close and their numbers are used again while others write: what a
// peer reads is its own connection's, and nothing else.
func TestChurn(t *testing.T) {
	eachPath(t, Options{Loops: 2}, func(t *testing.T, g *Group) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		var (
			writers, clients sync.WaitGroup
			checked          atomic.Int64
			names            atomic.Uint64
		)
		const parallel = 8
		each := scaled(800)
		for range parallel {
			clients.Add(1)
			go func() {
				defer clients.Done()
				for i := range each {
					c, err := net.Dial("tcp", ln.Addr().String())
					if err != nil {
						t.Error(err)
						return
					}
					checked.Add(checkStranger(t, c, i%5 == 0))
				}
			}()
		}
		for i := range parallel * each {
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			name := binary.BigEndian.AppendUint64(nil, names.Add(1))
			r := &quietHandler{t: t}
			s := adopt(t, g, conn, nil, r)
			// Two goroutines write while a third closes; they keep writing to
			// the closed socket, whose number is somebody else's by then.
			for range 2 {
				writers.Add(1)
				go func() {
					defer writers.Done()
					for range 30 {
						_, _ = s.TryWrite(name)
						s.SetUserTimeout(time.Minute)
					}
				}()
			}
			writers.Add(1)
			go func() {
				defer writers.Done()
				for range i % 7 {
					runtime.Gosched()
				}
				if i%4 == 0 {
					s.CloseGracefully(50 * time.Millisecond)
				} else {
					s.Close()
				}
				waitDone(t, s)
				_ = conn.Close() // the portable path's owner
				for range 30 {
					_, _ = s.TryWrite(name)
				}
			}()
		}
		clients.Wait()
		writers.Wait()
		if n := g.Len(); n != 0 {
			t.Fatalf("Len is %d", n)
		}
		t.Logf("%d bytes checked", checked.Load())
	})
}

// checkStranger reads a connection to its end: one name, over and over, maybe
// cut off.
func checkStranger(t *testing.T, c net.Conn, early bool) int64 {
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(6 * patience))
	if early {
		_ = c.(*net.TCPConn).SetLinger(0)
		buf := make([]byte, 8)
		n, _ := c.Read(buf)
		return int64(n)
	}
	b, err := io.ReadAll(c)
	if isTimeout(err) {
		t.Error("a connection was not closed")
	}
	total := int64(len(b))
	for name := []byte(nil); len(b) >= 8; b = b[8:] {
		if name == nil {
			name = b[:8]
		}
		if !bytes.Equal(b[:8], name) {
			t.Errorf("connection %x reads %x", name, b[:8])
			break
		}
	}
	return total
}

// Connections that come and go leave nothing behind.
func TestComeAndGo(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		descriptors, goroutines := countDescriptors(t), runtime.NumGoroutine()
		const n = 1000
		var clients []net.Conn
		var sockets []*Socket
		var handlers []*recorder
		for range n {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			r := newRecorder(t)
			s := adopt(t, g, conn, nil, r)
			if !s.Taken() {
				go func() { <-s.Done(); _ = conn.Close() }()
			}
			clients, sockets, handlers = append(clients, c), append(sockets, s), append(handlers, r)
		}
		if g.Len() != n {
			t.Fatalf("Len is %d", g.Len())
		}
		for i, c := range clients {
			if i%2 == 0 {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			_ = c.Close()
		}
		for i, s := range sockets {
			waitDone(t, s)
			err := handlers[i].waitHangup()
			if wantEOF := i%2 == 1; wantEOF != errors.Is(err, io.EOF) {
				t.Fatalf("Hangup %d says %v", i, err)
			}
		}
		if g.Len() != 0 {
			t.Fatalf("Len is %d", g.Len())
		}
		until(t, "descriptors and goroutines to return", func() bool {
			return countDescriptors(t) <= descriptors && runtime.NumGoroutine() <= goroutines
		})
	})
}

func countDescriptors(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // not Linux
	}
	return len(entries)
}

// until polls for what cannot be waited for.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A handler that is never done reading shares its loop with others.
func TestAChattyPeerStarvesNobody(t *testing.T) {
	g := newTestGroup(t, Options{Loops: 1})
	server, chatty := tcpPair(t)
	var stop atomic.Bool
	r := &chatter{}
	r.readable = func(p []byte) {
		if !stop.Load() {
			_, _ = chatty.Write(p) // there is always more
		}
	}
	s := adopt(t, g, server, nil, r)
	_, _ = chatty.Write(bytes.Repeat([]byte("x"), 64<<10))
	until(t, "the chatter", func() bool { return r.calls.Load() > 100 })

	other, client := tcpPair(t)
	o := newRecorder(t)
	adopt(t, g, other, []byte("a"), o)
	_, _ = client.Write([]byte("b"))
	o.waitBytes("ab")
	if n := r.calls.Load(); n == 0 {
		t.Fatal("nobody chatted")
	}
	stop.Store(true)
	_ = chatty.Close()
	waitDone(t, s)
}

type chatter struct {
	calls    atomic.Int64
	readable func([]byte)
}

func (c *chatter) Readable(p []byte) { c.calls.Add(1); c.readable(p) }
func (c *chatter) Writable()         {}
func (c *chatter) Hangup(error)      {}
