package fiberbridge

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// vanish makes the kernel drop everything that arrives at conn, without a FIN
// or an answer: the peer of a cable that was pulled.
func vanish(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: 1, Filter: &drop[0]})
	}); cerr != nil || err != nil {
		t.Skipf("socket filters are not to be had: %v %v", cerr, err)
	}
}

// A peer that vanished is noticed within two heartbeats, by both transports.
func TestStreamVanishedPeer(t *testing.T) {
	t.Parallel()
	for name, disable := range map[string]bool{"fast": false, "portable": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const heartbeat = time.Second
			h := startHost(t, hostSetup{bridge: func(c *Config) {
				c.SSE.Heartbeat = heartbeat
				c.WebSocket.Heartbeat, c.WebSocket.PongTimeout = heartbeat, heartbeat
				c.Streams.DisableFastPath = disable
			}})
			run := h.task(t)
			sse := h.get(t, ssePath(run.Task().ID))
			sse.next(t)
			ws := h.get(t, wsPath, wsUpgrade...)
			if _, err := ws.conn.Write(maskedText(`{"action":"subscribe","taskId":"` + run.Task().ID + `"}`)); err != nil {
				t.Fatal(err)
			}
			await(t, "subscribed", func() bool { return h.eng.Hub().Stats().Subscriptions == 2 })
			vanish(t, sse.conn)
			vanish(t, ws.conn)
			begin := time.Now()
			await(t, "places free", func() bool { return h.streams() == 0 })
			soon(t, begin.Add(2*heartbeat))
			h.empty(t)
		})
	}
}
