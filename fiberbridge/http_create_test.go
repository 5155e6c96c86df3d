package fiberbridge_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

func TestCreate(t *testing.T) {
	h := newHTTPHost(t, nil)
	const body = `{"clientRequestId":"r-1","taskType":"words","input":{"words":["a"],"n":1.0}}`
	r := h.do(t, "POST", "/tasks", body)
	var c createdTask
	r.decode(t, &c)
	if r.status != 201 || c.ClientRequestID != "r-1" || c.Deduplicated || len(c.TaskID) < 16 || c.Status != "ACCEPTED" {
		t.Fatal(r)
	}
	if got := r.header.Get("Location"); got != "/api/v1/tasks/"+c.TaskID {
		t.Errorf("Location %q", got)
	}
	if snap := h.send(t, newRequest("GET", r.header.Get("Location"), "")); snap.status != 200 || !strings.Contains(snap.body, c.TaskID) {
		t.Error(snap)
	}

	again := h.do(t, "POST", "/tasks", `{"metadata":{"x":1},"input":{"n":1,"words":["a"]},"taskType":"words","clientRequestId":"r-1"}`)
	var d createdTask
	again.decode(t, &d)
	if again.status != 200 || d.TaskID != c.TaskID || !d.Deduplicated {
		t.Error(again)
	}
	if other := h.do(t, "POST", "/tasks", `{"clientRequestId":"r-1","taskType":"words"}`); other.status != 409 || other.code() != engine.CodeIdempotency {
		t.Error(other)
	}
	if bob := h.as(t, "bob", "POST", "/tasks", body); bob.status != 201 || strings.Contains(bob.body, c.TaskID) {
		t.Error(bob)
	}
}

func TestCreateRefusals(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) {
		own := engine.OwnerOnly()
		o.engine.Ownership = engine.OwnershipFunc(func(ctx context.Context, auth engine.AuthContext, access engine.Access, task engine.Task) error {
			if auth.Subject == "mallory" {
				return fmt.Errorf("not her")
			}
			return own.Allow(ctx, auth, access, task)
		})
	})
	const ok = `{"clientRequestId":"r","taskType":"words"}`
	tests := []struct {
		name, contentType, body string
		status                  int
		code                    engine.Code
	}{
		{"form encoding", "application/x-www-form-urlencoded", "clientRequestId=r&taskType=words", 400, engine.CodeInvalidRequest},
		{"text", "text/plain", ok, 400, engine.CodeInvalidRequest},
		{"no content type", "", ok, 400, engine.CodeInvalidRequest},
		{"unreadable content type", "application/json; charset=\"", ok, 400, engine.CodeInvalidRequest},
		{"latin1", "application/json; charset=iso-8859-1", ok, 400, engine.CodeInvalidRequest},
		{"problem+json", "application/problem+json", ok, 400, engine.CodeInvalidRequest},
		{"no boundary", "multipart/form-data", "x", 400, engine.CodeInvalidRequest},
		{"empty", "application/json", "", 400, engine.CodeInvalidRequest},
		{"malformed", "application/json", ok[:20], 400, engine.CodeInvalidRequest},
		{"unknown task type", "application/json", `{"clientRequestId":"r","taskType":"nope"}`, 400, engine.CodeInvalidRequest},
		{"input that does not fit", "application/json", `{"clientRequestId":"r","taskType":"words","input":{"words":1}}`, 400, engine.CodeInvalidRequest},
		{"wrong schema", "application/json", `{"clientRequestId":7}`, 422, engine.CodeRequestValidation},
		{"nested deep", "application/json", `{"clientRequestId":"r","taskType":"words","input":` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9001), 422, engine.CodeRequestValidation},
		{"nested 10,000 deep", "application/json", `{"clientRequestId":"r","taskType":"words","input":` + strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_001), 400, engine.CodeInvalidRequest},
		{"a large input", "application/json", `{"clientRequestId":"r","taskType":"words","input":{"a":"` + strings.Repeat("x", 2<<20) + `"}}`, 422, engine.CodeRequestValidation},
		{"a megabyte of type", "application/json", `{"clientRequestId":"r","taskType":"` + strings.Repeat("x", 1<<20) + `"}`, 422, engine.CodeRequestValidation},
		{"line breaks in an id", "application/json", `{"clientRequestId":"r\r\nX-Injected: 1","taskType":"words"}`, 422, engine.CodeRequestValidation},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := newRequest("POST", "/api/v1/tasks", tt.body)
			req.Header.Del("Content-Type")
			if tt.contentType != "" {
				req.Header.Set("Content-Type", tt.contentType)
			}
			r := h.send(t, req)
			if r.status != tt.status || r.code() != tt.code || r.header.Get("Content-Type") != "application/json" {
				t.Error(r)
			}
			if r.header.Get("X-Injected") != "" || len(r.body) > 10_000 {
				t.Error(r.header, len(r.body))
			}
		})
	}
	if r := h.as(t, "mallory", "POST", "/tasks", ok); r.status != 403 || r.code() != engine.CodeTaskOwnership || strings.Contains(r.body, "her") {
		t.Error(r)
	}
	anonymous := newRequest("POST", "/api/v1/tasks", "{")
	anonymous.Header.Del("Authorization")
	if r := h.send(t, anonymous); r.status != 401 || r.code() != engine.CodeAuthentication {
		t.Error(r)
	}
	// None of those has left anything behind.
	if r := h.do(t, "POST", "/tasks", ok); r.status != 201 {
		t.Error(r)
	}
}

func TestCreateRefusedContentEncoding(t *testing.T) {
	h := newHTTPHost(t, nil)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = io.Copy(z, io.LimitReader(zeros{}, 8<<20))
	_ = z.Close()
	for _, ct := range []string{"application/json", "multipart/form-data; boundary=x"} {
		req := newRequest("POST", "/api/v1/tasks", bomb.String())
		req.Header.Set("Content-Type", ct)
		req.Header.Set("Content-Encoding", "gzip")
		if r := h.send(t, req); r.status != 400 || r.code() != engine.CodeInvalidRequest {
			t.Error(ct, r)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bodyWays are the ways in which Fiber hands a body to a handler.
var bodyWays = map[string]fiber.Config{
	"buffered":             {},
	"streamed":             {StreamRequestBody: true},
	"not parsed":           {DisablePreParseMultipartForm: true},
	"streamed, not parsed": {StreamRequestBody: true, DisablePreParseMultipartForm: true},
}

// The same request makes the same task, whether JSON or a form, and in
// whichever way the body gets here, through real sockets.
func TestCreateBodies(t *testing.T) {
	for name, cfg := range bodyWays {
		t.Run(name, func(t *testing.T) {
			h := newHTTPHost(t, func(o *hostOptions) { o.fiber, o.bridge.Uploads.IgnoreFields = cfg, []string{"other"} })
			base, client := h.listen(t)
			send := func(body io.Reader, contentType string) reply {
				req, err := http.NewRequest(http.MethodPost, base+"/tasks", body)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer alice")
				req.Header.Set("Content-Type", contentType)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				return read(t, resp)
			}
			chunked := func(r io.Reader) io.Reader { return struct{ io.Reader }{r} }
			const fileSize = 1<<20 + 200<<10
			const doc = `{"clientRequestId":"j","taskType":"words","input":{"words":["ä","b"]}}`
			fields := []string{"clientRequestId", "j", "taskType", "words", "input", ` { "words" : [ "\u00e4", "b" ] }`, "@other", "x|text/plain|ignored"}
			withFiles := []string{"clientRequestId", "f", "taskType", "words", "@attachments", `C:\dir\b.txt|text/plain|bbb`, "@attachments", "../a|application/x|" + strings.Repeat("a", fileSize)}

			first := send(strings.NewReader(doc), "application/json; charset=UTF-8")
			if first.status != 201 {
				t.Fatal(first)
			}
			same := func(as, r reply) {
				t.Helper()
				var a, b createdTask
				_ = json.Unmarshal([]byte(as.body), &a)
				_ = json.Unmarshal([]byte(r.body), &b)
				if r.status != 200 || a.TaskID != b.TaskID || !b.Deduplicated {
					t.Error(r)
				}
			}
			same(first, send(chunked(strings.NewReader(doc)), "application/json"))
			body, ct := form(t, fields...)
			same(first, send(bytes.NewReader(body.Bytes()), ct))
			same(first, send(chunked(bytes.NewReader(body.Bytes())), ct))

			// Large enough for temporary files.
			body, ct = form(t, withFiles...)
			upload := send(bytes.NewReader(body.Bytes()), ct)
			if upload.status != 201 {
				t.Fatal(upload)
			}
			same(upload, send(chunked(bytes.NewReader(body.Bytes())), ct))
			withFiles[5], withFiles[7] = "b.txt|text/plain|bbb", `x\a|application/x|`+strings.Repeat("a", fileSize)
			body, ct = form(t, withFiles...)
			same(upload, send(body, ct))
			var c createdTask
			upload.decode(t, &c)
			task, err := h.store.Get(context.Background(), c.TaskID, engine.Fresh)
			if err != nil || len(task.Attachments) != 2 || task.Attachments[0].Name != "b.txt" || task.Attachments[1].Name != "a" || task.Attachments[1].Size != fileSize {
				t.Errorf("%+v %v", task.Attachments, err)
			}
			for _, other := range [][]string{
				{"clientRequestId", "f", "taskType", "words", "@attachments", "a|application/x|" + strings.Repeat("a", fileSize), "@attachments", "b.txt|text/plain|bbb"}, // order
				{"clientRequestId", "f", "taskType", "words", "@attachments", "b.txt|text/plain|bbc", "@attachments", "a|application/x|" + strings.Repeat("a", fileSize)}, // bytes
				{"clientRequestId", "f", "taskType", "words", "@attachments", "b.txt|text/html|bbb", "@attachments", "a|application/x|" + strings.Repeat("a", fileSize)},  // type
				{"clientRequestId", "f", "taskType", "words", "@attachments", "b|text/plain|bbb", "@attachments", "a|application/x|" + strings.Repeat("a", fileSize)},     // name
				{"clientRequestId", "f", "taskType", "words"},
			} {
				body, ct := form(t, other...)
				if r := send(body, ct); r.status != 409 {
					t.Error(r)
				}
			}

			// The connection is usable after every kind of refusal, or closed.
			for range 3 {
				body, ct := form(t, "clientRequestId", "x")
				if r := send(body, ct); r.status != 400 || r.code() != engine.CodeInvalidRequest {
					t.Error(r)
				}
				if r := send(strings.NewReader("--bOuNdArY\r\nrubbish"), ct); r.status != 400 || r.code() != engine.CodeInvalidRequest {
					t.Error(r)
				}
				if r := send(chunked(strings.NewReader("--bOuNdArY\r\nrubbish")), ct); r.status != 400 || r.code() != engine.CodeInvalidRequest {
					t.Error(r)
				}
				if r := send(chunked(strings.NewReader("{")), "application/json"); r.status != 400 {
					t.Error(r)
				}
				same(first, send(strings.NewReader(doc), "application/json"))
			}
		})
	}
}

// A body over the host's limit gets the envelope, in every way it may come.
func TestCreateTooLarge(t *testing.T) {
	for name, cfg := range bodyWays {
		t.Run(name, func(t *testing.T) {
			cfg.BodyLimit = 64 << 10
			h := newHTTPHost(t, func(o *hostOptions) {
				o.fiber = cfg
				o.bridge.Uploads = fiberbridge.UploadConfig{MaxFileBytes: 16 << 10, MaxTotalBytes: 32 << 10}
			})
			base, client := h.listen(t)
			for _, how := range []struct {
				bytes   int
				chunked bool
			}{{100 << 10, false}, {100 << 10, true}, {1 << 20, false}, {1 << 20, true}} {
				var body io.Reader = strings.NewReader(`{"clientRequestId":"r","taskType":"words","input":{"a":"` + strings.Repeat("x", how.bytes) + `"}}`)
				if how.chunked {
					body = struct{ io.Reader }{body}
				}
				req, _ := http.NewRequest(http.MethodPost, base+"/tasks", body)
				req.Header.Set("Authorization", "Bearer alice")
				req.Header.Set("Content-Type", "application/json")
				r, resp := sendTooMuch(t, req)
				if r.status != 413 || r.code() != engine.CodeRequestTooLarge {
					t.Error(r)
				}
				// One that is a little too large is read to its end.
				if how.bytes >= 1<<20 && !resp.Close {
					t.Error("the connection stays open with a body nobody reads")
				}
			}
			body, ct := form(t, "clientRequestId", "r", "taskType", "words", "@attachment", "a|x/y|"+strings.Repeat("a", 20<<10))
			req := newRequest("POST", base+"/tasks", body.String())
			req.Header.Set("Content-Type", ct)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if r := read(t, resp); r.status != 400 || r.code() != engine.CodeUploadValidation {
				t.Error(r)
			}
		})
	}
}

func TestCreateFiftyAtOnce(t *testing.T) {
	h := newHTTPHost(t, nil)
	base, client := h.listen(t)
	const n = 50
	replies := make([]reply, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			req := newRequest("POST", base+"/tasks", `{"clientRequestId":"same","taskType":"words","input":{"words":["a"]}}`)
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			replies[i] = read(t, resp)
		})
	}
	close(start)
	wg.Wait()
	ids, news := map[string]bool{}, 0
	for _, r := range replies {
		var c createdTask
		r.decode(t, &c)
		ids[c.TaskID] = true
		if r.status == 201 && !c.Deduplicated {
			news++
		} else if r.status != 200 || !c.Deduplicated {
			t.Error(r)
		}
	}
	if len(ids) != 1 || news != 1 {
		t.Errorf("%d tasks, created %d times", len(ids), news)
	}
}

func TestCreatePassingRefusals(t *testing.T) {
	for _, tt := range []struct {
		err    *engine.Error
		status int
	}{
		{&engine.Error{Code: engine.CodeTaskSubmission, Message: "full", RetryAfter: 3 * time.Second}, 503},
		{&engine.Error{Code: engine.CodeRateLimited, Message: "slow down", RetryAfter: 3 * time.Second}, 429},
		{&engine.Error{Code: engine.CodeUploadValidation, Message: "no"}, 400},
		{&engine.Error{Code: engine.CodeInternal, Message: "hunter2"}, 500},
	} {
		h := newHTTPHost(t, func(o *hostOptions) {
			o.engine.PrepareCreate = func(context.Context, engine.AuthContext, *engine.CreateRequest) error { return tt.err }
		})
		r := h.do(t, "POST", "/tasks", `{"clientRequestId":"r","taskType":"words"}`)
		if r.status != tt.status || r.code() != tt.err.Code || strings.Contains(r.body, "hunter2") {
			t.Error(r)
		}
		if tt.err.RetryAfter > 0 && r.header.Get("Retry-After") != "3" {
			t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
		}
	}
}

func TestLocation(t *testing.T) {
	body := `{"clientRequestId":"r","taskType":"words"}`
	tests := []struct {
		name     string
		change   func(*hostOptions)
		path     string
		location string
	}{
		{"below the app", func(o *hostOptions) { o.noGroup = true }, "/tasks", "/tasks/ID"},
		{"trailing slash", nil, "/api/v1/tasks/", "/api/v1/tasks/ID"},
		{"other case", nil, "/API/v1/Tasks", "/API/v1/tasks/ID"},
		{"query", nil, "/api/v1/tasks?access_token=x", "/api/v1/tasks/ID"},
		{"parameters of the group", func(o *hostOptions) { o.prefix = "/t/:tenant/api" }, "/t/a%2fb/api/tasks", "/t/a%2fb/api/tasks/ID"},
		{"parameters of the routes", func(o *hostOptions) {
			o.bridge.Routes.Create, o.bridge.Routes.Snapshot = "/projects/:projectId/jobs", "/jobs/:projectId/:taskId/now"
		}, "/api/v1/projects/p%C3%A4/jobs", "/api/v1/jobs/p%C3%A4/ID/now"},
		{"unescaped", func(o *hostOptions) { o.fiber.UnescapePath = true; o.prefix = "/t/:tenant" }, "/t/a%20b%0d%0aX:%20y%3F/tasks", "/t/a%20b%0D%0AX:%20y%3F/tasks/ID"},
		{"no snapshot", func(o *hostOptions) { o.bridge.Routes.Snapshot = "-" }, "/api/v1/tasks", ""},
		{"by hand", func(o *hostOptions) {
			o.before = func(app *fiber.App) {
				app.Post("/jobs", func(c *fiber.Ctx) error { return c.Locals("bridge").(*fiberbridge.Bridge).Create(c) })
			}
		}, "/jobs", "/jobs/ID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h *httpHost
			h = newHTTPHost(t, func(o *hostOptions) {
				if tt.change != nil {
					tt.change(o)
				}
				routes := o.before
				o.before = func(app *fiber.App) {
					app.Use(func(c *fiber.Ctx) error { c.Locals("bridge", h.bridge); return c.Next() })
					if routes != nil {
						routes(app)
					}
				}
			})
			r := h.send(t, newRequest("POST", tt.path, body))
			if r.status != 201 {
				t.Fatal(r)
			}
			var c createdTask
			r.decode(t, &c)
			want := strings.Replace(tt.location, "ID", c.TaskID, 1)
			if got := r.header.Get("Location"); got != want {
				t.Fatalf("Location %q, want %q", got, want)
			}
			if want != "" && tt.name != "by hand" {
				if s := h.send(t, newRequest("GET", want, "")); s.status != 200 {
					t.Error(s)
				}
			}
		})
	}
}

// A body that nobody reads must not become the next request: whoever controls
// it would speak in the name of whoever shares the connection.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) { o.fiber.StreamRequestBody = true })
	base, _ := h.listen(t)
	addr := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)
	const smuggled = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, head := range []string{
		"POST /api/v1/tasks HTTP/1.1", // no authentication
		"DELETE /api/v1/tasks HTTP/1.1",
		"GET /ready HTTP/1.1",
		"POST /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer alice\r\nContent-Type: text/plain",
		"POST /api/v1/tasks HTTP/1.1\r\nAuthorization: Bearer alice\r\nContent-Type: multipart/form-data; boundary=GET",
	} {
		for _, body := range []string{
			fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(smuggled), smuggled),
			fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled),
		} {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(enough))
			fmt.Fprintf(conn, "%s\r\nHost: x\r\n%s", head, body)
			_ = conn.(*net.TCPConn).CloseWrite()
			got, _ := io.ReadAll(conn)
			_ = conn.Close()
			if n := strings.Count(string(got), "HTTP/1.1 "); n != 1 {
				t.Errorf("%q with %q: %d answers:\n%s", head, body, n, got)
			}
		}
	}
}
