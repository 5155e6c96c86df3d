package localexec_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestExecutorSuite(t *testing.T) {
	for name, cfg := range map[string]localexec.Config{
		"a worker each":      {Workers: 64, Queue: -1},
		"mostly queued":      {Workers: 7, Queue: 57},
		"a worker, no queue": {Workers: 1, Queue: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			enginetest.TestExecutor(t, func(t *testing.T, handlers map[string]enginetest.Handler) engine.TaskExecutor {
				return newExecutor(t, cfg, handle(handlers))
			}, enginetest.ExecutorOptions{Capacity: cfg.Workers + max(cfg.Queue, 0)})
		})
	}
}

// handle makes options of the suites' handlers.
func handle(handlers map[string]enginetest.Handler, opts ...localexec.HandlerOption) (out []localexec.Option) {
	for taskType, h := range handlers {
		out = append(out, localexec.Handle(taskType, func(ctx context.Context, run *engine.Run, in json.RawMessage) (any, error) {
			return h(ctx, run, in)
		}, opts...))
	}
	return out
}

func newExecutor(t *testing.T, cfg localexec.Config, opts []localexec.Option) engine.TaskExecutor {
	t.Helper()
	cfg.Logger = quiet()
	// The suites create everything as one subject.
	cfg.WorkersPerSubject, cfg.QueuePerSubject = -1, -1
	exec, err := localexec.New(cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return exec
}

func TestRestarterSuite(t *testing.T) {
	for name, cfg := range map[string]localexec.Config{"roomy": {}, "mostly queued": {Workers: 4, Queue: 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			enginetest.TestRestarter(t, func(t *testing.T, restartable, once map[string]enginetest.Handler) engine.TaskExecutor {
				return newExecutor(t, cfg, append(handle(restartable, localexec.Restartable()), handle(once)...))
			})
		})
	}
}

func TestResumerSuite(t *testing.T) {
	for name, opts := range map[string][]localexec.HandlerOption{"once": nil, "restartable": {localexec.Restartable()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			enginetest.TestResumer(t, func(t *testing.T, handlers map[string]enginetest.Handler) engine.TaskExecutor {
				return newExecutor(t, localexec.Config{}, handle(handlers, opts...))
			})
		})
	}
}
