package fiberbridge

import (
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func validConfig() Config {
	return Config{
		Engine: new(engine.Engine),
		Auth:   func(*fiber.Ctx) (engine.AuthContext, error) { return engine.AuthContext{Subject: "alice"}, nil },
	}
}

func TestConfigErrorsNameTheField(t *testing.T) {
	tests := map[string]func(*Config){
		"Config.Engine":                                func(c *Config) { c.Engine = nil },
		"Config.Auth":                                  func(c *Config) { c.Auth = nil },
		`Routes.Create: "tasks"`:                       func(c *Config) { c.Routes.Create = "tasks" },
		`Routes.Create: "/tasks/:taskid"`:              func(c *Config) { c.Routes.Create = "/tasks/:taskid" },
		`Routes.Create: "/a b"`:                        func(c *Config) { c.Routes.Create = "/a b" },
		`Routes.Create: "/ä"`:                          func(c *Config) { c.Routes.Create = "/ä" },
		`Routes.Create: "//x"`:                         func(c *Config) { c.Routes.Create = "//x" },
		`Routes.Create: "/x?y"`:                        func(c *Config) { c.Routes.Create = "/x?y" },
		`Routes.Create: "/:a/:A"`:                      func(c *Config) { c.Routes.Create = "/:a/:A" },
		`Routes.Create: "/x/:"`:                        func(c *Config) { c.Routes.Create = "/x/:" },
		`Routes.Create: "/*"`:                          func(c *Config) { c.Routes.Create = "/*" },
		`Routes.Create: "` + strings.Repeat("/:p", 40): func(c *Config) { c.Routes.Create = strings.Repeat("/:p", 40) },
		`Routes.Snapshot: "/tasks/:id"`:                func(c *Config) { c.Routes.Snapshot = "/tasks/:id" },
		`Routes.Snapshot: "/tasks/:taskId?"`:           func(c *Config) { c.Routes.Snapshot = "/tasks/:taskId?" },
		`Routes.Poll: "/tasks/:taskIds"`:               func(c *Config) { c.Routes.Poll = "/tasks/:taskIds" },
		`Routes.SSE: "/stream"`:                        func(c *Config) { c.Routes.SSE = "/stream" },
		`Routes.Cancel: "/cancel"`:                     func(c *Config) { c.Routes.Cancel = "/cancel" },
		`Routes.Cancel: "/T/:taskId/" is the same as Create`: func(c *Config) {
			c.Routes.Cancel = "/T/:taskId/"
			c.Routes.Create = "/t/:other"
		},
		`Routes.Poll: "/tasks/:taskId" is the same as Snapshot`: func(c *Config) { c.Routes.Poll = "/tasks/:taskId" },
		`Routes.Ready: "/health" is the same as Health`:         func(c *Config) { c.Routes.Ready = "/health" },
		"Config.SSE.Heartbeat is 15ns":                          func(c *Config) { c.SSE.Heartbeat = 15 },
		"Config.SSE.Retry":                                      func(c *Config) { c.SSE.Retry = -1 },
		"Config.WebSocket.PongTimeout":                          func(c *Config) { c.WebSocket.PongTimeout = -time.Second },
		"Config.WebSocket.MessageBytes":                         func(c *Config) { c.WebSocket.MessageBytes = -1 },
		"Config.WebSocket.MaxSubscriptions":                     func(c *Config) { c.WebSocket.MaxSubscriptions = -1 },
		"Config.Origins[1]":                                     func(c *Config) { c.Origins = []string{"*", "example.com"} },
		"Config.Origins[0]":                                     func(c *Config) { c.Origins = []string{"https://example.com/x"} },
		"Config.Streams.Max":                                    func(c *Config) { c.Streams.Max = -1 },
		"Config.Streams.MaxAge":                                 func(c *Config) { c.Streams.MaxAge = 3600 },
		"Config.Streams.WriteTimeout":                           func(c *Config) { c.Streams.WriteTimeout = -1 },
		"Config.Uploads.MaxFiles":                               func(c *Config) { c.Uploads.MaxFiles = -1 },
		"Config.Uploads.MaxFileBytes":                           func(c *Config) { c.Uploads.MaxFileBytes = -1 },
		"Config.Uploads.MaxTotalBytes":                          func(c *Config) { c.Uploads.MaxTotalBytes = -1 },
		"Config.Drain.RetryMin is longer":                       func(c *Config) { c.Drain.RetryMin, c.Drain.RetryMax = time.Minute, time.Second },
	}
	for want, spoil := range tests {
		cfg := validConfig()
		spoil(&cfg)
		_, err := New(cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	given := validConfig()
	given.WebSocket.Heartbeat = 3 * time.Second
	given.Origins = []string{"https://a.example"}
	given.Drain.NotReady = -1
	given.Drain.RetryMin = time.Minute
	given.Uploads.MaxFileBytes = 100 << 20
	before := given.WebSocket
	got := given.withDefaults()
	if err := got.validate(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(given.WebSocket, before) || given.Routes.Create != "" {
		t.Error("the caller's config was changed")
	}
	given.Origins[0] = "*"
	if got.Origins[0] != "https://a.example" {
		t.Error("the copy shares the caller's list")
	}
	if got.WebSocket.PongTimeout != 3*time.Second || got.Drain.NotReady != -1 || got.Drain.RetryMax != time.Minute ||
		got.Routes.SSE != "/tasks/:taskId/events/stream" || got.Routes.OpenAPI != "-" || got.Streams.Max < 1 || got.Logger == nil ||
		got.Uploads.MaxTotalBytes != 100<<20 {
		t.Errorf("defaults: %+v", got)
	}
}

// Whatever path passes, Fiber registers without a panic, and finds.
func FuzzRoutePath(f *testing.F) {
	for _, seed := range []string{"/tasks", "/tasks/:taskId", "/p/:projectId/t/:taskId.json", "/:a:taskId", "/:taskId-:x", "/a:b", "/::taskId", "/(x)/:taskId", "/:taskId,x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if path == "" || validatePath(path, true) != nil {
			return
		}
		app := fiber.New()
		app.Get(path, func(c *fiber.Ctx) error { return nil })
		for _, r := range app.Stack()[0] {
			found := false
			for _, p := range r.Params {
				found = found || p == taskParam
			}
			if !found {
				t.Fatalf("%q: Fiber sees %q", path, r.Params)
			}
		}
	})
}

func TestPreforkIsSeen(t *testing.T) {
	for _, prefork := range []bool{true, false} {
		app := fiber.New(fiber.Config{Prefork: prefork})
		for name, router := range map[string]fiber.Router{
			"app": app, "group": app.Group("/api"), "group in a group": app.Group("/api").Group("/v1", func(c *fiber.Ctx) error { return c.Next() }),
		} {
			if got := hasPrefork(router); got != prefork {
				t.Errorf("%s: %v, want %v", name, got, prefork)
			}
		}
	}
}
