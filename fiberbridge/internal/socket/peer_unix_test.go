//go:build unix

package socket

import (
	"net"
	"runtime"
	"testing"
	"time"
)

func TestPeerGone(t *testing.T) {
	ends := map[string]func(*net.TCPConn){
		"closed":      func(c *net.TCPConn) { c.Close() },
		"half-closed": func(c *net.TCPConn) { c.CloseWrite() },
		"reset":       func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			client, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			peer, ok := PeerOf(server)
			if !ok {
				t.Fatal("nothing to look at on a TCP connection")
			}
			if peer.Gone() {
				t.Fatal("gone while idle")
			}
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			var p [1]byte
			if _, err := server.Read(p[:]); err != nil || peer.Gone() {
				t.Fatalf("read %v; gone while alive: %v", err, peer.Gone())
			}
			if runtime.GOOS == "linux" { // what was not read does not hide it
				if _, err := client.Write([]byte("unread")); err != nil {
					t.Fatal(err)
				}
				if peer.Gone() {
					t.Fatal("gone while alive, with bytes to be read")
				}
			}
			end(client.(*net.TCPConn))
			for deadline := time.Now().Add(patience); !peer.Gone(); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("not gone")
				}
			}
			server.Close()
			if peer.Gone() {
				t.Error("a closed connection has no peer to be gone")
			}
		})
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if _, ok := PeerOf(near); ok {
		t.Error("a pipe has no descriptor to look at")
	}
}
