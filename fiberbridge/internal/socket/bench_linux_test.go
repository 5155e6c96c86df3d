package socket

import (
	"errors"
	"io"
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkWrite compares TryWrite with the bare system call on the same kind
// of connection, 200 bytes at a time, one write to each of 100 peers in turn.
// Waking the peers is in both. cpu-ns/op is the writing thread's own time, which
// a busy machine hardly disturbs.
func BenchmarkWrite(b *testing.B) {
	const peers = 100
	payload := make([]byte, 200)
	run := func(b *testing.B, server []*net.TCPConn, write func(i int) (int, error)) {
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before := threadTime(b)
		defer func() { b.ReportMetric(float64(threadTime(b)-before)/float64(b.N), "cpu-ns/op") }()
		i := 0
		for b.Loop() {
			for {
				n, err := write(i)
				if err != nil && !errors.Is(err, unix.EAGAIN) {
					b.Fatal(err)
				}
				if n > 0 {
					break
				}
			}
			i = (i + 1) % len(server)
		}
	}
	connect := func(b *testing.B) []*net.TCPConn {
		var server []*net.TCPConn
		for range peers {
			s, c := tcpPair(b)
			go func() { _, _ = io.Copy(io.Discard, onlyReader{c}) }()
			server = append(server, s)
		}
		return server
	}
	b.Run("write2", func(b *testing.B) {
		server := connect(b)
		fds := make([]int, peers)
		for i, s := range server {
			fd, err := duplicate(s)
			if err != nil {
				b.Fatal(err)
			}
			defer unix.Close(fd)
			fds[i] = fd
		}
		run(b, server, func(i int) (int, error) { return unix.Write(fds[i], payload) })
	})
	for _, path := range []string{"fast", "portable"} {
		b.Run(path, func(b *testing.B) {
			g, err := NewGroup(Options{DisableFastPath: path == "portable"})
			if err != nil {
				b.Fatal(err)
			}
			defer g.Close(b.Context())
			server := connect(b)
			sockets := make([]*Socket, peers)
			for i, s := range server {
				if sockets[i], err = g.Adopt(s, nil, nobody{}); err != nil {
					b.Fatal(err)
				}
			}
			run(b, server, func(i int) (int, error) { return sockets[i].TryWrite(payload) })
		})
	}
}

func threadTime(b *testing.B) int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

type onlyReader struct{ io.Reader }
