package redistest

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are chosen below the range that systems take the near ends of outgoing
// connections from: one of those could sit on the port of a server that is down
// for a restart. The Cluster's bus has a port of its own from the same range.
const (
	firstPort = 12_000
	lastPort  = 31_000
)

// given are the ports that this process has given out: a server that is down for
// a while must find its own again.
var given sync.Map

// freePort returns a port that nobody listened on a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	var err error
	for try := range 100 {
		port := firstPort + rand.N(lastPort-firstPort)
		if _, before := given.LoadOrStore(port, true); before && try < 50 {
			continue
		}
		var l net.Listener
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", loopback(port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatalf("redistest: no free port: %v", err)
	return 0
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
