package abuse

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// slowUploads sends forms with several files, all but the end of the last one,
// and then a byte every few seconds.
func slowUploads(ctx context.Context, a *attacker) {
	const boundary, files = "xxxxxxxx", 3
	file := strings.Repeat("x", a.pick(9*mib, mib))
	var form strings.Builder
	for name, value := range map[string]string{"clientRequestId": rand.Text(), "taskType": "greet", "input": "{}"} {
		fmt.Fprintf(&form, "--%s\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", boundary, name, value)
	}
	for i := range files {
		fmt.Fprintf(&form, "--%s\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"f%d\"\r\n\r\n%s\r\n", boundary, i, file)
	}
	body := form.String()
	body = body[:len(body)-1000]
	head := a.head(http.MethodPost, a.Base+"/tasks", a.bearer(), "Content-Type: multipart/form-data; boundary="+boundary, length(len(body)+1100))
	side(a.pick(40, 16), func(int) {
		a.hold(ctx, false, func(conn net.Conn) {
			a.trickle(ctx, conn, head, body)
		})
	})
}

// trickle sends a request and then a byte every two seconds, until the server
// has enough of it.
func (a *attacker) trickle(ctx context.Context, conn net.Conn, head, body string) {
	answered := make(chan int, 1)
	go func() { answered <- discard(conn) }()
	_, err := io.WriteString(conn, head)
	if err == nil {
		_, err = io.WriteString(conn, body)
	}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for over := false; err == nil && !over; {
		select {
		case <-tick.C:
			_, err = io.WriteString(conn, "x")
		case <-ctx.Done():
			over = true
		case status := <-answered:
			answered <- status
			over = true
		}
	}
	_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	status := <-answered
	if ctx.Err() == nil || status != 0 {
		a.answered(status)
	}
}

// strangerBodies sends bodies of 4 MiB without a credential, all but their last
// bytes.
func strangerBodies(ctx context.Context, a *attacker) {
	body := createBody(rand.Text(), "greet", padding(4*mib-4096))
	head := a.head(http.MethodPost, a.Base+"/tasks", jsonType, length(len(body)+100))
	side(a.pick(200, 50), func(int) {
		a.hold(ctx, false, func(conn net.Conn) {
			a.trickle(ctx, conn, head, body)
		})
	})
}
