package fiberbridge

import (
	"fmt"
	"io"
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

// A byte that came after the request, of a next one, does not keep a poll of a
// client that has left.
func TestPollOfADeadClientWithBytesLeft(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems do not tell of an end behind unread bytes")
	}
	h := startHost(t, hostSetup{})
	task := h.task(t).Task().ID
	for name, end := range map[string]func(net.Conn) error{
		"closed":      net.Conn.Close,
		"half-closed": func(c net.Conn) error { return c.(*net.TCPConn).CloseWrite() },
	} {
		conn := h.connect(t)
		if _, err := io.WriteString(conn, "GET "+pollPath(task)+" HTTP/1.1\r\nHost: x\r\n"+bearer("alice")+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		await(t, name+": the poll waits", func() bool { return h.pollsWaiting() == 1 })
		if _, err := io.WriteString(conn, "G"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := end(conn); err != nil {
			t.Fatal(err)
		}
		await(t, name+": the poll is over", func() bool { return h.pollsWaiting() == 0 })
		if took := time.Since(began); took > 15*time.Second { // it would wait for 30
			t.Errorf("%s: noticed after %v", name, took)
		}
	}
}
