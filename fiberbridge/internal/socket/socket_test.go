package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestBothDirections(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		r := newRecorder(t)
		s := adopt(t, g, server, []byte("before "), r)
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		r.waitBytes("before hello")
		send(t, s, r, []byte("world"))
		if got := mustRead(t, client, 5); string(got) != "world" {
			t.Fatalf("got %q", got)
		}
		if n := g.Len(); n != 1 {
			t.Fatalf("Len is %d", n)
		}
		s.Close()
		s.Close()
		waitDone(t, s)
		if _, err := readEnd(t, client); err != nil {
			t.Fatalf("after Close the peer sees %v", err)
		}
		if _, err := s.TryWrite([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("TryWrite after Close: %v", err)
		}
		if _, _, err := r.heard(); err != nil {
			t.Fatalf("Hangup after Close: %v", err)
		}
	})
}

// A FIN right behind the last bytes, one socket after the other.
func TestBytesComeBeforeTheEnd(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		payload := string(bytes.Repeat([]byte("0123456789abcdef"), 20<<10)) // several turns of a loop
		server, client := tcpPair(t)
		r := newRecorder(t)
		s := adopt(t, g, server, nil, r)
		go func() {
			_, _ = client.Write([]byte(payload))
			_ = client.CloseWrite()
		}()
		if err := r.waitHangup(); !errors.Is(err, io.EOF) {
			t.Fatalf("Hangup says %v", err)
		}
		if got, _, _ := r.heard(); got != payload {
			t.Fatalf("%d of %d bytes came before the end", len(got), len(payload))
		}
		waitDone(t, s)
	})
}

func TestResetIsAnError(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		r := newRecorder(t)
		s := adopt(t, g, server, nil, r)
		_ = client.SetLinger(0)
		_ = client.Close()
		if err := r.waitHangup(); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("Hangup says %v", err)
		}
		waitDone(t, s)
		if n := g.Len(); n != 0 {
			t.Fatalf("Len is %d", n)
		}
	})
}

// A peer that stops reading fills the socket; when it reads on, Writable comes
// and every byte arrives once.
func TestParkAndResume(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		r := newRecorder(t)
		s := adopt(t, g, server, nil, r)
		payload := make([]byte, 16<<20)
		rand.NewChaCha8([32]byte{1}).Read(payload)
		sent := 0
		for parked := false; !parked; {
			n, err := s.TryWrite(payload[sent : sent+64<<10])
			if err != nil {
				t.Fatal(err)
			}
			sent += n
			parked = n == 0
			if n == 0 && !s.Taken() { // perhaps only until the writer is through
				if parked = r.quiet(200*time.Millisecond, func() bool { return r.writable > 0 }); !parked {
					r.mu.Lock()
					r.writable = 0
					r.mu.Unlock()
				}
			}
		}
		t.Logf("%d bytes were taken before the socket was full", sent)
		if got := mustRead(t, client, sent); !bytes.Equal(got, payload[:sent]) {
			t.Fatal("other bytes came than were sent")
		}
		r.wait("Writable", func() bool { return r.writable > 0 })
		send(t, s, r, payload[sent:sent+100])
		if got := mustRead(t, client, 100); !bytes.Equal(got, payload[sent:sent+100]) {
			t.Fatal("other bytes came than were sent")
		}
	})
}

func TestCloseGracefully(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		r := newRecorder(t)
		s := adopt(t, g, server, nil, r)
		payload := bytes.Repeat([]byte("x"), 32<<10)
		send(t, s, r, payload)
		if _, err := client.Write([]byte("unread")); err != nil {
			t.Fatal(err)
		}
		r.waitBytes("unread")
		s.CloseGracefully(patience)
		if _, err := s.TryWrite([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("TryWrite after CloseGracefully: %v", err)
		}
		if _, err := client.Write([]byte("to be thrown away")); err != nil {
			t.Fatal(err)
		}
		if got, err := readEnd(t, client); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("the peer has %d bytes and %v", len(got), err)
		}
		if n := g.Len(); n != 1 {
			t.Fatalf("closed before the peer did: Len is %d", n)
		}
		_ = client.Close()
		waitDone(t, s)
		if got, _, err := r.heard(); got != "unread" || err != nil {
			t.Fatalf("after CloseGracefully the handler heard %q, %v", got, err)
		}
	})
}

func TestLingerEnds(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		var all []*Socket
		for i := range 20 {
			server, client := tcpPair(t)
			s := adopt(t, g, server, nil, newRecorder(t))
			defer client.Close()
			s.CloseGracefully(time.Duration(50-i) * time.Millisecond)
			s.CloseGracefully(time.Hour)
			all = append(all, s)
		}
		early, client := tcpPair(t)
		_ = client.Close()
		s := adopt(t, g, early, nil, newRecorder(t))
		s.CloseGracefully(time.Hour)
		all = append(all, s)
		for _, s := range all {
			waitDone(t, s)
		}
		g.lingers.mu.Lock()
		defer g.lingers.mu.Unlock()
		if n := len(g.lingers.queue); n != 0 {
			t.Fatalf("%d closed sockets are held", n)
		}
	})
}
