package readers

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock for the Date header is never stopped, and the cleaner
		// of a server's worker pool looks up every ten seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// host serves the task types "talk", which pauses between its messages, and
// "wait", which does nothing until it is released; POST /post, which answers; and
// POST /cut, which calls cut.
type host struct {
	url    string
	eng    *engine.Engine
	bridge *fiberbridge.Bridge
	cut    func()
	// release ends the tasks that wait.
	release func()
}

var reader = engine.AuthContext{Subject: "reader"}

// patience is far more than anything here takes.
const patience = 5 * time.Minute

func startHost(t *testing.T, sse fiberbridge.SSEConfig) *host {
	t.Helper()
	talk := func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		for range 3 {
			run.Stream(engine.Message{Text: "x"})
			select { // for several heartbeats
			case <-time.After(5 * sse.Heartbeat):
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		return "done", nil
	}
	released := make(chan struct{})
	wait := func(ctx context.Context, _ *engine.Run, _ struct{}) (string, error) {
		select {
		case <-released:
		case <-ctx.Done():
		}
		return "", ctx.Err()
	}
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	executor, err := localexec.New(localexec.Config{}, localexec.Handle("talk", talk), localexec.Handle("wait", wait))
	if err != nil {
		t.Fatal(err)
	}
	h := &host{release: sync.OnceFunc(func() { close(released) })}
	if h.eng, err = engine.New(engine.Config{Store: store, Executor: executor, Ownership: engine.OwnerOnly()}); err != nil {
		t.Fatal(err)
	}
	h.bridge, err = fiberbridge.New(fiberbridge.Config{
		Engine: h.eng, SSE: sse,
		Auth:  func(*fiber.Ctx) (engine.AuthContext, error) { return reader, nil },
		Drain: fiberbridge.DrainConfig{NotReady: -1, Spread: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/post", func(c *fiber.Ctx) error { return c.SendString("y") })
	app.Post("/cut", func(c *fiber.Ctx) error { h.cut(); return nil })
	if err := h.bridge.Mount(app.Group("/api/v1")); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.url = "http://" + listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- app.Listener(listener) }()
	t.Cleanup(func() {
		h.release() // or the shutdown would wait for them
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(h.bridge.Shutdown(ctx), app.ShutdownWithContext(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	return h
}

// stream creates a task and returns the path of its stream.
func (h *host) stream(t *testing.T, taskType string) (id, path string) {
	t.Helper()
	res, err := h.eng.Create(t.Context(), reader, engine.CreateRequest{ClientRequestID: t.Name(), TaskType: taskType})
	if err != nil {
		t.Fatal(err)
	}
	return res.Task.ID, "/api/v1/tasks/" + res.Task.ID + "/events/stream"
}

// node and python run a program of testdata with the packages that the project
// pins, and return what it prints.
func node(t *testing.T, program string, args ...string) string {
	t.Helper()
	cache := packages(t, "js")
	dir := t.TempDir() // packages are looked for beside the program
	if err := os.Symlink(filepath.Join(cache, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", program))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, program), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, "node", append([]string{filepath.Join(dir, program)}, args...)...)
}

func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	return run(t, filepath.Join(packages(t, "py"), "bin", "python"), append([]string{filepath.Join("testdata", program)}, args...)...)
}

// packages installs what is pinned in .ci, and returns where it is.
func packages(t *testing.T, what string) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Join(root, ".ci", "packages"), what)
	return filepath.Join(root, ".cache", what)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
