package abuse

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// unreadPolls asks for pages of a log of 8 MiB and reads none of them.
func unreadPolls(ctx context.Context, a *attacker) {
	id := a.prepare(ctx, "tokens", `{"count":100,"size":80000}`)
	// The log is not read here either: the page after its end is empty.
	a.await(ctx, id, func(status, _ string) bool { return status == "COMPLETED" })
	request := a.head(http.MethodGet, a.Base+"/tasks/"+id+"/events?maxEvents=500", a.bearer())
	side(a.pick(200, 100), func(int) {
		a.hold(ctx, true, func(conn net.Conn) {
			if _, err := io.WriteString(conn, request); err != nil {
				a.answered(0)
				return
			}
			rest(ctx, 20*time.Second)
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			a.answered(readStatus(conn))
		})
	})
}

// deadPolls begins polls that wait, sends one byte of a next request, which
// hides the end of the connection from who does not read it, and is gone.
func deadPolls(ctx context.Context, a *attacker) {
	id := a.prepare(ctx, "stall", "{}")
	var after string
	a.await(ctx, id, func(_, next string) bool { after = next; return next != "" })
	request := a.head(http.MethodGet, a.Base+"/tasks/"+id+"/events?waitTimeoutMs=30000&afterEventId="+after, a.bearer())
	n := a.pick(900, 300)
	for ctx.Err() == nil {
		conns := make([]net.Conn, n)
		side(16, func(hand int) {
			for i := hand; i < n && ctx.Err() == nil; i += 16 {
				conn, err := a.dial(ctx, false)
				if err != nil {
					a.answered(0)
					continue
				}
				a.sent(1)
				_, _ = io.WriteString(conn, request)
				conns[i] = conn
			}
		})
		rest(ctx, 500*time.Millisecond)
		for _, conn := range conns {
			if conn != nil {
				_, _ = io.WriteString(conn, "G")
				_ = conn.Close()
			}
		}
		rest(ctx, 3*time.Second)
	}
	a.end(ctx, a.client(1), id)
}
