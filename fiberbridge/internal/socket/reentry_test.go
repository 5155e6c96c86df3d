package socket

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Handler may end its Socket from within each of its methods.
func TestEndFromWithinAHandler(t *testing.T) {
	ends := map[string]func(s *Socket){
		"Close":           (*Socket).Close,
		"CloseGracefully": func(s *Socket) { s.CloseGracefully(50 * time.Millisecond) },
		"both":            func(s *Socket) { s.CloseGracefully(time.Hour); s.Close() },
		"no linger":       func(s *Socket) { s.CloseGracefully(0) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			eachPath(t, Options{}, func(t *testing.T, g *Group) {
				for _, within := range []string{"Readable", "Writable", "Hangup"} {
					server, client := tcpPair(t)
					r := newRecorder(t)
					var s *Socket
					var once sync.Once
					ready := make(chan struct{})
					ended := func() {
						<-ready
						once.Do(func() {
							end(s)
							if _, err := s.TryWrite([]byte("x")); !errors.Is(err, net.ErrClosed) {
								t.Errorf("TryWrite after %s within %s: %v", name, within, err)
							}
							select {
							case <-s.Done():
								t.Errorf("done while %s runs", within)
							default:
							}
						})
					}
					switch within {
					case "Readable":
						r.readable = func([]byte) { ended() }
					case "Writable":
						r.onWrite = ended
					case "Hangup":
						r.onHangup = func(error) { ended() }
					}
					s = adopt(t, g, server, nil, r)
					close(ready)
					switch within {
					case "Readable":
						_, _ = client.Write([]byte("a"))
					case "Writable":
						fill(t, s)
						go func() { _, _ = io.Copy(io.Discard, client) }()
					case "Hangup":
						_ = client.CloseWrite()
					}
					waitDone(t, s)
					if _, _, err := r.heard(); (within == "Hangup") != (err != nil) {
						t.Errorf("%s within %s: Hangup said %v", name, within, err)
					}
					_ = client.Close()
				}
				if n := g.Len(); n != 0 {
					t.Fatalf("Len is %d", n)
				}
			})
		})
	}
}

// fill writes until the socket is full.
func fill(t testing.TB, s *Socket) {
	t.Helper()
	block := make([]byte, 64<<10)
	for {
		n, err := s.TryWrite(block)
		if err != nil {
			t.Fatal(err)
		}
		if n < len(block) {
			return
		}
	}
}

// A Handler may hold a lock of its own around Adopt and the Socket's methods.
func TestNoCallFromWithinAMethod(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		r := newRecorder(t)
		var mu sync.Mutex
		var s *Socket
		locked := func() {
			mu.Lock()
			defer mu.Unlock()
			if s == nil {
				t.Error("called without the lock")
			}
		}
		r.readable = func([]byte) { locked() }
		r.onWrite = locked
		r.onHangup = func(error) { locked() }
		_, _ = client.Write([]byte("a"))
		_ = client.CloseWrite()
		mu.Lock()
		s = adopt(t, g, server, []byte("pending"), r)
		_, _ = s.TryWrite([]byte("x"))
		mu.Unlock()
		if err := r.waitHangup(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if got, _, _ := r.heard(); got != "pendinga" {
			t.Fatalf("read %q", got)
		}
		waitDone(t, s)
	})
}

// A peer that half-closed can still be told something.
func TestFarewellToAHalfClosedPeer(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		r := newRecorder(t)
		socket := make(chan *Socket, 1)
		r.onHangup = func(error) {
			s := <-socket
			if n, err := s.TryWrite([]byte("farewell")); n != 8 || err != nil {
				t.Errorf("TryWrite within Hangup: %d, %v", n, err)
			}
			s.CloseGracefully(patience)
		}
		s := adopt(t, g, server, nil, r)
		socket <- s
		_ = client.CloseWrite()
		if got, err := readEnd(t, client); string(got) != "farewell" || err != nil {
			t.Fatalf("the peer has %q and %v", got, err)
		}
		waitDone(t, s) // without waiting for the linger
	})
}

// What was taken before CloseGracefully arrives, though the peer reads it late
// and has closed its own side.
func TestGracefulCloseDeliversWhatWasTaken(t *testing.T) {
	for _, halfClosed := range []bool{false, true} {
		eachPath(t, Options{}, func(t *testing.T, g *Group) {
			server, client := tcpPair(t)
			_ = client.SetReadBuffer(16 << 10)
			r := newRecorder(t)
			s := adopt(t, g, server, nil, r)
			block := make([]byte, 8<<20)
			taken, err := s.TryWrite(block)
			if err != nil {
				t.Fatal(err)
			}
			s.CloseGracefully(patience)
			if halfClosed {
				_ = client.CloseWrite()
			}
			if got, err := readEnd(t, client); len(got) != taken || err != nil {
				t.Fatalf("%d of %d bytes came, and %v", len(got), taken, err)
			}
			_ = client.Close()
			waitDone(t, s)
		})
	}
}

// Once Done is closed no call is under way and none follows, whoever closed,
// whenever.
func TestQuietAfterDone(t *testing.T) {
	eachPath(t, Options{Loops: 2}, func(t *testing.T, g *Group) {
		var wg sync.WaitGroup
		for i := range 200 {
			server, client := tcpPair(t)
			h := &quietHandler{t: t}
			s := adopt(t, g, server, []byte("pending"), h)
			wg.Add(3)
			go func() {
				defer wg.Done()
				_, _ = client.Write([]byte("some bytes"))
				if i%2 == 0 {
					_ = client.SetLinger(0)
				}
				_ = client.Close()
			}()
			go func() {
				defer wg.Done()
				_, _ = s.TryWrite([]byte("x"))
				if i%3 == 0 {
					s.CloseGracefully(time.Millisecond)
				} else {
					s.Close()
				}
			}()
			go func() {
				defer wg.Done()
				waitDone(t, s)
				h.done.Store(true)
				if n := h.running.Load(); n != 0 {
					t.Error("a call runs after Done")
				}
			}()
		}
		wg.Wait()
	})
}

type quietHandler struct {
	t       *testing.T
	running atomic.Int32
	done    atomic.Bool
}

func (h *quietHandler) call() {
	if h.running.Add(1) != 1 {
		h.t.Error("calls overlap")
	}
	if h.done.Load() {
		h.t.Error("a call after Done")
	}
	h.running.Add(-1)
}

func (h *quietHandler) Readable([]byte) { h.call() }
func (h *quietHandler) Writable()       { h.call() }
func (h *quietHandler) Hangup(error)    { h.call() }
