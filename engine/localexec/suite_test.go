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
			cfg.Logger = quiet()
			enginetest.TestExecutor(t, func(t *testing.T, handlers map[string]enginetest.Handler) engine.TaskExecutor {
				var opts []localexec.Option
				for taskType, h := range handlers {
					opts = append(opts, localexec.Handle(taskType, func(ctx context.Context, run *engine.Run, in json.RawMessage) (any, error) {
						return h(ctx, run, in)
					}))
				}
				exec, err := localexec.New(cfg, opts...)
				if err != nil {
					t.Fatal(err)
				}
				return exec
			}, enginetest.ExecutorOptions{Capacity: cfg.Workers + max(cfg.Queue, 0)})
		})
	}
}
