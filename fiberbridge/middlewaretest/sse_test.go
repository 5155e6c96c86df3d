package middlewaretest

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cache"
	"github.com/gofiber/fiber/v2/middleware/idempotency"
	"github.com/gofiber/fiber/v2/middleware/limiter"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// streamHost serves an open task of alice's on a real listener, behind
// middleware, and returns a function that follows it.
func streamHost(t *testing.T, middleware func(*fiberbridge.Bridge) fiber.Handler) (follow func(subject string) *http.Response, run *engine.Run) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	store, err := memstore.New(memstore.Config{})
	must(err)
	exec := enginetest.NewExecutor()
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly(), Logger: quiet})
	must(err)
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: eng,
		Auth: func(c *fiber.Ctx) (engine.AuthContext, error) {
			return engine.AuthContext{Subject: c.Get("X-User")}, nil
		},
		Drain:  fiberbridge.DrainConfig{NotReady: -1, Spread: -1},
		Logger: quiet,
	})
	must(err)
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(middleware(bridge))
	must(bridge.Mount(app.Group("/api")))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	transport := new(http.Transport)
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		must(bridge.Shutdown(ctx))
		must(app.ShutdownWithContext(ctx))
		must(<-served)
	})
	res, err := eng.Create(context.Background(), engine.AuthContext{Subject: "alice"},
		engine.CreateRequest{ClientRequestID: "r", TaskType: "test"})
	must(err)
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	return func(subject string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+ln.Addr().String()+"/api/tasks/"+res.Task.ID+"/events/stream", nil)
		must(err)
		req.Header.Set("X-User", subject)
		req.Header.Set("Accept", "text/event-stream")
		resp, err := client.Do(req)
		must(err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}, exec.Task(t, res.Task.ID)
}

// line reads on to the next line that begins with prefix.
func line(t *testing.T, resp *http.Response, prefix string) string {
	t.Helper()
	in := bufio.NewScanner(resp.Body)
	for in.Scan() {
		if strings.HasPrefix(in.Text(), prefix) {
			return in.Text()
		}
	}
	t.Fatalf("no line %q: %v", prefix, in.Err())
	return ""
}

func say(t *testing.T, run *engine.Run, text string) {
	t.Helper()
	if err := run.Emit(context.Background(), engine.Message{Text: text}); err != nil {
		t.Fatal(err)
	}
}

// The limiter's headers are in a stream's head, and its refusal is its own.
func TestStreamBehindLimiter(t *testing.T) {
	follow, run := streamHost(t, func(*fiberbridge.Bridge) fiber.Handler { return limiter.New(limiter.Config{Max: 1}) })
	say(t, run, "hello")
	resp := follow("alice")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Ratelimit-Limit") != "1" || resp.Header.Get("X-Ratelimit-Remaining") != "0" {
		t.Error(resp.StatusCode, resp.Header)
	}
	line(t, resp, "data: ")
	if resp := follow("alice"); resp.StatusCode != http.StatusTooManyRequests {
		t.Error(resp.StatusCode)
	}
}

// With Owns as its Next, the cache leaves every subscriber a stream of its own.
func TestStreamBehindCacheWithOwns(t *testing.T) {
	follow, run := streamHost(t, func(b *fiberbridge.Bridge) fiber.Handler {
		return cache.New(cache.Config{Next: b.Owns, StoreResponseHeaders: true})
	})
	say(t, run, "hello")
	for range 2 {
		line(t, follow("alice"), "data: ")
	}
	if resp := follow("bob"); resp.StatusCode != http.StatusNotFound {
		t.Error(resp.StatusCode)
	}
}

// Without it the second subscriber gets an empty answer from the cache; but
// nothing of the first one's stream.
func TestStreamBehindCacheLeaksNothing(t *testing.T) {
	follow, run := streamHost(t, func(*fiberbridge.Bridge) fiber.Handler {
		return cache.New(cache.Config{StoreResponseHeaders: true})
	})
	say(t, run, "secret")
	line(t, follow("alice"), "data: ")
	for _, subject := range []string{"alice", "bob"} {
		resp := follow(subject)
		body, err := io.ReadAll(resp.Body)
		if err != nil || len(body) != 0 || resp.Header.Get("X-Cache") != "hit" {
			t.Errorf("%s: %q %v %v", subject, body, resp.Header, err)
		}
	}
}

// idempotency lets a GET through, key or not.
func TestStreamBehindIdempotency(t *testing.T) {
	follow, run := streamHost(t, func(*fiberbridge.Bridge) fiber.Handler { return idempotency.New() })
	say(t, run, "hello")
	for range 2 {
		line(t, follow("alice"), "data: ")
	}
}
