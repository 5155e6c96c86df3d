package generators

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	_ "github.com/oapi-codegen/runtime" // what oapi-codegen generates imports it
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

// outcome is what both programs print at the end: who answered, with what.
const outcome = "COMPLETED approve 616581622363398"

// startHost serves one task type, "approval", on a free port, and returns the
// URL of its root.
func startHost(t *testing.T) string {
	t.Helper()
	type input struct {
		Question string `json:"question"`
	}
	type result struct {
		Decision string `json:"decision"`
		Payload  any    `json:"payload"`
	}
	approval := func(ctx context.Context, run *engine.Run, in input) (result, error) {
		answer, err := run.Suspend(ctx, engine.Suspended{
			Kind: engine.UserActionRequired, ReasonCode: "approval", AllowedActions: []string{"approve", "reject"},
			UIHints: json.RawMessage(`{"title":` + strconv.Quote(in.Question) + `}`),
		})
		return result{answer.ActionType, answer.Payload}, err
	}
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("approval", approval))
	if err != nil {
		t.Fatal(err)
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		t.Fatal(err)
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{Engine: eng, Logger: slog.New(slog.DiscardHandler), Auth: func(c *fiber.Ctx) (engine.AuthContext, error) {
		subject, ok := strings.CutPrefix(c.Get(fiber.HeaderAuthorization), "Bearer ")
		if !ok {
			return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "a bearer token is required")
		}
		return engine.AuthContext{Subject: strings.Clone(subject)}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	if err := bridge.Mount(app.Group("/api/v1")); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := bridge.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := app.ShutdownWithContext(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("http://%s", listener.Addr())
}

// run runs a command in dir and returns its output; a failure fails the test.
func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
