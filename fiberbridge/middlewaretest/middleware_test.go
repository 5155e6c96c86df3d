package middlewaretest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cache"
	"github.com/gofiber/fiber/v2/middleware/idempotency"
	"github.com/gofiber/fiber/v2/middleware/limiter"
	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Clocks and cleaners that Fiber and fasthttp start and never end.
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/internal/memory.(*Storage).gc"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/internal/storage/memory.(*Storage).gc"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/utils.StartTimeStampUpdater.func1.1"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/middleware/cache.New.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// A worker pool's cleaner sleeps for ten seconds after its server is gone.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	)
}

type reply struct {
	status int
	header func(string) string
	body   string
}

// host returns a function that sends a subject's request through middleware to
// the bridge.
func host(t *testing.T, middleware func(*fiberbridge.Bridge) fiber.Handler) func(subject, method, path, body string) reply {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := memstore.New(memstore.Config{})
	must(err)
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("noop",
		func(context.Context, *engine.Run, struct{}) (any, error) { return "done", nil }))
	must(err)
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
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		must(bridge.Shutdown(ctx))
	})
	app := fiber.New()
	app.Use(middleware(bridge))
	app.Get("/elsewhere", func(c *fiber.Ctx) error { return c.SendString(c.Get("X-User")) })
	must(bridge.Mount(app.Group("/api")))
	return func(subject, method, path, body string) reply {
		t.Helper()
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		req.Header.Set("X-User", subject)
		req.Header.Set("X-Idempotency-Key", "0e7b1f0c-6a0e-4a52-9d6a-3a1a0d0c0b0a")
		req.Header.Set("Content-Type", "application/json")
		resp, err := app.Test(req, -1)
		must(err)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		must(err)
		return reply{resp.StatusCode, resp.Header.Get, string(got)}
	}
}

const create = `{"clientRequestId":"r","taskType":"noop"}`

func taskID(t *testing.T, r reply) string {
	t.Helper()
	var c struct{ TaskID string }
	if err := json.Unmarshal([]byte(r.body), &c); err != nil || c.TaskID == "" {
		t.Fatal(r.status, r.body)
	}
	return c.TaskID
}

// With Owns as its Next, the cache neither keeps an answer nor gives one away,
// and still caches the host's other routes.
func TestCacheWithOwns(t *testing.T) {
	send := host(t, func(b *fiberbridge.Bridge) fiber.Handler { return cache.New(cache.Config{Next: b.Owns}) })
	id := taskID(t, send("alice", "POST", "/api/tasks", create))
	for _, path := range []string{"/api/tasks/" + id, "/api/tasks/" + id + "/events"} {
		for range 2 {
			if r := send("alice", "GET", path, ""); r.status != 200 || r.header("Cache-Control") != "no-store" || r.header("X-Cache") == "hit" {
				t.Error(path, r.status, r.body)
			}
			if r := send("bob", "GET", path, ""); r.status != 404 {
				t.Error("bob is given alice's", path, r.body)
			}
		}
	}
	// A refusal is not kept either.
	other := "/api/tasks/" + strings.Repeat("x", 26)
	if r := send("alice", "GET", other, ""); r.status != 404 || r.header("X-Cache") == "hit" {
		t.Error(r.body)
	}
	send("alice", "GET", "/elsewhere", "")
	if r := send("bob", "GET", "/elsewhere", ""); r.body != "alice" || r.header("X-Cache") != "hit" {
		t.Error("nothing is cached at all", r.body)
	}
}

// Why Owns is there: the cache does not look at what a response says about
// itself. Should this fail one day, the care that doc.go asks for can go.
func TestCacheIgnoresNoStore(t *testing.T) {
	send := host(t, func(*fiberbridge.Bridge) fiber.Handler { return cache.New() })
	id := taskID(t, send("alice", "POST", "/api/tasks", create))
	send("alice", "GET", "/api/tasks/"+id, "")
	if r := send("bob", "GET", "/api/tasks/"+id, ""); r.status != 200 {
		t.Error("it has learned", r.status)
	}
}

// idempotency answers whoever sends a key with what it answered first; with
// Owns each gets an answer of their own.
func TestIdempotency(t *testing.T) {
	send := host(t, func(*fiberbridge.Bridge) fiber.Handler { return idempotency.New() })
	alices := send("alice", "POST", "/api/tasks", create)
	if again := send("alice", "POST", "/api/tasks", create); again.status != 201 || again.body != alices.body || again.header("Location") != alices.header("Location") {
		t.Error(again.status, again.body)
	}
	send = host(t, func(b *fiberbridge.Bridge) fiber.Handler { return idempotency.New(idempotency.Config{Next: b.Owns}) })
	id := taskID(t, send("alice", "POST", "/api/tasks", create))
	if r := send("alice", "POST", "/api/tasks", create); r.status != 200 || taskID(t, r) != id {
		t.Error(r.status, r.body)
	}
	if r := send("bob", "POST", "/api/tasks", create); r.status != 201 || taskID(t, r) == id {
		t.Error(r.status, r.body)
	}
}

func TestLimiter(t *testing.T) {
	send := host(t, func(*fiberbridge.Bridge) fiber.Handler { return limiter.New(limiter.Config{Max: 3}) })
	id := taskID(t, send("alice", "POST", "/api/tasks", create))
	for _, path := range []string{"/api/tasks/" + id, "/api/tasks/x"} {
		if r := send("alice", "GET", path, ""); r.header("X-Ratelimit-Limit") != "3" || r.header("Cache-Control") != "no-store" {
			t.Error(path, r.status, r.body)
		}
	}
	if r := send("alice", "GET", "/api/tasks/"+id, ""); r.status != 429 || r.header("Retry-After") == "" {
		t.Error(r.status, r.body)
	}
}
