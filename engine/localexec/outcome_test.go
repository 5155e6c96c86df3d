package localexec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

type ownError struct{ f engine.Failed }

func (e *ownError) Error() string             { return "own: secret" }
func (e *ownError) TaskFailed() engine.Failed { return e.f }

type panicky struct{}

func (panicky) MarshalJSON() ([]byte, error) { panic("in MarshalJSON") }

var errSecret = errors.New("password is hunter2")

func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		fn     func(ctx context.Context, run *engine.Run) (any, error)
		want   []string
		logged string // must be in the log
	}{
		"a result": {
			fn:   func(context.Context, *engine.Run) (any, error) { return map[string]any{"a": "<&>"}, nil },
			want: []string{`TASK_COMPLETED {"result":{"a":"<&>"}}`},
		},
		"no result": {
			fn:   func(context.Context, *engine.Run) (any, error) { return nil, nil },
			want: []string{`TASK_COMPLETED {"result":null}`},
		},
		"a failure, wrapped": {
			fn: func(context.Context, *engine.Run) (any, error) {
				return nil, fmt.Errorf("hidden: %w", localexec.Fail("NO_TEXT", "there is no text", true))
			},
			want: []string{failed("NO_TEXT", "there is no text", true)},
		},
		"a failure of the host's own type": {
			fn: func(context.Context, *engine.Run) (any, error) {
				return nil, &ownError{engine.Failed{Code: "OWN", Message: "m"}}
			},
			want: []string{failed("OWN", "m", false)},
		},
		"a failure that cannot be sent": {
			fn: func(context.Context, *engine.Run) (any, error) {
				return nil, localexec.Fail("X", "\xff", false)
			},
			want:   []string{failed("TASK_EXECUTION_FAILED", "the task failed", false)},
			logged: "not stored",
		},
		"a coded error": {
			fn: func(context.Context, *engine.Run) (any, error) {
				return nil, engine.NewError(engine.CodeRateLimited, "slow down").WithCause(errSecret)
			},
			want: []string{failed("RATE_LIMITED", "slow down", true)},
		},
		"any other error": {
			fn:     func(context.Context, *engine.Run) (any, error) { return nil, errSecret },
			want:   []string{failed("TASK_EXECUTION_FAILED", "the task failed", false)},
			logged: "hunter2",
		},
		"a panic": {
			fn:     func(context.Context, *engine.Run) (any, error) { panic(errSecret) },
			want:   []string{failed("HANDLER_PANIC", "the task crashed", false)},
			logged: "hunter2",
		},
		"a nil panic": {
			fn:     func(context.Context, *engine.Run) (any, error) { panic(nil) },
			want:   []string{failed("HANDLER_PANIC", "the task crashed", false)},
			logged: "stack",
		},
		"Goexit": {
			fn:     func(context.Context, *engine.Run) (any, error) { runtime.Goexit(); return nil, nil },
			want:   []string{failed("HANDLER_PANIC", "the task crashed", false)},
			logged: "outcome_test.go",
		},
		"a panic in the result's encoding": {
			fn:   func(context.Context, *engine.Run) (any, error) { return panicky{}, nil },
			want: []string{failed("HANDLER_PANIC", "the task crashed", false)},
		},
		"a result that is no JSON": {
			fn: func(context.Context, *engine.Run) (any, error) { return math.NaN(), nil },
			want: []string{failed("RESULT_NOT_ENCODABLE",
				"the task's result cannot be encoded as JSON", false)},
			logged: "NaN",
		},
		"a terminal event of its own": {
			fn: func(ctx context.Context, run *engine.Run) (any, error) {
				return "late", run.EmitRaw(ctx, engine.TypeCompleted, json.RawMessage(`{"result":1,"extra":2}`))
			},
			want: []string{`TASK_COMPLETED {"result":1,"extra":2}`},
		},
		"a terminal event of its own, then an error and a stream": {
			fn: func(ctx context.Context, run *engine.Run) (any, error) {
				_ = run.Emit(ctx, engine.Failed{Code: "OWN", Message: "m"})
				run.Text("late")
				return nil, errSecret
			},
			want: []string{failed("OWN", "m", false)},
		},
		"an expired suspension": {
			fn: func(ctx context.Context, run *engine.Run) (any, error) {
				at := time.Now().Add(30 * time.Second)
				_, err := run.Suspend(ctx, engine.Suspended{
					SuspendID: "s", Kind: engine.UserActionRequired, ReasonCode: "R", AllowedActions: []string{"ok"}, ExpiresAt: &at,
				})
				return nil, fmt.Errorf("asking: %w", err)
			},
			want: []string{
				`TASK_SUSPENDED {"suspendId":"s","kind":"USER_ACTION_REQUIRED","reasonCode":"R","allowedActions":["ok"],"schemaVersion":1,"expiresAt":"2000-01-01T00:00:30Z"}`,
				failed("SUSPENSION_EXPIRED", "nobody answered in time", false),
			},
		},
		"streamed text": {
			fn: func(_ context.Context, run *engine.Run) (any, error) {
				run.Text("a")
				run.Text("b")
				return true, nil
			},
			want: []string{`TASK_MESSAGE {"message":"a"}`, `TASK_MESSAGE {"message":"b"}`, `TASK_COMPLETED {"result":true}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, localexec.Config{}, nil, localexec.Handle("x",
					func(ctx context.Context, run *engine.Run, _ empty) (any, error) { return c.fn(ctx, run) }))
				id := h.create("x", `{}`)
				h.wantLog(id, append([]string{started}, c.want...)...)
				synctest.Wait()
				if log := h.logged.String(); !strings.Contains(log, c.logged) {
					t.Errorf("%q is missing in the log:\n%s", c.logged, log)
				}
			})
		})
	}
}

// What is refused for its size or form is not silently missing: the task fails.
func TestRefusedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, nil,
			localexec.Handle("result", func(context.Context, *engine.Run, empty) (string, error) {
				return strings.Repeat("x", 5000), nil
			}),
			localexec.Handle("stream", func(_ context.Context, run *engine.Run, _ empty) (string, error) {
				run.Stream(engine.Message{Text: strings.Repeat("x", 5000)})
				return "fine", nil
			}),
		)
		for taskType, code := range map[string]string{"result": "RESULT_REFUSED", "stream": "EVENT_REFUSED"} {
			log := h.log(h.create(taskType, `{}`))
			if !strings.HasPrefix(log, started+"\n"+`TASK_FAILED {"code":"`+code+`","message":"`) {
				t.Errorf("%s: the log is\n%s", taskType, log)
			}
		}
	})
}
