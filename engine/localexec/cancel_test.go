package localexec_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// waiting is a handler that waits for its context.
func waiting(ctx context.Context, _ *engine.Run, _ empty) (empty, error) {
	<-ctx.Done()
	return empty{}, context.Cause(ctx)
}

func TestCancelReachesTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", func(ctx context.Context, run *engine.Run, _ empty) (empty, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			if ctx != run.Context() {
				t.Error("the handler's context is not the run's")
			}
			return empty{}, errors.New("gave up")
		}))
		id := h.create("x", `{}`)
		synctest.Wait()
		h.cancel(id, "why")
		h.cancel(id, "again")
		h.wantLog(id, started, `TASK_CANCELLED {"reason":"why"}`)
		var c *engine.CancelRequested
		if !errors.As(cause, &c) || c.Reason != "why" {
			t.Errorf("the cause is %v", cause)
		}
	})
}

func TestCompletedDespiteCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", func(ctx context.Context, _ *engine.Run, _ empty) (string, error) {
			<-ctx.Done()
			return "made it", nil
		}))
		id := h.create("x", `{}`)
		synctest.Wait()
		h.cancel(id, "")
		h.wantLog(id, started, `TASK_COMPLETED {"result":"made it"}`)
	})
}

func TestCancelInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		h := newHost(t, localexec.Config{Workers: 1, Queue: 3}, nil,
			localexec.Handle("wait", waiting),
			localexec.Handle("x", func(context.Context, *engine.Run, empty) (empty, error) { ran.Add(1); return empty{}, nil }))
		busy, first, second := h.create("wait", `{}`), h.create("x", `{}`), h.create("x", `{}`)
		synctest.Wait()
		h.cancel(first, "not needed")
		h.wantLog(first, `TASK_CANCELLED {"reason":"not needed"}`) // no TASK_STARTED
		if h.status(second) != engine.StatusAccepted {
			t.Error("the cancelled one gave a worker away that it did not have")
		}
		h.cancel(busy, "")
		h.wantLog(busy, started, `TASK_CANCELLED {"reason":"cancelled_by_user"}`)
		h.wantLog(second, started, `TASK_COMPLETED {"result":{}}`)
		if n := ran.Load(); n != 1 {
			t.Errorf("%d handlers ran", n)
		}
	})
}

func TestQueueOrderAndLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, queue = 2, 5
		var order []int
		gate := make(chan struct{})
		h := newHost(t, localexec.Config{
			Workers: workers, Queue: queue, WorkersPerSubject: -1, QueuePerSubject: -1, RetryAfter: 3 * time.Second,
		}, nil,
			localexec.Handle("x", func(_ context.Context, _ *engine.Run, in struct{ N int }) (empty, error) {
				<-gate
				order = append(order, in.N) // the gate lets one at a time through
				return empty{}, nil
			}))
		for n := range workers + queue {
			if err := h.exec.Ready(t.Context()); err != nil {
				t.Errorf("not ready with %d tasks: %v", n, err)
			}
			h.create("x", fmt.Sprintf(`{"N":%d}`, n))
			synctest.Wait()
		}
		if err := h.exec.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "2 tasks running, 5 waiting") {
			t.Errorf("a full executor is ready: %v", err)
		}
		_, err := h.tryCreate("x", `{}`)
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != engine.CodeTaskSubmission || e.RetryAfter != 3*time.Second {
			t.Errorf("a full executor gave %v", err)
		}
		for range workers + queue {
			gate <- struct{}{}
			synctest.Wait()
		}
		for i, n := range order[workers:] { // who of the first two is first is open
			if n != i+workers {
				t.Errorf("the order was %v", order)
			}
		}
		if err := h.exec.Ready(t.Context()); err != nil {
			t.Errorf("not ready when empty: %v", err)
		}
	})
}

func TestHandlerIgnoresCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var late error
		h := newHost(t, localexec.Config{Workers: 1, CancelGrace: 10 * time.Second}, nil,
			localexec.Handle("deaf", func(_ context.Context, run *engine.Run, _ empty) (string, error) {
				<-release
				late = run.Progress(context.Background(), 99, "still here")
				run.Text("and talking")
				return "too late", nil
			}),
			localexec.Handle("x", func(context.Context, *engine.Run, empty) (empty, error) { return empty{}, nil }))
		id, next := h.create("deaf", `{}`), h.create("x", `{}`)
		synctest.Wait()
		start := time.Now()
		h.cancel(id, "enough")
		h.wantLog(id, started, `TASK_CANCELLED {"reason":"enough"}`)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it was given up after %v", took)
		}
		synctest.Wait()
		if h.status(next) != engine.StatusAccepted {
			t.Error("its worker was given away while it still runs")
		}
		close(release)
		h.wantLog(next, started, `TASK_COMPLETED {"result":{}}`)
		if engine.CodeOf(late) != engine.CodeTaskAlreadyTerminal {
			t.Errorf("its late event gave %v", late)
		}
		h.wantLog(id, started, `TASK_CANCELLED {"reason":"enough"}`)
	})
}

// bare hides what a store has beside engine.Store: no Signals.
type bare struct{ engine.Store }

func TestCancelWithoutSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, func(s *memstore.Store) engine.Store { return bare{s} }, localexec.Handle("x", waiting))
		id := h.create("x", `{}`)
		synctest.Wait()
		h.cancel(id, "by the executor")
		h.wantLog(id, started, `TASK_CANCELLED {"reason":"by the executor"}`)
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{Workers: 1, CancelGrace: 10 * time.Second}, nil,
			localexec.Handle("wait", waiting, localexec.Timeout(30*time.Second)),
			localexec.Handle("deaf", func(context.Context, *engine.Run, empty) (empty, error) {
				time.Sleep(time.Hour)
				return empty{}, nil
			}, localexec.Timeout(30*time.Second)),
			localexec.Handle("late", func(ctx context.Context, _ *engine.Run, _ empty) (string, error) {
				<-ctx.Done()
				return "late, but here", nil
			}, localexec.Timeout(30*time.Second)))
		timedOut := failed("TASK_TIMEOUT", "the task took too long", true)
		poll := func(id string) { // each waits for its turn: that does not count
			start := time.Now()
			for h.status(id) != engine.StatusRunning && time.Since(start) < 10*time.Minute {
				time.Sleep(time.Second)
			}
		}
		first, second, cancelled, late, deaf := h.create("wait", `{}`), h.create("wait", `{}`), h.create("wait", `{}`), h.create("late", `{}`), h.create("deaf", `{}`)
		start := time.Now()
		h.wantLog(first, started, timedOut)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("it took %v", took)
		}
		h.wantLog(second, started, timedOut)
		poll(cancelled)
		h.cancel(cancelled, "sooner")
		h.wantLog(cancelled, started, `TASK_CANCELLED {"reason":"sooner"}`)
		h.wantLog(late, started, `TASK_COMPLETED {"result":"late, but here"}`)
		poll(deaf)
		time.Sleep(10 * time.Second)
		start = time.Now()
		h.wantLog(deaf, started, timedOut)
		if took := time.Since(start); took < 29*time.Second || took > 30*time.Second {
			t.Errorf("the deaf one took %v more", took)
		}
		if strings.Contains(h.logged.String(), "returned an error") {
			t.Errorf("the context's own error is no news:\n%s", h.logged)
		}
		time.Sleep(time.Hour) // it returns in the end
	})
}

func TestCancelWithoutReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", waiting))
		id := h.create("x", `{}`)
		synctest.Wait()
		if err := h.exec.Cancel(t.Context(), engine.Task{ID: id}); err != nil {
			t.Fatal(err)
		}
		h.wantLog(id, started, `TASK_CANCELLED {"reason":"cancelled_by_user"}`)
	})
}

// A task that somebody else ended while it waited does not run.
func TestEndedInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		h := newHost(t, localexec.Config{Workers: 1}, nil,
			localexec.Handle("wait", waiting),
			localexec.Handle("x", func(context.Context, *engine.Run, empty) (empty, error) { ran.Add(1); return empty{}, nil }))
		busy, id := h.create("wait", `{}`), h.create("x", `{}`)
		synctest.Wait()
		_, err := h.store.Append(t.Context(), engine.Append{TaskID: id, Token: "other", Events: []engine.Draft{
			{Type: engine.TypeFailed, Payload: []byte(`{"code":"OTHER","message":"m","retryable":false}`)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		h.cancel(busy, "")
		synctest.Wait()
		if ran.Load() != 0 || strings.Contains(h.logged.String(), "level=ERROR") {
			t.Errorf("%d handlers ran; the log is\n%s", ran.Load(), h.logged)
		}
		h.wantLog(id, failed("OTHER", "m", false))
	})
}

// Streamed events that a cancellation cut off must not hide behind a success.
func TestStreamCutOffByCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &outage{}
		h := newHost(t, localexec.Config{}, out.wrap, localexec.Handle("x", func(ctx context.Context, run *engine.Run, _ empty) (string, error) {
			out.down.Store(true)
			for range 1000 { // far more than the buffer takes
				run.Stream(engine.Message{Text: strings.Repeat("x", 4000)})
			}
			out.down.Store(false)
			return "all sent", nil
		}))
		id := h.create("x", `{}`)
		synctest.Wait()
		h.cancel(id, "why")
		log := h.log(id)
		if !strings.HasSuffix(log, `TASK_CANCELLED {"reason":"why"}`) {
			t.Errorf("it ends with %.200s", log[strings.LastIndex(log, "\n")+1:])
		}
	})
}

// outage is a store that can be unavailable.
type outage struct {
	*memstore.Store
	down  atomic.Bool
	calls atomic.Int32
}

func (o *outage) wrap(s *memstore.Store) engine.Store { o.Store = s; return o }

func (o *outage) fault() error {
	o.calls.Add(1)
	if o.down.Load() {
		return engine.NewError(engine.CodeStoreUnavailable, "down")
	}
	return nil
}

func (o *outage) Append(ctx context.Context, a engine.Append) ([]engine.EventID, error) {
	if err := o.fault(); err != nil {
		return nil, err
	}
	return o.Store.Append(ctx, a)
}

func (o *outage) Listen(ctx context.Context, taskID string, fn func(engine.Signal)) (func(), error) {
	if err := o.fault(); err != nil {
		return nil, err
	}
	return o.Store.Listen(ctx, taskID, fn)
}

// The outages are a hundred times longer than the emitter's own patience.
func TestStoreOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &outage{}
		h := newHost(t, localexec.Config{}, out.wrap,
			localexec.Handle("x", func(context.Context, *engine.Run, empty) (string, error) { return "done", nil }),
			localexec.Handle("down", func(context.Context, *engine.Run, empty) (string, error) {
				out.down.Store(true)
				return "done", nil
			}))
		back := func() {
			synctest.Wait()
			time.Sleep(100 * time.Second)
			if n := out.calls.Swap(0); n > 10_000 {
				t.Errorf("%d calls to a store that is down", n)
			}
			out.down.Store(false)
		}
		// Down when the task is submitted.
		out.down.Store(true)
		id := h.create("x", `{}`)
		back()
		h.wantLog(id, started, `TASK_COMPLETED {"result":"done"}`)
		// Down when it ends.
		id = h.create("down", `{}`)
		back()
		h.wantLog(id, started, `TASK_COMPLETED {"result":"done"}`)
	})
}

func TestErasedTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", func(ctx context.Context, run *engine.Run, _ empty) (empty, error) {
			for {
				if err := run.Progress(ctx, 1, ""); err != nil {
					return empty{}, err
				}
				time.Sleep(time.Second)
			}
		}))
		id := h.create("x", `{}`)
		synctest.Wait()
		if err := h.store.Erase(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait() // the shutdown at the end finds nothing left
	})
}
