package abuse

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// idleConnections holds more connections than the server has descriptors, each
// silent in its own way, and opens another one for each that is closed.
func idleConnections(ctx context.Context, a *attacker) {
	side(a.pick(2000, 1200), func(i int) {
		rest(ctx, time.Duration(i)*time.Millisecond/2)
		a.hold(ctx, false, func(conn net.Conn) {
			switch i % 4 {
			case 1: // in the middle of a head
				_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\n")
			case 2: // between two requests
				_, _ = io.WriteString(conn, a.head(http.MethodGet, "/health"))
			case 3: // in the middle of a body
				_, _ = io.WriteString(conn, a.head(http.MethodPost, a.Base+"/tasks", a.bearer(), jsonType, length(1000))+"{")
			}
			_, _ = io.Copy(io.Discard, conn)
		})
	})
}

// ready asks for readiness without a credential and without a pause.
func ready(ctx context.Context, a *attacker) {
	n := a.pick(16, 4)
	client := a.client(n)
	side(n, func(int) {
		for ctx.Err() == nil {
			a.request(ctx, client, http.MethodGet, "/ready", "")
		}
	})
}
