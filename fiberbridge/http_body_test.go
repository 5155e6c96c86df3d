package fiberbridge_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A client that announces a body and stops sending is told so, gets no
// goroutine to keep, and whoever it is: also before it has said who it is.
func TestBodyThatStalls(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for seconds")
	}
	t.Parallel()
	h := newHTTPHost(t, func(o *hostOptions) { o.fiber = streaming })
	base, _ := h.listen(t)
	addr := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)
	sent := strings.Repeat("x", 9<<10) // as much as fasthttp waits for by itself
	type attempt struct {
		head, want string
		conn       net.Conn
	}
	attempts := map[string]*attempt{
		"nobody":        {head: "Content-Type: application/json", want: "401"},
		"wrong type":    {head: "Authorization: Bearer alice\r\nContent-Type: text/plain", want: "400"},
		"a form of one": {head: "Authorization: Bearer alice\r\nContent-Type: multipart/form-data; boundary=\"\"", want: "400"},
		"JSON":          {head: "Authorization: Bearer alice\r\nContent-Type: application/json", want: "400"},
	}
	began := time.Now()
	for name, a := range attempts {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		a.conn = conn
		if _, err := fmt.Fprintf(conn, "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\n%s\r\nContent-Length: 100000\r\n\r\n%s", a.head, sent); err != nil {
			t.Fatal(name, err)
		}
	}
	for name, a := range attempts {
		_ = a.conn.SetReadDeadline(began.Add(enough))
		answer, err := io.ReadAll(a.conn) // to the end: the connection is closed
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 "+a.want)) || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %.200q, %v after %v", name, answer, err, time.Since(began))
		}
		if name == "JSON" && !bytes.Contains(answer, []byte(string(engine.CodeInvalidRequest))) {
			t.Errorf("%q", answer)
		}
	}
}

// A client that sends its whole body to a request that is refused at once gets
// to read why, and may go on.
func TestRefusedBodyIsRead(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) { o.fiber = streaming })
	base, client := h.listen(t)
	for range 20 {
		r := upload(t, client, base, strings.NewReader(strings.Repeat("x", 3<<20)), "text/plain")
		if r.status != 400 {
			t.Fatal(r)
		}
		// Neither with a length nor with chunks.
		if r := upload(t, client, base, io.MultiReader(strings.NewReader(strings.Repeat("x", 3<<20))), "text/plain"); r.status != 400 {
			t.Fatal(r)
		}
		body, contentType := form(t, "clientRequestId", "r", "@attachment", "a|text/plain|"+strings.Repeat("x", 3<<20))
		if r := upload(t, client, base, body, contentType); r.status != 400 || !strings.Contains(r.body, "taskType") {
			t.Fatal(r)
		}
	}
}

// Nor does the client of a body over the host's limit, which fasthttp refuses,
// get a reset instead of the answer.
func TestTooLargeBodyIsRead(t *testing.T) {
	for name, cfg := range bodyWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.BodyLimit = 2 << 20
			h := newHTTPHost(t, func(o *hostOptions) { o.fiber = cfg })
			base, client := h.listen(t)
			for range 5 {
				for _, chunked := range []bool{false, true} {
					var body io.Reader = strings.NewReader(strings.Repeat("x", 3<<20))
					if chunked {
						body = io.MultiReader(body)
					}
					req, _ := http.NewRequest(http.MethodPost, base+"/tasks", body)
					req.Header.Set("Authorization", "Bearer alice")
					req.Header.Set("Content-Type", "application/json")
					resp, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					if r := read(t, resp); r.status != http.StatusRequestEntityTooLarge || r.code() != engine.CodeRequestTooLarge {
						t.Error(r)
					}
				}
			}
		})
	}
}

// A request with two lengths is answered, and nothing after it on the
// connection: whatever stands between may go by the other one.
func TestTwoLengths(t *testing.T) {
	h := newHTTPHost(t, nil)
	base, _ := h.listen(t)
	const body = `{"clientRequestId":"r","taskType":"words"}`
	for _, second := range []string{"Content-Length: 6\r\n", "content-length:6\r\n", ""} {
		conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(enough))
		if _, err := fmt.Fprintf(conn, "POST %s/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n"+
			"Content-Type: application/json\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", h.prefix, second, len(body), body); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if r := read(t, resp); r.status/100 != 2 || resp.Close != (second != "") {
			t.Errorf("%q: %v, closed %v", second, r, resp.Close)
		}
	}
}
