package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// Handler is what an executor under test runs for one type of task: its result
// completes the task, its error fails it, unless it was cancelled.
type Handler func(ctx context.Context, run *engine.Run, input json.RawMessage) (any, error)

// ExecutorOptions says what the suite needs to know of an executor.
type ExecutorOptions struct {
	// Capacity is how many places the executor that open returns can hold, all
	// in all. 0 is unknown: refusing at the limit is then not tested.
	Capacity int
}

// TestExecutor holds an executor against the contract of engine.TaskExecutor.
// open returns an executor that knows exactly the given types of task; the
// suite puts an engine and an embedded store around it and shuts it down.
func TestExecutor(t *testing.T, open func(t *testing.T, handlers map[string]Handler) engine.TaskExecutor, opts ExecutorOptions) {
	for name, test := range map[string]func(h *executorHost){
		"what can never run is refused before it is stored": testAdmitInvalid,
		"a submitted task starts and ends":                  testRuns,
		"every way out of a handler ends the task":          testEveryEnd,
		"a cancel request ends the run's context":           testCancelRunning,
		"submit does not wait for workers":                  testSubmitReturns,
		"a released place is free again":                    testRelease,
		"many tasks at once all end":                        testManyTasks,
		"shutdown ends what runs":                           testShutdown,
	} {
		t.Run(name, func(t *testing.T) {
			h := &executorHost{T: t, capacity: opts.Capacity, unblock: make(chan struct{})}
			h.open(open)
			test(h)
		})
	}
}

// executorHost is an engine around the executor under test.
type executorHost struct {
	*testing.T
	engine   *engine.Engine
	store    *memstore.Store
	exec     engine.TaskExecutor
	capacity int

	requests int
	once     sync.Once
	unblock  chan struct{} // closed: what "block" waits for besides its context
}

var suiteAuth = engine.AuthContext{Subject: "suite"}

var errSecret = errors.New("secret of the host")

func (h *executorHost) open(open func(*testing.T, map[string]Handler) engine.TaskExecutor) {
	var err error
	if h.store, err = memstore.New(memstore.Config{}); err != nil {
		h.Fatal(err)
	}
	h.exec = open(h.T, map[string]Handler{
		"echo": func(_ context.Context, _ *engine.Run, in json.RawMessage) (any, error) { return in, nil },
		"talk": func(ctx context.Context, run *engine.Run, _ json.RawMessage) (any, error) {
			run.Text("hello")
			return "done", run.Progress(ctx, 50, "half")
		},
		"own": func(ctx context.Context, run *engine.Run, _ json.RawMessage) (any, error) {
			return nil, ownEnd(ctx, run)
		},
		"error":  func(context.Context, *engine.Run, json.RawMessage) (any, error) { return nil, errSecret },
		"panic":  func(context.Context, *engine.Run, json.RawMessage) (any, error) { panic(errSecret) },
		"goexit": func(context.Context, *engine.Run, json.RawMessage) (any, error) { runtime.Goexit(); return nil, nil },
		"block": func(ctx context.Context, _ *engine.Run, _ json.RawMessage) (any, error) {
			select {
			case <-h.unblock:
				return "unblocked", nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	})
	h.engine, err = engine.New(engine.Config{
		Store: h.store, Executor: h.exec, Ownership: engine.OwnerOnly(),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		h.release()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.engine.Shutdown(ctx); err != nil {
			h.Errorf("Shutdown: %v", err)
		}
	})
}

func ownEnd(ctx context.Context, run *engine.Run) error {
	return run.Emit(ctx, engine.Failed{Code: "OWN", Message: "own words"})
}

// release lets every "block" return.
func (h *executorHost) release() { h.once.Do(func() { close(h.unblock) }) }

func (h *executorHost) create(taskType, input string) (engine.Task, error) {
	h.requests++
	res, err := h.engine.Create(h.Context(), suiteAuth, engine.CreateRequest{
		ClientRequestID: fmt.Sprint("request ", h.requests), TaskType: taskType, Input: json.RawMessage(input),
	})
	return res.Task, err
}

func (h *executorHost) mustCreate(taskType, input string) string {
	h.Helper()
	task, err := h.create(taskType, input)
	if err != nil {
		h.Fatalf("Create %q: %v", taskType, err)
	}
	return task.ID
}

// wait waits for the task's end and returns its log.
func (h *executorHost) wait(taskID string) []engine.Event {
	h.Helper()
	eventually(h.T, "the task ends", func() bool {
		task, err := h.store.Get(context.Background(), taskID, engine.Fresh)
		if err != nil {
			h.Fatal(err)
		}
		return task.Terminal != nil
	})
	log := readAll(h.T, h.store, taskID)
	checkDense(h.T, log, 1)
	return log
}

func (h *executorHost) waitStarted(taskID string) {
	h.Helper()
	eventually(h.T, "the task starts", func() bool {
		task, err := h.store.Get(h.Context(), taskID, engine.Fresh)
		return err == nil && task.Status != engine.StatusAccepted
	})
}

func testAdmitInvalid(h *executorHost) {
	_, err := h.exec.Admit(h.Context(), engine.TaskSpec{Type: "unknown", Input: []byte(`{}`)})
	wantCode(h.T, "Admit of an unknown type", err, engine.CodeInvalidRequest)
	_, err = h.create("unknown", `{}`)
	wantCode(h.T, "Create of an unknown type", err, engine.CodeInvalidRequest)
	_, err = h.store.Lookup(h.Context(), suiteAuth.Subject, "request 1")
	wantCode(h.T, "Lookup of what was refused", err, engine.CodeTaskNotFound)
}

func testRuns(h *executorHost) {
	log := h.wait(h.mustCreate("echo", `{"a":[1]}`))
	if len(log) != 2 || log[0].Type != engine.TypeStarted || log[1].Type != engine.TypeCompleted ||
		string(log[1].Payload) != `{"result":{"a":[1]}}` {
		h.Errorf("the log is %s", log)
	}
	log = h.wait(h.mustCreate("talk", `{}`))
	var types []string
	for _, ev := range log {
		types = append(types, string(ev.Type))
	}
	if got, want := strings.Join(types, " "), "TASK_STARTED TASK_MESSAGE TASK_PROGRESS TASK_COMPLETED"; got != want {
		h.Errorf("the log is %s, want %s", got, want)
	}
}

func testEveryEnd(h *executorHost) {
	for _, taskType := range []string{"error", "panic", "goexit", "own"} {
		log := h.wait(h.mustCreate(taskType, `{}`))
		end := log[len(log)-1]
		if log[0].Type != engine.TypeStarted || end.Type != engine.TypeFailed {
			h.Errorf("%s: the log is %s", taskType, log)
		}
		if strings.Contains(string(end.Payload), "secret") {
			h.Errorf("%s: clients see %s", taskType, end.Payload)
		}
		if own := strings.Contains(string(end.Payload), `"OWN"`); own != (taskType == "own") {
			h.Errorf("%s: it ends with %s", taskType, end.Payload)
		}
	}
}

func testCancelRunning(h *executorHost) {
	id := h.mustCreate("block", `{}`)
	h.waitStarted(id)
	for _, reason := range []string{"enough", "again"} {
		if _, err := h.engine.Cancel(h.Context(), suiteAuth, id, reason); err != nil {
			h.Fatal(err)
		}
	}
	log := h.wait(id)
	if end := log[len(log)-1]; end.Type != engine.TypeCancelled || string(end.Payload) != `{"reason":"enough"}` {
		h.Errorf("it ends with %s %s", end.Type, end.Payload)
	}
	// For a task that is over, and one that it never had, Cancel does nothing.
	if err := h.exec.Cancel(h.Context(), engine.Task{ID: id, CancelReason: "late"}); err != nil {
		h.Errorf("Cancel of a task that is over: %v", err)
	}
	if err := h.exec.Cancel(h.Context(), engine.Task{ID: "aaaaaaaaaaaaaaaaaaaa"}); err != nil {
		h.Errorf("Cancel of another's task: %v", err)
	}
}

func testSubmitReturns(h *executorHost) {
	n := h.capacity
	if n == 0 {
		n = 20
	}
	start := time.Now()
	var ids []string
	for range n {
		ids = append(ids, h.mustCreate("block", `{}`))
	}
	if took := time.Since(start); took > patience/2 {
		h.Errorf("%d creates took %v while nothing could end", n, took)
	}
	if h.capacity > 0 {
		_, err := h.create("block", `{}`)
		wantCode(h.T, "Create on a full executor", err, engine.CodeTaskSubmission)
		_, err = h.store.Lookup(h.Context(), suiteAuth.Subject, fmt.Sprint("request ", h.requests))
		wantCode(h.T, "Lookup of what was refused", err, engine.CodeTaskNotFound)
		// The last in the queue may be cancelled without ever having run.
		last := ids[len(ids)-1]
		if _, err := h.engine.Cancel(h.Context(), suiteAuth, last, "queued"); err != nil {
			h.Fatal(err)
		}
		if log := h.wait(last); log[len(log)-1].Type != engine.TypeCancelled {
			h.Errorf("a cancelled task in the queue has the log %s", log)
		}
		ids = ids[:len(ids)-1]
	}
	h.release()
	for _, id := range ids {
		if log := h.wait(id); log[len(log)-1].Type != engine.TypeCompleted {
			h.Errorf("the log is %s", log)
		}
	}
}

func testRelease(h *executorHost) {
	spec := engine.TaskSpec{Type: "echo", Input: []byte(`{}`)}
	if h.capacity == 0 {
		slot, err := h.exec.Admit(h.Context(), spec)
		if err != nil {
			h.Fatal(err)
		}
		slot.Release()
		return
	}
	for range 3 { // a place that is not given back would be missed the next time
		var slots []engine.Slot
		for range h.capacity {
			slot, err := h.exec.Admit(h.Context(), spec)
			if err != nil {
				h.Fatalf("Admit: %v", err)
			}
			slots = append(slots, slot)
		}
		_, err := h.exec.Admit(h.Context(), spec)
		wantCode(h.T, "Admit on a full executor", err, engine.CodeTaskSubmission)
		var known *engine.Error
		if errors.As(err, &known) && known.RetryAfter <= 0 {
			h.Error("a passing refusal says not when to come back")
		}
		for _, slot := range slots {
			slot.Release()
		}
	}
}

func testManyTasks(h *executorHost) {
	n := 100
	if h.capacity > 0 {
		n = min(n, h.capacity)
	}
	types := []string{"echo", "talk", "error", "panic", "goexit", "own", "block"}
	var ids []string
	for i := range n {
		ids = append(ids, h.mustCreate(types[i%len(types)], `{}`))
	}
	for i, id := range ids {
		if types[i%len(types)] == "block" {
			if _, err := h.engine.Cancel(h.Context(), suiteAuth, id, "stop"); err != nil {
				h.Fatal(err)
			}
		}
	}
	for _, id := range ids {
		h.wait(id)
	}
}

func testShutdown(h *executorHost) {
	x, ok := h.exec.(interface{ Shutdown(context.Context) error })
	if !ok {
		return
	}
	held := h.mustCreate("block", `{}`)
	h.waitStarted(held)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- x.Shutdown(ctx) }()
	}
	eventually(h.T, "admissions are refused", func() bool {
		slot, err := h.exec.Admit(context.Background(), engine.TaskSpec{Type: "echo", Input: []byte(`{}`)})
		if err == nil {
			slot.Release()
			return false
		}
		wantCode(h.T, "Admit while draining", err, engine.CodeTaskSubmission)
		return true
	})
	for range 2 {
		// What was told to end may need longer than is left on a busy machine.
		if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			h.Errorf("Shutdown: %v", err)
		}
	}
	log := h.wait(held)
	if end := log[len(log)-1]; end.Type != engine.TypeFailed || !strings.Contains(string(end.Payload), `"retryable":true`) {
		h.Errorf("what ran ends with %s %s", end.Type, end.Payload)
	}
	patient, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := x.Shutdown(patient); err != nil {
		h.Errorf("Shutdown again: %v", err)
	}
}
