package redistest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Wire is a TCP proxy in front of a server. It can lose answers, and it can be
// switched to another server.
type Wire struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	to     string
	closed bool
	links  map[*link]struct{}
}

// link is one connection through the wire.
type link struct {
	client, server net.Conn
	mute           atomic.Bool
	// swallowed counts the answers' bytes that did not get through.
	swallowed atomic.Int64
}

// NewWire opens a way to the server at addr.
func NewWire(t testing.TB, addr string) *Wire {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	w := &Wire{listener: l, to: addr, links: map[*link]struct{}{}}
	w.running.Go(w.accept)
	t.Cleanup(w.close)
	return w
}

// Addr is what clients connect to.
func (w *Wire) Addr() string { return w.listener.Addr().String() }

// Redirect makes new connections lead to the server at addr, as a virtual IP, a
// Service or a proxy does once another server is the primary. Existing connections
// stay with their server.
func (w *Wire) Redirect(addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = addr
}

func (w *Wire) target() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to
}

// LoseAnswers lets what clients send reach the server, loses what it answers
// within the time, and then cuts every connection. It returns how many of them
// lost an answer.
func (w *Wire) LoseAnswers(within time.Duration) int {
	m := w.Mute()
	time.Sleep(within) // the server does what it was asked
	return m.Cut()
}

// Muted are connections whose answers get lost.
type Muted struct{ links []*link }

// Mute lets what clients send reach the server and loses what it answers, on the
// connections that there are now, until they are cut.
func (w *Wire) Mute() *Muted {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := new(Muted)
	for k := range w.links {
		k.mute.Store(true)
		m.links = append(m.links, k)
	}
	return m
}

// Lost is how many of the connections have lost an answer.
func (m *Muted) Lost() int {
	lost := 0
	for _, k := range m.links {
		if k.swallowed.Load() > 0 {
			lost++
		}
	}
	return lost
}

// Cut cuts the connections and returns how many of them lost an answer.
func (m *Muted) Cut() int {
	lost := m.Lost()
	for _, k := range m.links {
		k.cut()
	}
	return lost
}

func (w *Wire) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		server, err := dial(w.target(), nil)
		if err != nil {
			_ = client.Close()
			continue
		}
		k := &link{client: client, server: server}
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			k.cut()
			return
		}
		w.links[k] = struct{}{}
		w.running.Go(func() { _, _ = io.Copy(server, client); k.cut() })
		w.running.Go(func() { _, _ = io.Copy(k, server); w.forget(k) })
		w.mu.Unlock()
	}
}

// Write implements io.Writer for what the server answers.
func (k *link) Write(p []byte) (int, error) {
	if k.mute.Load() {
		k.swallowed.Add(int64(len(p)))
		return len(p), nil
	}
	return k.client.Write(p)
}

func (k *link) cut() {
	_ = k.client.Close()
	_ = k.server.Close()
}

func (w *Wire) forget(k *link) {
	k.cut()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.links, k)
}

func (w *Wire) close() {
	_ = w.listener.Close()
	w.mu.Lock()
	w.closed = true
	for k := range w.links {
		k.cut()
	}
	w.mu.Unlock()
	w.running.Wait()
}
