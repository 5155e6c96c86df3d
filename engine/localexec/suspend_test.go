package localexec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

func decide(ctx context.Context, run *engine.Run, _ empty) (map[string]any, error) {
	answer, err := run.Suspend(ctx, engine.Suspended{
		SuspendID: "s", Kind: engine.UserActionRequired, ReasonCode: "R", AllowedActions: []string{"approve", "reject"},
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"decision": answer.ActionType, "payload": answer.Payload}, nil
}

const suspended = `TASK_SUSPENDED {"suspendId":"s","kind":"USER_ACTION_REQUIRED","reasonCode":"R","allowedActions":["approve","reject"],"schemaVersion":1}`

func (h *host) act(taskID, actionType, payload string) {
	h.Helper()
	res, err := h.engine.Act(context.Background(), ann, engine.ActionRequest{
		TaskID: taskID, ClientActionID: "c", SuspendID: "s", ActionType: actionType, Payload: json.RawMessage(payload),
	})
	if err != nil || res.Status != engine.ActionStatusAccepted {
		h.Errorf("the answer became %+v, %v", res, err)
	}
}

func TestHandlerIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", decide))
		id := h.create("x", `{}`)
		synctest.Wait()
		time.Sleep(time.Hour)
		h.act(id, "approve", `{"by":"hand"}`)
		h.wantLog(id, started, suspended,
			`TASK_ACTION_ACCEPTED {"suspendId":"s","clientActionId":"c","actionType":"approve","acceptedAt":"2000-01-01T01:00:00Z"}`,
			`TASK_COMPLETED {"result":{"decision":"approve","payload":{"by":"hand"}}}`)
	})
}

// On a store that ends with its process nobody else could go on.
func TestShutdownWhileSuspended(t *testing.T) {
	for name, opts := range map[string][]localexec.HandlerOption{"once": nil, "restartable": {localexec.Restartable()}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", decide, opts...))
				answered, left := h.create("x", `{}`), h.create("x", `{}`)
				synctest.Wait()
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				done := make(chan error)
				go func() { done <- h.exec.Shutdown(ctx) }()
				time.Sleep(5 * time.Second)
				h.act(answered, "reject", `{}`) // there is time for that
				if err := <-done; err != nil {
					t.Error(err)
				}
				h.wantLog(left, started, suspended, failed("EXECUTOR_SHUTDOWN", "the server was shut down", true))
				h.wantLog(answered, started, suspended,
					`TASK_ACTION_ACCEPTED {"suspendId":"s","clientActionId":"c","actionType":"reject","acceptedAt":"2000-01-01T00:00:05Z"}`,
					`TASK_COMPLETED {"result":{"decision":"reject","payload":{}}}`)
			})
		})
	}
}

func TestCancelWhileSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", decide))
		id := h.create("x", `{}`)
		synctest.Wait()
		h.cancel(id, "enough")
		h.wantLog(id, started, suspended, `TASK_CANCELLED {"reason":"enough"}`)
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		ran, requests := 0, 0
		h := newHost(t, localexec.Config{Workers: 1, Queue: -1}, nil,
			localexec.Handle("once", decide),
			localexec.Handle("again", func(ctx context.Context, run *engine.Run, _ empty) (bool, error) {
				ran++
				if !run.Restarted() {
					t.Error("it is not said to be run again")
				}
				time.Sleep(30 * time.Second)
				return true, nil
			}, localexec.Restartable()))
		if h.exec.Restartable("once") || !h.exec.Restartable("again") || h.exec.Restartable("other") {
			t.Error("Restartable")
		}
		orphan := func(taskType string) engine.Task {
			t.Helper()
			requests++
			task, _, err := h.store.Create(ctx, engine.Task{
				Type: taskType, Owner: "ann", ClientRequestID: fmt.Sprint("orphan ", requests), Status: engine.StatusAccepted, Restartable: true,
			})
			if err == nil {
				_, err = h.store.Append(ctx, engine.Append{TaskID: task.ID, Token: "t", Events: []engine.Draft{{Type: engine.TypeStarted, Payload: []byte(`{}`)}}})
			}
			if err == nil {
				task, err = h.store.Get(ctx, task.ID, engine.Fresh)
			}
			if err != nil {
				t.Fatal(err)
			}
			return task
		}
		for _, taskType := range []string{"once", "other"} {
			if err := h.exec.Restart(ctx, orphan(taskType)); engine.CodeOf(err) != engine.CodeInvalidRequest {
				t.Errorf("%s: %v", taskType, err)
			}
		}
		task, waits := orphan("again"), orphan("again")
		if err := h.exec.Restart(ctx, task); err != nil {
			t.Fatal(err)
		}
		if err := h.exec.Restart(ctx, task); err == nil {
			t.Error("it runs twice")
		}
		if err := h.exec.Restart(ctx, waits); engine.CodeOf(err) != engine.CodeTaskSubmission {
			t.Errorf("a full executor said %v", err)
		}
		if err := h.exec.Resume(ctx, waits, engine.Suspension{}, engine.Action{}); !errors.Is(err, engine.ErrHandOffPending) {
			t.Errorf("%v", err)
		}
		h.wantLog(task.ID, started, `TASK_STARTED {"restarts":1}`, `TASK_COMPLETED {"result":true}`)
		synctest.Wait()
		if err := h.exec.Resume(ctx, waits, engine.Suspension{}, engine.Action{}); !errors.Is(err, engine.ErrHandOffPending) {
			t.Errorf("%v", err)
		}
		h.wantLog(waits.ID, started, `TASK_STARTED {"restarts":1}`, `TASK_COMPLETED {"result":true}`)
		if ran != 2 {
			t.Errorf("it ran %d times", ran)
		}
		if err := h.exec.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		if err := h.exec.Restart(ctx, orphan("again")); engine.CodeOf(err) != engine.CodeTaskSubmission {
			t.Errorf("after the shutdown: %v", err)
		}
	})
}
