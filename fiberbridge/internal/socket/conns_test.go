package socket

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
)

func testCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsPair returns two ends that have shaken hands.
func tlsPair(t testing.TB) (server, client *tls.Conn) {
	t.Helper()
	s, c := tcpPair(t)
	server = tls.Server(s, &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}})
	client = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.HandshakeContext(t.Context()) }()
	if err := errors.Join(server.HandshakeContext(t.Context()), <-shaken); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// What is no plain TCP connection is served through net.Conn.
func TestOtherConnections(t *testing.T) {
	kinds := map[string]func(t *testing.T) (server, client net.Conn){
		"TLS": func(t *testing.T) (net.Conn, net.Conn) {
			s, c := tlsPair(t)
			return s, c
		},
		"net.Pipe": func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() },
		"fasthttputil": func(t *testing.T) (net.Conn, net.Conn) {
			ln := fasthttputil.NewInmemoryListener()
			defer ln.Close()
			accepted := make(chan net.Conn, 1)
			go func() {
				s, _ := ln.Accept()
				accepted <- s
			}()
			c, err := ln.Dial()
			if err != nil {
				t.Fatal(err)
			}
			return <-accepted, c
		},
		"unix": func(t *testing.T) (net.Conn, net.Conn) {
			ln, err := net.Listen("unix", t.TempDir()+"/s")
			if err != nil {
				t.Skip(err)
			}
			defer ln.Close()
			c, err := net.Dial("unix", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			s, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return s, c
		},
	}
	for name, dial := range kinds {
		t.Run(name, func(t *testing.T) {
			g := newTestGroup(t, Options{UserTimeout: time.Minute})
			start := func() (*Socket, *recorder, net.Conn) {
				server, client := dial(t)
				t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
				_ = server.SetDeadline(time.Now().Add(-time.Second)) // as a request may leave it
				if g.CanTakeOver(server) {
					t.Fatal("this should not be taken over")
				}
				r := newRecorder(t)
				return adopt(t, g, server, []byte("before "), r), r, client
			}

			s, r, client := start()
			if _, err := client.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			r.waitBytes("before hello")
			if n, err := s.TryWrite([]byte("world")); n != 5 || err != nil {
				t.Fatalf("TryWrite: %d, %v", n, err)
			}
			if got := mustRead(t, client, 5); string(got) != "world" {
				t.Fatalf("got %q", got)
			}
			_ = client.Close()
			if err := r.waitHangup(); !errors.Is(err, io.EOF) {
				t.Fatalf("Hangup says %v", err)
			}
			waitDone(t, s)

			s, _, client = start()
			if n, err := s.TryWrite([]byte("the end")); n != 7 || err != nil {
				t.Fatalf("TryWrite: %d, %v", n, err)
			}
			s.CloseGracefully(patience)
			if got, err := readEnd(t, client); string(got) != "the end" || err != nil {
				t.Fatalf("got %q, %v", got, err)
			}
			_ = client.Close()
			waitDone(t, s)

			s, r, client = start() // nobody reads: Close interrupts the writer
			block := make([]byte, 1<<20)
			for n := 1; n > 0; {
				var err error
				if n, err = s.TryWrite(block); err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					if n = 1; r.quiet(50*time.Millisecond, func() bool { return r.writable > 0 }) {
						break
					}
					r.mu.Lock()
					r.writable = 0
					r.mu.Unlock()
				}
			}
			begun := time.Now()
			s.Close()
			waitDone(t, s)
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("Close took %v", took)
			}
			_ = client.Close()
		})
	}
}

// Without TCP_USER_TIMEOUT the timeout bounds one write.
func TestUserTimeoutOfAPipe(t *testing.T) {
	g := newTestGroup(t, Options{})
	server, client := net.Pipe()
	defer client.Close()
	r := newRecorder(t)
	s := adopt(t, g, server, nil, r)
	s.SetUserTimeout(20 * time.Millisecond)
	if n, err := s.TryWrite([]byte("nobody reads")); n != 12 || err != nil {
		t.Fatalf("TryWrite: %d, %v", n, err)
	}
	if err := r.waitHangup(); !isTimeout(err) {
		t.Fatalf("Hangup says %v", err)
	}
	waitDone(t, s)
}

// The connections that fasthttp hands over, plain and counted by address, from
// both sides of the hijack, and those of an in-memory listener.
func TestFasthttpWrappers(t *testing.T) {
	tcp := func(t *testing.T) (net.Listener, func() (net.Conn, error)) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
	}
	memory := func(*testing.T) (net.Listener, func() (net.Conn, error)) {
		ln := fasthttputil.NewInmemoryListener()
		return ln, ln.Dial
	}
	for _, c := range []struct {
		name   string
		perIP  int
		listen func(*testing.T) (net.Listener, func() (net.Conn, error))
		fast   bool
	}{{"plain", 0, tcp, true}, {"counted by address", 10, tcp, true}, {"in memory", 0, memory, false}} {
		t.Run(c.name, func(t *testing.T) {
			eachPath(t, Options{}, func(t *testing.T, g *Group) {
				fast := c.fast && !g.opt.DisableFastPath
				handlers := make(chan *recorder, 1)
				sockets := make(chan *Socket, 1)
				before := make(chan bool, 1)
				server := &fasthttp.Server{MaxConnsPerIP: c.perIP, MaxIdleWorkerDuration: 10 * time.Millisecond}
				server.Handler = func(ctx *fasthttp.RequestCtx) {
					before <- g.CanTakeOver(ctx.Conn())
					ctx.HijackSetNoResponse(true)
					ctx.Hijack(func(c net.Conn) {
						_ = c.SetReadDeadline(time.Unix(1, 0)) // empties the buffer, and only that
						pending, _ := io.ReadAll(c)
						s, err := g.Adopt(c, pending, <-handlers)
						if err != nil {
							t.Error(err)
							return
						}
						sockets <- s
						if !s.Taken() {
							<-s.Done()
						}
					})
				}
				ln, dial := c.listen(t)
				served := make(chan error, 1)
				go func() { served <- server.Serve(ln) }()
				defer func() {
					_ = server.Shutdown()
					<-served
				}()
				for round := range 4 { // the wrappers are pooled
					r := newRecorder(t)
					handlers <- r
					client, err := dial()
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(client, strings.NewReader("GET / HTTP/1.1\r\nHost: a\r\n\r\nearly "))
					s := <-sockets
					if can := <-before; can != fast || s.Taken() != fast {
						t.Fatalf("CanTakeOver said %v, Taken says %v", can, s.Taken())
					}
					r.waitBytes("early ")
					_, _ = client.Write([]byte("late"))
					r.waitBytes("early late")
					if n, err := s.TryWrite([]byte("answer")); n != 6 || err != nil {
						t.Fatalf("TryWrite: %d, %v", n, err)
					}
					if got := mustRead(t, client, 6); string(got) != "answer" {
						t.Fatalf("got %q", got)
					}
					if round%2 == 0 {
						s.CloseGracefully(patience)
					} else {
						s.Close()
						waitDone(t, s)
					}
					if got, err := readEnd(t, client); len(got) > 0 || err != nil {
						t.Fatalf("got %q, %v", got, err)
					}
					_ = client.Close()
					waitDone(t, s)
				}
			})
		})
	}
}

// A type that embeds a TCP connection may change what goes over it.
func TestStrangeWrappersAreNotTakenOver(t *testing.T) {
	g := newTestGroup(t, Options{})
	server, _ := tcpPair(t)
	for _, conn := range []net.Conn{struct{ *net.TCPConn }{server}, &struct{ net.Conn }{server}, nil} {
		if g.CanTakeOver(conn) {
			t.Errorf("%T is taken over", conn)
		}
	}
}
