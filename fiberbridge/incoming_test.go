package fiberbridge_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// arriving begins an upload of length bytes, -1 in chunks, and sends its first
// part.
func arriving(t *testing.T, base, subject string, length int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), "/api/v1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(enough))
	framing := fmt.Sprintf("Content-Length: %d\r\n\r\n", length)
	part := "--b\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"f\"\r\n\r\n" + strings.Repeat("x", 20<<10)
	if length < 0 {
		framing = "Transfer-Encoding: chunked\r\n\r\n"
		part = fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
	}
	_, err = fmt.Fprintf(conn, "POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: multipart/form-data; boundary=b\r\n%s%s", subject, framing, part)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// status reads an answer's status, or gives 0 if none has come soon.
func status(conn net.Conn, within time.Duration) int {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// Uploads of one subject that are arriving are bounded, by number and by bytes,
// with and without a length; others' are not touched, and an end gives back.
func TestUploadsInFlight(t *testing.T) {
	for name, tt := range map[string]struct {
		limits fiberbridge.UploadConfig
		length int
	}{
		"by number":        {fiberbridge.UploadConfig{MaxPerSubject: 3}, 1 << 20},
		"by bytes":         {fiberbridge.UploadConfig{MaxBytesPerSubject: 3 << 20}, 1 << 20},
		"without a length": {fiberbridge.UploadConfig{MaxBytesPerSubject: 3 << 20}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			h, left := uploadHost(t, func(o *hostOptions) { o.bridge.Uploads = tt.limits })
			base, client := h.listen(t)
			var conns []net.Conn
			for range 6 {
				conns = append(conns, arriving(t, base, "alice", tt.length))
			}
			conns = append(conns, arriving(t, base, "bob", tt.length))
			// The rest of a refused body is waited for for 5 s, that of the others
			// for 15 s.
			answers := make([]int, len(conns))
			var all sync.WaitGroup
			for i, conn := range conns {
				all.Go(func() { answers[i] = status(conn, 10*time.Second) })
			}
			all.Wait()
			slices.Sort(answers)
			if !slices.Equal(answers, []int{0, 0, 0, 0, 429, 429, 429}) {
				t.Errorf("the answers are %v", answers)
			}
			for _, conn := range conns {
				conn.Close()
			}
			body, contentType := form(t, "clientRequestId", "r", "taskType", "digest", "@attachment", "a|text/plain|"+strings.Repeat("x", 64<<10))
			for deadline := time.Now().Add(enough); ; time.Sleep(20 * time.Millisecond) {
				if r := upload(t, client, base, bytes.NewReader(body.Bytes()), contentType); r.status == 201 {
					break
				} else if r.status != 429 || time.Now().After(deadline) {
					t.Fatalf("afterwards: %s", r)
				}
			}
			for deadline := time.Now().Add(enough); len(left()) > 1; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("left: %v", left())
				}
			}
		})
	}
}

// A body that comes a byte now and then is given up, however much came before.
func TestUploadThatTrickles(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for seconds")
	}
	h, _ := uploadHost(t, nil)
	base, _ := h.listen(t)
	conn := arriving(t, base, "alice", 8<<20)
	began := time.Now()
	if _, err := io.WriteString(conn, strings.Repeat("x", 4<<20)); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			time.Sleep(time.Second)
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
		}
	}()
	if got := status(conn, enough); got != 400 {
		t.Errorf("%d after %v", got, time.Since(began))
	}
}

// formGate is an UploadPolicy that is asked before a form comes.
type formGate struct {
	engine.UploadFunc
	asked atomic.Int64
}

func (g *formGate) AllowForm(_ context.Context, auth engine.AuthContext, length int64) error {
	g.asked.Add(1)
	switch {
	case auth.Subject == "mallory":
		return engine.NewError(engine.CodeRateLimited, "no uploads for you")
	case length > 1<<20:
		return engine.NewError(engine.CodeUploadValidation, "at most 1 MiB")
	}
	return nil
}

// A FormPolicy refuses before the body has come, by what the header says.
func TestFormPolicy(t *testing.T) {
	gate := &formGate{UploadFunc: func(context.Context, engine.AuthContext, engine.Upload) error { return nil }}
	h, _ := uploadHost(t, func(o *hostOptions) { o.engine.Uploads = gate })
	base, client := h.listen(t)
	for subject, want := range map[string]int{"mallory": 429, "alice": 400} {
		conn := arriving(t, base, subject, 2<<20) // the rest never comes
		if got := status(conn, enough); got != want {
			t.Errorf("%s: %d, want %d", subject, got, want)
		}
	}
	body, contentType := form(t, "clientRequestId", "r", "taskType", "digest", "@attachment", "a|text/plain|x")
	if r := upload(t, client, base, body, contentType); r.status != 201 {
		t.Error(r)
	}
	if r := h.as(t, "mallory", http.MethodPost, "/tasks", `{"clientRequestId":"j","taskType":"digest"}`); r.status != 201 {
		t.Errorf("a request without a form: %s", r)
	}
	if n := gate.asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}
