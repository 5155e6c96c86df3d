package socket

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dropAll lets c's end of the connection receive nothing any more, not even
// the kernel: what a peer that lost its power or its network looks like.
func dropAll(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		drop := [1]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

func TestAVanishedPeerIsNoticed(t *testing.T) {
	for _, kind := range []string{"TCP", "TLS"} {
		t.Run(kind, func(t *testing.T) {
			eachPath(t, Options{}, func(t *testing.T, g *Group) {
				var server net.Conn
				var below *net.TCPConn
				if kind == "TLS" {
					s, c := tlsPair(t)
					server, below = s, c.NetConn().(*net.TCPConn)
				} else {
					server, below = tcpPair(t)
				}
				r := newRecorder(t)
				s := adopt(t, g, server, nil, r)
				s.SetUserTimeout(300 * time.Millisecond)
				dropAll(t, below)
				begun := time.Now()
				if n, err := s.TryWrite([]byte("heartbeat")); n != 9 || err != nil {
					t.Fatalf("TryWrite: %d, %v", n, err)
				}
				if err := r.waitHangup(); !errors.Is(err, syscall.ETIMEDOUT) {
					t.Fatalf("Hangup says %v", err)
				}
				// Without the option the kernel would try for many minutes.
				if took := time.Since(begun); took > 30*time.Second {
					t.Errorf("it took %v", took)
				}
				waitDone(t, s)
			})
		})
	}
}

// An idle connection has nothing unacknowledged: keepalive finds its end.
func TestAVanishedIdlePeerIsNoticed(t *testing.T) {
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1}
	eachPath(t, Options{KeepAlive: keepAlive}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		r := newRecorder(t)
		adopt(t, g, server, nil, r)
		dropAll(t, client)
		if err := r.waitHangup(); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Fatalf("Hangup says %v", err)
		}
	})
}

// The timeout is also how long a peer that is alive may take nothing.
func TestAStalledReaderIsCut(t *testing.T) {
	eachPath(t, Options{UserTimeout: 300 * time.Millisecond}, func(t *testing.T, g *Group) {
		server, client := tcpPair(t)
		_ = client.SetReadBuffer(16 << 10)
		r := newRecorder(t)
		s := adopt(t, g, server, nil, r)
		fill(t, s)
		if err := r.waitHangup(); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Fatalf("Hangup says %v", err)
		}
		waitDone(t, s)
	})
}
