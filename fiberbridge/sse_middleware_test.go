package fiberbridge

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/compress"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/gofiber/fiber/v2/middleware/etag"
	"github.com/gofiber/fiber/v2/middleware/helmet"
	"github.com/gofiber/fiber/v2/middleware/logger"
	fiberrecover "github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/gofiber/fiber/v2/middleware/requestid"
	"github.com/gofiber/fiber/v2/middleware/timeout"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// What middleware sets on the response, before or after the handler, is in the
// stream's head; and none of it buffers, delays or breaks the stream. Those
// that need a dependency more are tried in the module middlewaretest.
func TestSSEMiddleware(t *testing.T) {
	logged := new(lockedBuffer)
	cookieAfter := func(c *fiber.Ctx) error {
		if err := c.Next(); err != nil {
			return err
		}
		c.Cookie(&fiber.Cookie{Name: "after", Value: "next"})
		c.Cookie(&fiber.Cookie{Name: "and", Value: "another"})
		c.Append("X-After", "1")
		return nil
	}
	all := []fiber.Handler{
		requestid.New(requestid.Config{Generator: func() string { return "request-1" }}),
		logger.New(logger.Config{Output: logged, Format: "${status} ${path} ${error}\n"}),
		fiberrecover.New(),
		cors.New(cors.Config{AllowOrigins: "https://app.example.com", AllowCredentials: true, ExposeHeaders: "X-Request-Id"}),
		helmet.New(),
		compress.New(compress.Config{Level: compress.LevelBestSpeed}),
		etag.New(),
		cookieAfter,
	}
	for _, tc := range []struct {
		name string
		use  []fiber.Handler
		want map[string]string
	}{
		{"requestid", all[:1], map[string]string{"X-Request-Id": "request-1"}},
		{"logger", all[1:2], nil},
		{"recover", all[2:3], nil},
		{"cors", all[3:4], map[string]string{
			"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Allow-Credentials": "true",
			"Access-Control-Expose-Headers": "X-Request-Id",
		}},
		{"helmet", all[4:5], map[string]string{"X-Content-Type-Options": "nosniff"}},
		{"compress", all[5:6], map[string]string{"Content-Encoding": ""}},
		{"etag", all[6:7], map[string]string{"Etag": ""}},
		{"cookie", all[7:], map[string]string{"Set-Cookie": "after=next; path=/; SameSite=Lax|and=another; path=/; SameSite=Lax", "X-After": "1"}},
		{"all", all, map[string]string{
			"X-Request-Id": "request-1", "Access-Control-Allow-Origin": "https://app.example.com",
			"X-Content-Type-Options": "nosniff", "X-After": "1", "Content-Encoding": "", "Etag": "",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := startHost(t, hostSetup{before: tc.use})
			run := h.task(t)
			c := h.get(t, ssePath(run.Task().ID), "Accept: text/event-stream", "Accept-Encoding: gzip, br, deflate",
				"Origin: https://app.example.com", "If-None-Match: *")
			if c.status != http.StatusOK || c.header.Get("Content-Type") != "text/event-stream" ||
				c.header.Get("Cache-Control") != "no-cache, no-transform" || c.header.Get("Content-Length") != "" {
				t.Errorf("%d %v", c.status, c.header)
			}
			for name, want := range tc.want {
				if got := strings.Join(c.header.Values(name), "|"); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			c.next(t)
			emit(t, run, 1)
			sent := time.Now()
			first := c.event(t)
			soon(t, sent)
			complete(t, run)
			blocks, clean := c.rest(t)
			if got := append([]string{first.id}, eventIDs(blocks)...); !clean || !slices.Equal(got, h.ids(t, run.Task().ID)) {
				t.Errorf("%v, clean %v", got, clean)
			}
			// A WebSocket passes the same chain.
			w := h.ws(t)
			w.subscribe(t, run.Task().ID)
			w.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
			if ids, _, code := w.events(t); len(ids) != 2 || code != 1000 {
				t.Errorf("websocket: %v %d", ids, code)
			}
		})
	}
	if n := strings.Count(logged.String(), "200 /api/v1/tasks/"); n != 2 {
		t.Errorf("logged: %s", logged)
	}
}

// What Fiber calls a timeout bounds the request until the stream begins, and
// not the stream.
func TestSSEBehindTimeout(t *testing.T) {
	t.Parallel()
	request := intime.For(t, 500*time.Millisecond, func() {
		h := startHost(t, hostSetup{})
		h.get(t, ssePath(h.task(t).Task().ID)).next(t)
	})
	h := startHost(t, hostSetup{routes: func(app *fiber.App, b *Bridge) {
		app.Get("/timed/:taskId", timeout.NewWithContext(b.SSE, request))
	}})
	run := h.task(t)
	c := h.get(t, "/timed/"+run.Task().ID)
	c.next(t)
	timer := time.NewTimer(2 * request)
	<-timer.C
	complete(t, run)
	if blocks, clean := c.rest(t); !clean || len(eventIDs(blocks)) != 1 {
		t.Errorf("clean %v, %+v", clean, blocks)
	}
}
