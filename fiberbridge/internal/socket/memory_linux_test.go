package socket

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAStalledReaderHoldsLittle(t *testing.T) {
	absorbed := func(notSent int) (n int) {
		g := newTestGroup(t, Options{NotSentBytes: notSent})
		server, client := tcpPair(t)
		_ = client.SetReadBuffer(16 << 10)
		s := adopt(t, g, server, nil, newRecorder(t))
		for {
			m, err := s.TryWrite(make([]byte, 16<<10))
			if err != nil {
				t.Fatal(err)
			}
			if n += m; m < 16<<10 {
				return n
			}
		}
	}
	bounded, unbounded := absorbed(0), absorbed(-1)
	t.Logf("a stalled reader holds %d bytes, without the option %d", bounded, unbounded)
	if bounded > 512<<10 || bounded >= unbounded {
		t.Errorf("TCP_NOTSENT_LOWAT does not bound it")
	}
}

// An idle subscriber's share of the process.
func TestMemoryOfAnIdleSocket(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	const n, budget = 5000, 300
	g := newTestGroup(t, Options{Loops: 2})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	// The clients are bare descriptors, so that they take no memory here.
	port := ln.Addr().(*net.TCPAddr).Port
	clients := make([]int, 0, n)
	defer func() {
		for _, fd := range clients {
			_ = unix.Close(fd)
		}
	}()
	connect := func() *Socket {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return adopt(t, g, conn, nil, nobody{})
	}
	sockets := make([]*Socket, 0, n+100)
	for range 100 { // what is made once
		sockets = append(sockets, connect())
	}
	heapBefore, rssBefore := memory()
	for range n {
		sockets = append(sockets, connect())
	}
	heapAfter, rssAfter := memory()
	each := (int64(heapAfter) - int64(heapBefore)) / n
	t.Logf("an idle socket takes %d bytes of heap, %d of resident memory", each, (rssAfter-rssBefore)/n)
	if each > budget {
		t.Errorf("the budget is %d", budget)
	}
	runtime.KeepAlive(sockets)
}

func memory() (heap uint64, rss int64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			rss = n << 10
		}
	}
	return m.HeapAlloc, rss
}
