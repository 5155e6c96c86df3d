package abuse

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// dial connects; small asks for a small receive buffer, so that little that is
// not read leaves the server.
func (a *attacker) dial(ctx context.Context, small bool) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	if small {
		d.Control = smallBuffer
	}
	return d.DialContext(ctx, "tcp", a.Addr)
}

// hold keeps one connection after the other: use has each until it returns or
// ctx ends, when the connection is closed. A pause comes between two.
func (a *attacker) hold(ctx context.Context, small bool, use func(net.Conn)) {
	for ctx.Err() == nil {
		conn, err := a.dial(ctx, small)
		if err != nil {
			a.answered(0)
		} else {
			a.sent(1)
			stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			use(conn)
			stop()
			_ = conn.Close()
		}
		rest(ctx, 200*time.Millisecond)
	}
}

// rest waits, or returns when ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// head is the head of a request, whose further fields are lines.
func (a *attacker) head(method, path string, fields ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, a.Addr)
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// bearer is the field that names the attacker.
func (a *attacker) bearer() string { return "Authorization: Bearer " + a.Subject }

func length(n int) string { return "Content-Length: " + strconv.Itoa(n) }

// readStatus reads the status of an answer, 0 if none comes.
func readStatus(r io.Reader) int {
	line := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(r, line); err != nil {
		return 0
	}
	status, err := strconv.Atoi(string(line[len(line)-3:]))
	if err != nil {
		return 0
	}
	return status
}

// client is an HTTP client of up to n connections, which are closed when the
// attack is over.
func (a *attacker) client(n int) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: n, MaxConnsPerHost: n}
	a.onDone(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// request sends one request and counts its answer. The status is 0 without one.
func (a *attacker) request(ctx context.Context, client *http.Client, method, path, body string, fields ...string) (status int, answer []byte) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+a.Addr+path, strings.NewReader(body))
	if err != nil {
		a.fail(err)
		return 0, nil
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	a.sent(1)
	res, err := client.Do(req)
	if err == nil {
		status = res.StatusCode
		answer, err = io.ReadAll(io.LimitReader(res.Body, mib))
		_ = res.Body.Close()
	}
	if err != nil && ctx.Err() != nil {
		return 0, nil // ours to end
	}
	a.answered(status)
	return status, answer
}

// jsonType is the content type of creates.
const jsonType = "Content-Type: application/json"

// discard reads until the connection ends and reports the status of what came
// first.
func discard(conn net.Conn) int {
	r := bufio.NewReader(conn)
	status := readStatus(r)
	_, _ = io.Copy(io.Discard, r)
	return status
}
