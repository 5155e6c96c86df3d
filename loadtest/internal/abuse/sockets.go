package abuse

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// pings follows a task on WebSockets and sends pings and empty fragments as fast
// as they are taken.
func pings(ctx context.Context, a *attacker) {
	id := a.prepare(ctx, "stall", "{}")
	subscribe := masked(0x81, fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id))
	ping, begin, more := masked(0x89, ""), masked(0x01, ""), masked(0x00, "")
	head := a.head(http.MethodGet, a.Base+"/tasks/ws", a.bearer(), "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	side(a.pick(8, 4), func(i int) {
		flood := bytes.Repeat([]byte(ping), 500)
		if i%2 == 1 { // one message of empty fragments
			flood = bytes.Repeat([]byte(more), 500)
		}
		a.hold(ctx, false, func(conn net.Conn) {
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				a.answered(discard(conn))
			}()
			_, err := io.WriteString(conn, head+subscribe)
			if err == nil && i%2 == 1 {
				_, err = io.WriteString(conn, begin)
			}
			for err == nil && ctx.Err() == nil {
				if _, err = conn.Write(flood); err == nil {
					a.sent(500)
				}
			}
			_ = conn.Close()
			<-gone
		})
	})
	a.end(ctx, a.client(1), id)
}

// masked is a client's frame with a mask of zeros, for texts under 126 bytes.
func masked(first byte, text string) string {
	return strings.Join([]string{string([]byte{first, 0x80 | byte(len(text))}), "\x00\x00\x00\x00", text}, "")
}
