package fiberbridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	recovering "github.com/gofiber/fiber/v2/middleware/recover"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// bareBridge is a Bridge for tests of what needs neither engine nor streams.
func bareBridge(t *testing.T, change func(*Config)) *Bridge {
	t.Helper()
	cfg := validConfig()
	cfg.Logger = quiet()
	if change != nil {
		change(&cfg)
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	return &Bridge{cfg: cfg, eng: cfg.Engine, textBytes: 3 << 20, streams: &streams{
		cfg: cfg, deadlines: &deadlines{}, subjects: map[string]*subject{},
		arriving: quota{most: cfg.Uploads.MaxBytes, mostEach: cfg.Uploads.MaxBytesPerSubject},
	}}
}

// Every code of the engine's has a line in the table.
func TestEveryCodeHasAStatus(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../engine/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Code" {
			return true
		}
		for _, v := range spec.Values {
			code, _ := strconv.Unquote(v.(*ast.BasicLit).Value)
			seen++
			if _, ok := statuses[engine.Code(code)]; !ok {
				t.Errorf("no status for %s", code)
			}
		}
		return true
	})
	if seen != len(statuses) || seen < 17 {
		t.Errorf("%d codes, %d in the table", seen, len(statuses))
	}
}

type answered struct {
	status int
	header func(string) string
	body   envelope
	raw    string
}

func ask(t *testing.T, app *fiber.App, method, path string) answered {
	t.Helper()
	resp, err := app.Test(httptest.NewRequest(method, path, nil), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	a := answered{status: resp.StatusCode, header: resp.Header.Get, raw: string(raw)}
	if len(raw) > 0 && strings.HasPrefix(a.header("Content-Type"), "application/json") {
		if err := json.Unmarshal(raw, &a.body); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	return a
}

func TestFail(t *testing.T) {
	secret := errors.New("redis://:hunter2@10.0.0.7")
	tests := []struct {
		name    string
		err     error
		status  int
		code    engine.Code
		message string
		retry   string
	}{
		{"not found", engine.NewError(engine.CodeTaskNotFound, "it belongs to bob").WithCause(secret), 404, "TASK_NOT_FOUND", "there is no such task", ""},
		{"wrapped", fmt.Errorf("reading: %w", engine.NewError(engine.CodeIdempotency, "differs")), 409, "IDEMPOTENCY_CONFLICT", "differs", ""},
		{"internal", engine.NewError(engine.CodeInternal, "row 7 of table x").WithCause(secret), 500, "INTERNAL_ERROR", "internal error", ""},
		{"any error", secret, 500, "INTERNAL_ERROR", "internal error", ""},
		{"a host's own code", engine.NewError("MY_CODE", "mine"), 500, "INTERNAL_ERROR", "internal error", ""},
		{"no message", engine.NewError(engine.CodeRateLimited, ""), 429, "RATE_LIMITED", "the request was refused", "any"},
		{"retry rounded up", &engine.Error{Code: engine.CodeServerDraining, Message: "x", RetryAfter: 1200 * time.Millisecond}, 503, "SERVER_DRAINING", "x", "2"},
		{"retry at least one", &engine.Error{Code: engine.CodeStoreUnavailable, Message: "x", RetryAfter: time.Millisecond}, 503, "STORE_UNAVAILABLE", "x", "1"},
		{"retry by default", engine.NewError(engine.CodeTaskSubmission, "full"), 503, "TASK_SUBMISSION_ERROR", "full", "any"},
		{"deadline", fmt.Errorf("get: %w", context.DeadlineExceeded), 503, "STORE_UNAVAILABLE", "the request took too long", "any"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			b := bareBridge(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			app := fiber.New()
			app.Get("/", func(c *fiber.Ctx) error {
				c.Set("X-Request-Id", "kept")
				_ = c.SendString("what was there before")
				return b.fail(c, tt.err)
			})
			a := ask(t, app, "GET", "/")
			if a.status != tt.status || a.body.Code != tt.code || a.body.Message != tt.message {
				t.Errorf("%d %s", a.status, a.raw)
			}
			if a.header("Content-Type") != "application/json" || a.header("X-Request-Id") != "kept" || a.header("Cache-Control") != "no-store" {
				t.Errorf("headers: %q %q %q", a.header("Content-Type"), a.header("X-Request-Id"), a.header("Cache-Control"))
			}
			if strings.Contains(a.raw, "hunter2") {
				t.Error("the cause was shown")
			}
			if tt.status == 500 && errors.Is(tt.err, secret) && !strings.Contains(log.String(), "hunter2") {
				t.Error("the cause is not in the log")
			}
			if at, err := time.Parse(time.RFC3339, a.body.Timestamp); err != nil || !strings.HasSuffix(a.body.Timestamp, "Z") || time.Since(at) > time.Minute {
				t.Errorf("timestamp %q", a.body.Timestamp)
			}
			if !strings.Contains(a.raw, `"details":{}`) {
				t.Errorf("details: %s", a.raw)
			}
			switch got := a.header("Retry-After"); {
			case tt.retry == "any":
				if n, err := strconv.Atoi(got); err != nil || n < 1 || n > 5 {
					t.Errorf("Retry-After %q", got)
				}
			case got != tt.retry:
				t.Errorf("Retry-After %q, want %q", got, tt.retry)
			}
		})
	}
}

func TestValidationAlwaysNamesSomething(t *testing.T) {
	b := bareBridge(t, nil)
	app := fiber.New()
	app.Get("/", func(c *fiber.Ctx) error { return b.fail(c, engine.NewError(engine.CodeRequestValidation, "too deep")) })
	if a := ask(t, app, "GET", "/"); a.status != 422 || len(a.body.Details.Errors) != 1 {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

func TestAuthenticate(t *testing.T) {
	tests := []struct {
		name string
		auth engine.AuthContext
		err  error
		code engine.Code
	}{
		{"ok", engine.AuthContext{Subject: "alice", ExpiresAt: time.Now().Add(time.Minute)}, nil, ""},
		{"nobody", engine.AuthContext{}, nil, engine.CodeAuthentication},
		{"expired", engine.AuthContext{Subject: "alice", ExpiresAt: time.Now()}, nil, engine.CodeAuthentication},
		{"any error", engine.AuthContext{Subject: "alice"}, errors.New("bad token hunter2"), engine.CodeAuthentication},
		{"fiber's error", engine.AuthContext{}, fiber.ErrTeapot, engine.CodeAuthentication},
		{"a passing fault", engine.AuthContext{}, engine.NewError(engine.CodeStoreUnavailable, "no keys"), engine.CodeStoreUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bareBridge(t, func(c *Config) {
				c.Auth = func(*fiber.Ctx) (engine.AuthContext, error) { return tt.auth, tt.err }
			})
			app := fiber.New()
			app.Get("/", func(c *fiber.Ctx) error {
				_, err := b.authenticate(c)
				return b.fail(c, err)
			})
			if tt.code == "" {
				app = fiber.New()
				app.Get("/", func(c *fiber.Ctx) error {
					auth, err := b.authenticate(c)
					if err != nil || auth.Subject != "alice" {
						t.Errorf("%+v, %v", auth, err)
					}
					return nil
				})
			}
			a := ask(t, app, "GET", "/")
			if a.body.Code != tt.code || strings.Contains(a.raw, "hunter2") {
				t.Errorf("%d %s", a.status, a.raw)
			}
		})
	}
}

// A resolver that hands out fasthttp's memory must not hurt: here it is
// overwritten as fasthttp does with the next request on the connection.
func TestAuthenticateCopies(t *testing.T) {
	memory := []byte("alice")
	b := bareBridge(t, func(c *Config) {
		c.Auth = func(*fiber.Ctx) (engine.AuthContext, error) {
			s := unsafeString(memory)
			return engine.AuthContext{Subject: s, AppID: s, Scopes: []string{s}, Attributes: map[string]string{"k": s}}, nil
		}
	})
	app := fiber.New()
	var auth engine.AuthContext
	app.Get("/", func(c *fiber.Ctx) (err error) { auth, err = b.authenticate(c); return err })
	ask(t, app, "GET", "/")
	copy(memory, "mallo")
	if auth.Subject != "alice" || auth.AppID != "alice" || auth.Scopes[0] != "alice" || auth.Attributes["k"] != "alice" {
		t.Errorf("changed with the request: %+v", auth)
	}
}

func TestErrorHandler(t *testing.T) {
	b := bareBridge(t, func(c *Config) {
		c.Auth = func(*fiber.Ctx) (engine.AuthContext, error) { panic("in the host's resolver") }
	})
	hosts := errors.New("the host's own")
	app := fiber.New(fiber.Config{ErrorHandler: b.ErrorHandler(func(c *fiber.Ctx, err error) error {
		return c.Status(418).SendString("host: " + err.Error())
	})})
	app.Use(recovering.New())
	api := app.Group("/api/:tenant", func(c *fiber.Ctx) error {
		switch c.Query("fail") {
		case "host":
			return hosts
		case "nil":
			var route *fiber.Route
			_ = route.Path
		case "403":
			return fiber.ErrForbidden
		case "404":
			return fiber.ErrNotFound
		case "413":
			return fiber.ErrRequestEntityTooLarge
		case "426":
			return fiber.ErrUpgradeRequired
		}
		return c.Next()
	})
	if err := b.Mount(api); err != nil {
		t.Fatal(err)
	}
	app.Get("/api/:tenant/tasks", func(c *fiber.Ctx) error { return fiber.ErrNotFound }) // the host's own list
	app.Get("/by-hand/:taskId", b.Poll)

	tests := []struct {
		method, path string
		status       int
		code         engine.Code // empty: the host's answer
	}{
		{"DELETE", "/api/x/tasks", 405, engine.CodeInvalidRequest},
		{"POST", "/api/x/tasks/abcdefghijklmnop", 405, engine.CodeInvalidRequest},
		{"GET", "/api/x/tasks/abcdefghijklmnop?fail=404", 404, engine.CodeTaskNotFound},
		{"POST", "/api/x/tasks?fail=413", 413, engine.CodeRequestTooLarge},
		{"GET", "/api/x/tasks/ws?fail=426", 426, engine.CodeInvalidRequest},
		{"GET", "/api/x/tasks/abcdefghijklmnop?fail=nil", 500, engine.CodeInternal},
		{"GET", "/api/x/tasks/abcdefghijklmnop", 500, engine.CodeInternal},
		{"HEAD", "/api/x/tasks/abcdefghijklmnop/events", 500, ""},
		{"GET", "/by-hand/abcdefghijklmnop", 500, engine.CodeInternal},
		{"PUT", "/by-hand/abcdefghijklmnop", 405, engine.CodeInvalidRequest},

		{"GET", "/api/x/tasks", 418, ""},
		{"GET", "/api/x/tasks/abcdefghijklmnop?fail=host", 418, ""},
		{"GET", "/api/x/tasks/abcdefghijklmnop?fail=403", 418, ""},
		{"GET", "/api/x/nothing", 418, ""},
		{"GET", "/elsewhere", 418, ""},
		{"GET", "/api/x/tasks/a/b/c/d", 418, ""},
	}
	for _, tt := range tests {
		a := ask(t, app, tt.method, tt.path)
		if a.status != tt.status || a.body.Code != tt.code {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, a.status, a.raw)
		}
		if strings.Contains(a.raw, "resolver") {
			t.Errorf("%s %s shows the panic: %s", tt.method, tt.path, a.raw)
		}
		if tt.status == 405 && a.header("Allow") == "" {
			t.Errorf("%s %s: no Allow", tt.method, tt.path)
		}
	}
}

// An app that is mounted below another has its routes under a new prefix.
func TestErrorHandlerInSubApp(t *testing.T) {
	b := bareBridge(t, nil)
	app := fiber.New(fiber.Config{ErrorHandler: b.ErrorHandler(nil)})
	sub := fiber.New()
	if err := b.Mount(sub.Group("/v1")); err != nil {
		t.Fatal(err)
	}
	app.Mount("/api", sub)
	if a := ask(t, app, "DELETE", "/api/v1/tasks"); a.status != 405 || a.body.Code != engine.CodeInvalidRequest {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if a := ask(t, app, "DELETE", "/v1/tasks"); a.status != 404 || a.body.Code != "" {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

func TestMountRefuses(t *testing.T) {
	b := bareBridge(t, nil)
	var app *fiber.App
	var group *fiber.Group
	for _, r := range []fiber.Router{nil, app, group} {
		if b.Mount(r) == nil || b.MountHealth(r) == nil {
			t.Errorf("%T taken", r)
		}
	}
}
