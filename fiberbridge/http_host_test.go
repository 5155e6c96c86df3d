package fiberbridge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// httpHost is a small host: a Fiber app with the bridge on the real engine,
// embedded store and executor. Bearer tokens are subjects.
type httpHost struct {
	app    *fiber.App
	bridge *fiberbridge.Bridge
	engine *engine.Engine
	store  *memstore.Store
	prefix string
	open   []string // tasks that create has made
}

// hostOptions change what newHTTPHost makes.
type hostOptions struct {
	fiber   fiber.Config
	bridge  fiberbridge.Config
	engine  engine.Config
	store   memstore.Config
	before  func(*fiber.App) // middleware
	prefix  string           // of the group; defaults to /api/v1
	noGroup bool             // mount on the app itself
}

func newHTTPHost(t testing.TB, change func(*hostOptions)) *httpHost {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	opt := hostOptions{prefix: "/api/v1"}
	opt.bridge.Drain = fiberbridge.DrainConfig{NotReady: -1, Spread: -1}
	opt.bridge.Logger, opt.engine.Logger, opt.store.Logger = quiet, quiet, quiet
	opt.bridge.Auth = authFromToken
	opt.engine.Ownership = engine.OwnerOnly()
	if change != nil {
		change(&opt)
	}
	store, err := memstore.New(opt.store)
	if err != nil {
		t.Fatal(err)
	}
	if opt.engine.Store == nil {
		opt.engine.Store = store
	}
	exec, err := localexec.New(localexec.Config{Logger: quiet, CancelGrace: time.Second},
		localexec.Handle("words", runWords), localexec.Handle("stall", runStall), localexec.Handle("ask", runAsk))
	if err != nil {
		t.Fatal(err)
	}
	if opt.engine.Executor == nil {
		opt.engine.Executor = exec
	}
	eng, err := engine.New(opt.engine)
	if err != nil {
		t.Fatal(err)
	}
	opt.bridge.Engine = eng
	bridge, err := fiberbridge.New(opt.bridge)
	if err != nil {
		t.Fatal(err)
	}
	if opt.fiber.ErrorHandler == nil {
		opt.fiber.ErrorHandler = bridge.ErrorHandler(nil)
	}
	opt.fiber.DisableStartupMessage = true
	app := fiber.New(opt.fiber)
	if opt.before != nil {
		opt.before(app)
	}
	var router fiber.Router = app
	if opt.noGroup {
		opt.prefix = ""
	} else {
		router = app.Group(opt.prefix)
	}
	if err := errors.Join(bridge.Mount(router), bridge.MountHealth(app)); err != nil {
		t.Fatal(err)
	}
	h := &httpHost{app: app, bridge: bridge, engine: eng, store: store, prefix: opt.prefix}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		defer cancel()
		for _, id := range h.open { // or the executor waits for them
			_, _ = eng.Cancel(ctx, engine.AuthContext{Subject: "alice"}, id, "")
		}
		if err := bridge.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		_ = store.Close() // a test may have put another in front of it
	})
	return h
}

type wordsInput struct {
	Words []string `json:"words"`
}

// runWords emits one message a word.
func runWords(ctx context.Context, run *engine.Run, in wordsInput) (map[string]int, error) {
	for _, w := range in.Words {
		if err := run.Emit(ctx, engine.Message{Text: w}); err != nil {
			return nil, err
		}
	}
	return map[string]int{"count": len(in.Words)}, nil
}

// runStall does nothing until it is cancelled.
func runStall(ctx context.Context, _ *engine.Run, _ struct{}) (any, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// runAsk waits for an answer that never comes.
func runAsk(ctx context.Context, run *engine.Run, _ struct{}) (any, error) {
	until := time.Now().Add(time.Hour).In(time.FixedZone("", 3600))
	_, err := run.Suspend(ctx, engine.Suspended{
		SuspendID: "s-1", Kind: engine.UserActionRequired, ReasonCode: "approval",
		AllowedActions: []string{"approve"}, ExpiresAt: &until, Interaction: json.RawMessage(`{"q":"<ok>?"}`),
	})
	return nil, err
}

// reply is an answer that has been read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) code() engine.Code {
	var e struct{ Code engine.Code }
	_ = json.Unmarshal([]byte(r.body), &e)
	return e.Code
}

func (r reply) String() string { return fmt.Sprintf("%d %.300s", r.status, r.body) }

func (r reply) decode(t testing.TB, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v: %v", r, err)
	}
}

// newRequest makes a request of alice's. A body is JSON.
func newRequest(method, url, body string) *http.Request {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, url, r)
	req.RequestURI = "" // for a http.Client
	req.Header.Set("Authorization", "Bearer alice")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// send gives req to the app without a socket.
func (h *httpHost) send(t testing.TB, req *http.Request) reply {
	t.Helper()
	resp, err := h.app.Test(req, -1)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

func read(t testing.TB, resp *http.Response) reply {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

// do sends a request of alice's to a path below the prefix.
func (h *httpHost) do(t testing.TB, method, path, body string) reply {
	t.Helper()
	return h.send(t, newRequest(method, h.prefix+path, body))
}

// as is do for somebody else.
func (h *httpHost) as(t testing.TB, subject, method, path, body string) reply {
	t.Helper()
	req := newRequest(method, h.prefix+path, body)
	req.Header.Set("Authorization", "Bearer "+subject)
	return h.send(t, req)
}

type createdTask struct {
	TaskID, Status, ClientRequestID string
	Deduplicated                    bool
}

var requests atomic.Int64

// create makes a task of alice's.
func (h *httpHost) create(t testing.TB, taskType, input string) string {
	t.Helper()
	if input == "" {
		input = "{}"
	}
	r := h.do(t, "POST", "/tasks", fmt.Sprintf(`{"clientRequestId":"r-%d","taskType":%q,"input":%s}`, requests.Add(1), taskType, input))
	if r.status != 201 {
		t.Fatal(r)
	}
	var c createdTask
	r.decode(t, &c)
	h.open = append(h.open, c.TaskID)
	return c.TaskID
}

type pollPage struct {
	TaskID, Status string
	Events         []struct {
		Type, TaskID, EventID, CreatedAt string
		Payload                          json.RawMessage
	}
	NextAfterEventID *string
	HasMore          bool
	Gap              *struct {
		Reason                     string
		AfterEventID, FirstEventID *string
	}
}

func (h *httpHost) poll(t testing.TB, taskID, query string) pollPage {
	t.Helper()
	r := h.do(t, "GET", "/tasks/"+taskID+"/events?"+query, "")
	if r.status != 200 || r.header.Get("Cache-Control") != "no-store" || r.header.Get("Content-Type") != "application/json" {
		t.Fatal(r, r.header)
	}
	var p pollPage
	r.decode(t, &p)
	return p
}

// until polls until the task's status is one of those.
func (h *httpHost) until(t testing.TB, taskID string, status ...string) {
	t.Helper()
	after := ""
	for end := time.Now().Add(enough); time.Now().Before(end); {
		p := h.poll(t, taskID, "waitTimeoutMs=200&afterEventId="+after)
		for _, s := range status {
			if p.Status == s {
				return
			}
		}
		if p.NextAfterEventID != nil {
			after = *p.NextAfterEventID
		}
	}
	t.Fatalf("the task never was %v", status)
}

// listen serves the app on a loopback port and returns its base URL and a
// client that keeps no idle connection behind.
func (h *httpHost) listen(t testing.TB) (string, *http.Client) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.app.Listener(ln) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := h.app.ShutdownWithTimeout(enough); err != nil {
			t.Errorf("app: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("listen: %v", err)
		}
	})
	base := "http://" + ln.Addr().String()
	eventually(t, func() bool {
		resp, err := (&http.Client{Transport: transport}).Get(base + "/health")
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	return base + h.prefix, &http.Client{Transport: transport, Timeout: enough}
}

// sendTooMuch sends a request whose body the server may not read to its end. It
// closes then, and a client that stops at the reset of its writes, as net/http's
// does, often misses the answer that came before; this one reads it.
func sendTooMuch(t testing.TB, req *http.Request) (reply, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", req.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(enough)); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_ = req.Write(conn) // may end in a reset
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		t.Fatal(err)
	}
	r := read(t, resp)
	_ = conn.Close()
	<-written
	return r, resp
}

// enough bounds every wait of these tests. Only one that fails takes it all.
const enough = 3 * time.Minute

func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(enough); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatal("waited in vain")
}

// form is a multipart body: fields in pairs of name and value; a name that
// begins with "@" is a file, and its value "file name|content type|content".
func form(t testing.TB, pairs ...string) (body *bytes.Buffer, contentType string) {
	t.Helper()
	body = new(bytes.Buffer)
	const boundary = "bOuNdArY"
	for i := 0; i < len(pairs); i += 2 {
		name, isFile := strings.CutPrefix(pairs[i], "@")
		fmt.Fprintf(body, "--%s\r\nContent-Disposition: form-data; name=\"%s\"", boundary, name)
		if !isFile {
			fmt.Fprintf(body, "\r\n\r\n%s\r\n", pairs[i+1])
			continue
		}
		f := strings.SplitN(pairs[i+1], "|", 3)
		fmt.Fprintf(body, "; filename=\"%s\"\r\nContent-Type: %s\r\n\r\n%s\r\n", f[0], f[1], f[2])
	}
	fmt.Fprintf(body, "--%s--\r\n", boundary)
	return body, "multipart/form-data; boundary=" + boundary
}
