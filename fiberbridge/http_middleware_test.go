package fiberbridge_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/compress"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/gofiber/fiber/v2/middleware/etag"
	"github.com/gofiber/fiber/v2/middleware/helmet"
	"github.com/gofiber/fiber/v2/middleware/logger"
	recovering "github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/gofiber/fiber/v2/middleware/requestid"
	"github.com/gofiber/fiber/v2/middleware/timeout"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Each of Fiber's middlewares lets every plain answer through whole, with what
// it adds of its own. Those that need a dependency more are tried in the
// module middlewaretest.
func TestMiddleware(t *testing.T) {
	next := func(c *fiber.Ctx) error { return c.Next() }
	var log bytes.Buffer
	tests := map[string]struct {
		handler fiber.Handler
		header  string // one that it sets on every answer
	}{
		"cors":      {cors.New(), "Access-Control-Allow-Origin"},
		"requestid": {requestid.New(), "X-Request-Id"},
		"helmet":    {helmet.New(), "X-Content-Type-Options"},
		"compress":  {compress.New(), ""},
		"etag":      {etag.New(), ""},
		"timeout":   {timeout.NewWithContext(next, enough), ""},
		"logger":    {logger.New(logger.Config{Output: &log}), ""},
		"recover":   {recovering.New(), ""},
		"a cookie and a status": {func(c *fiber.Ctx) error {
			err := c.Next()
			c.Cookie(&fiber.Cookie{Name: "after", Value: "1"})
			return err
		}, "Set-Cookie"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHTTPHost(t, func(o *hostOptions) { o.before = func(app *fiber.App) { app.Use(tt.handler) } })
			send := func(method, path, body string) reply {
				t.Helper()
				req := newRequest(method, h.prefix+path, body)
				req.Header.Set("Accept-Encoding", "gzip")
				req.Header.Set("Origin", "https://example.com")
				resp, err := h.app.Test(req, -1)
				if err != nil {
					t.Fatal(err)
				}
				if resp.Header.Get("Content-Encoding") == "gzip" {
					if resp.Body, err = gzip.NewReader(resp.Body); err != nil {
						t.Fatal(err)
					}
				}
				r := read(t, resp)
				if tt.header != "" && r.header.Get(tt.header) == "" {
					t.Errorf("%s %s: no %s: %v", method, path, tt.header, r.header)
				}
				if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Content-Type") != "application/json" {
					t.Errorf("%s %s: %v", method, path, r.header)
				}
				return r
			}
			const body = `{"clientRequestId":"r","taskType":"words","input":{"words":["first"]}}`
			created := send("POST", "/tasks", body)
			if created.status != 201 || created.header.Get("Location") == "" {
				t.Fatal(created, created.header)
			}
			var c createdTask
			created.decode(t, &c)
			if again := send("POST", "/tasks", body); again.status != 200 {
				t.Error(again)
			}
			h.until(t, c.TaskID, "COMPLETED")
			var first reply
			for i := range 2 {
				page := send("GET", "/tasks/"+c.TaskID+"/events", "")
				if page.status != 200 || !strings.Contains(page.body, "TASK_COMPLETED") {
					t.Error(page)
				}
				if i == 0 {
					first = page
				} else if page.body != first.body {
					t.Errorf("%s\n%s", page.body, first.body)
				}
				if snap := send("GET", "/tasks/"+c.TaskID, ""); snap.status != 200 || !strings.Contains(snap.body, `"COMPLETED"`) {
					t.Error(snap)
				}
			}
			long := h.create(t, "words", `{"words":["`+strings.Repeat("long ", 20_000)+`"]}`)
			h.until(t, long, "COMPLETED")
			if page := send("GET", "/tasks/"+long+"/events", ""); len(page.body) < 100_000 || !strings.HasSuffix(page.body, "}") {
				t.Error(page)
			}
			if r := send("GET", "/tasks/"+strings.Repeat("x", 26), ""); r.status != 404 || r.code() != engine.CodeTaskNotFound {
				t.Error(r)
			}
			if r := send("POST", "/tasks", "{"); r.status != 400 || r.code() != engine.CodeInvalidRequest {
				t.Error(r)
			}
			if r := send("POST", "/tasks/"+c.TaskID+"/cancel", ""); r.status != 202 {
				t.Error(r)
			}
			for _, path := range []string{"", "/events"} {
				if r := h.as(t, "bob", "GET", "/tasks/"+c.TaskID+path, ""); r.status != 404 {
					t.Errorf("bob is given alice's: %v", r)
				}
			}
		})
	}
	if !strings.Contains(log.String(), "/events") {
		t.Error("nothing was logged")
	}
}

func TestEtagAnswersNotModified(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) { o.before = func(app *fiber.App) { app.Use(etag.New()) } })
	id := h.create(t, "words", "")
	h.until(t, id, "COMPLETED")
	tag := h.do(t, "GET", "/tasks/"+id, "").header.Get("Etag")
	req := newRequest("GET", "/api/v1/tasks/"+id, "")
	req.Header.Set("If-None-Match", tag)
	if r := h.send(t, req); tag == "" || r.status != 304 || r.body != "" {
		t.Error(tag, r)
	}
	req.Header.Set("Authorization", "Bearer bob")
	if r := h.send(t, req); r.status != 404 {
		t.Error(r)
	}
}

// A host's deadline turns into a passing refusal or a page, never into silence.
func TestTimeoutMiddleware(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, func(o *hostOptions) {
		o.before = func(app *fiber.App) {
			timed := timeout.NewWithContext(func(c *fiber.Ctx) error { return c.Next() }, 2*time.Second)
			app.Use(func(c *fiber.Ctx) error {
				if c.Query("waitTimeoutMs") == "" { // what only prepares the test may take long
					return c.Next()
				}
				return timed(c)
			})
		}
	})
	id := h.create(t, "stall", "")
	h.until(t, id, "RUNNING")
	last := *h.poll(t, id, "").NextAfterEventID
	begin := time.Now()
	if p := h.poll(t, id, "waitTimeoutMs=30000&afterEventId="+last); p.Status != "RUNNING" || time.Since(begin) > enough/4 {
		t.Errorf("%+v", p)
	}
}

// A panic in the host's code inside a handler of ours is a clean 500, and the
// connection goes on.
func TestPanicsAreEnvelopes(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) {
		o.before = func(app *fiber.App) { app.Use(recovering.New()) }
		o.bridge.Auth = func(c *fiber.Ctx) (engine.AuthContext, error) {
			if c.Get("X-Panic") != "" {
				panic("hunter2")
			}
			return authFromToken(c)
		}
	})
	base, client := h.listen(t)
	for _, headers := range []string{"1", "", "1", ""} {
		for _, path := range []string{"/tasks/" + strings.Repeat("x", 26), "/tasks/" + strings.Repeat("x", 26) + "/events/stream"} {
			req := newRequest("GET", base+path, "")
			if headers != "" {
				req.Header.Set("X-Panic", headers)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			r := read(t, resp)
			if want := map[bool]int{true: 500, false: 404}[headers != ""]; r.status != want || r.code() == "" || strings.Contains(r.body, "hunter2") {
				t.Error(r)
			}
		}
	}
}

// With the bridge's error handler Fiber's own refusals are envelopes; without
// it they have the same statuses.
func TestFibersOwnRefusals(t *testing.T) {
	for _, envelope := range []bool{true, false} {
		h := newHTTPHost(t, func(o *hostOptions) {
			o.fiber.BodyLimit = 10_000
			if !envelope {
				o.fiber.ErrorHandler = fiber.DefaultErrorHandler
			}
		})
		base, _ := h.listen(t)
		large := strings.Repeat("x", 20_000)
		for _, tt := range []struct {
			method, path, body string
			chunked            bool
			status             int
			ours               bool
		}{
			{"POST", "/tasks", large, false, 413, true},
			{"POST", "/tasks", large, true, 413, true},
			{"PATCH", "/tasks", "", false, 405, true},
			{"PATCH", "/tasks/", "", false, 405, true},
			{"GET", "/tasks/abcdefghijklmnop/cancel", "", false, 405, true},
			{"POST", "/elsewhere", large, false, 413, false},
			{"GET", "/elsewhere", "", false, 404, false},
		} {
			var body io.Reader = strings.NewReader(tt.body)
			if tt.chunked {
				body = struct{ io.Reader }{body}
			}
			req, err := http.NewRequest(tt.method, base+tt.path, body)
			if err != nil {
				t.Fatal(err)
			}
			r, _ := sendTooMuch(t, req)
			if r.status != tt.status || (r.code() != "") != (envelope && tt.ours) {
				t.Errorf("%s %s: %v", tt.method, tt.path, r)
			}
		}
	}
}
