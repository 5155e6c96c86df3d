package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestGroupClose(t *testing.T) {
	eachPath(t, Options{Loops: 2}, func(t *testing.T, g *Group) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var clients []net.Conn
		var sockets []*Socket
		release := make(chan struct{})
		held := newRecorder(t)
		entered := make(chan struct{})
		held.readable = func([]byte) { close(entered); <-release }
		for i := range 20 {
			server, client := tcpPair(t)
			r := newRecorder(t)
			if i == 0 {
				r = held
			}
			s := adopt(t, g, server, nil, r)
			clients, sockets = append(clients, client), append(sockets, s)
			if i%5 == 4 {
				s.CloseGracefully(time.Hour)
			}
		}
		_, _ = clients[0].Write([]byte("x"))
		<-entered

		done, stop := context.WithCancel(context.Background())
		stop()
		if err := g.Close(done); !errors.Is(err, context.Canceled) {
			t.Fatalf("Close while a Handler runs: %v", err)
		}
		close(release)
		if err := g.Close(ctx); err != nil {
			t.Fatal(err)
		}
		for i, s := range sockets {
			select {
			case <-s.Done():
			default:
				t.Fatal("a socket is not done")
			}
			if _, err := readEnd(t, clients[i]); err != nil {
				t.Fatal(err)
			}
		}
		server, _ := tcpPair(t)
		if _, err := g.Adopt(server, nil, held); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("Adopt after Close: %v", err)
		}
		if err := g.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// Writing to a connection that was reset neither kills the process nor hides
// why it ended.
func TestWriteAfterReset(t *testing.T) {
	eachPath(t, Options{}, func(t *testing.T, g *Group) {
		for range 50 {
			server, client := tcpPair(t)
			r := newRecorder(t)
			s := adopt(t, g, server, nil, r)
			_ = client.SetLinger(0)
			go client.Close()
			for {
				if _, err := s.TryWrite([]byte("x")); err != nil {
					break
				}
			}
			if err := r.waitHangup(); s.Taken() && errors.Is(err, io.EOF) {
				t.Fatalf("Hangup says %v", err)
			}
			waitDone(t, s)
		}
	})
}

// What was accepted before a graceful close is written, though the group is
// closed right behind it.
func TestGroupCloseAfterAFarewell(t *testing.T) {
	g, err := NewGroup(Options{})
	if err != nil {
		t.Fatal(err)
	}
	server, client := net.Pipe()
	defer client.Close()
	s, err := g.Adopt(server, nil, deafHandler{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.TryWrite([]byte("farewell")); n != 8 || err != nil {
		t.Fatal(n, err)
	}
	s.CloseGracefully(10 * time.Second)
	closed := make(chan error, 1)
	go func() { closed <- g.Close(t.Context()) }()
	select {
	case <-closed:
		t.Fatal("closed before the farewell was taken")
	case <-time.After(50 * time.Millisecond):
	}
	if all, err := io.ReadAll(client); string(all) != "farewell" {
		t.Errorf("%q %v", all, err)
	}
	client.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

type deafHandler struct{}

func (deafHandler) Readable([]byte) {}
func (deafHandler) Writable()       {}
func (deafHandler) Hangup(error)    {}
