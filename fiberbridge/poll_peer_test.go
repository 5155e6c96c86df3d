package fiberbridge

import (
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// Waiting polls whose clients have gone give back what they held, long before
// their wait is over.
func TestPollOfAClientThatIsGone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("nothing tells there")
	}
	h := startHost(t, hostSetup{deliver: fanout.Config{Linger: -1}})
	run := h.task(t)
	descriptors := openDescriptors(t)

	var conns []net.Conn
	for range 50 {
		conn, err := h.dial()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /api/v1/tasks/%s/events?waitTimeoutMs=60000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\r\n", run.Task().ID)
		conns = append(conns, conn)
	}
	begin := time.Now()
	await(t, "all waiting", func() bool { return openDescriptors(t) >= descriptors+2*len(conns) && h.eng.Hub().Stats().Logs == 1 })
	for i, conn := range conns {
		if i%2 == 0 {
			_ = conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
	}
	await(t, "descriptors", func() bool { return openDescriptors(t) <= descriptors+5 })
	await(t, "waits", func() bool { return h.eng.Hub().Stats().Logs == 0 })
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("took %v", took)
	}
}
