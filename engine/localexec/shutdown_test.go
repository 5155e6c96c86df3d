package localexec_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// sleeping is a handler that sleeps, deaf to its context or not.
func sleeping(_ context.Context, run *engine.Run, in struct {
	For  time.Duration
	Deaf bool
},
) (string, error) {
	ctx := run.Context()
	if in.Deaf {
		ctx = context.Background()
	}
	select {
	case <-time.After(in.For):
		return "slept", nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

const (
	second = "1000000000"
	minute = "60000000000"
)

var shutDown = failed("EXECUTOR_SHUTDOWN", "the server was shut down", true)

func TestShutdownWaitsForWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{Workers: 1}, nil, localexec.Handle("x", sleeping))
		running, queued := h.create("x", `{"For":`+second+`}`), h.create("x", `{"For":`+second+`}`)
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := h.exec.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, id := range []string{running, queued} {
			h.wantLog(id, started, `TASK_COMPLETED {"result":"slept"}`)
		}
		if err := h.exec.Ready(t.Context()); err == nil {
			t.Error("ready after the shutdown")
		}
		if _, err := h.exec.Admit(t.Context(), engine.TaskSpec{Type: "x"}); engine.CodeOf(err) != engine.CodeTaskSubmission {
			t.Errorf("Admit gave %v", err)
		}
	})
}

func TestShutdownEndsTheRest(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, soft time.Duration
	}{
		"long":  {10 * time.Second, 9 * time.Second},
		"short": {time.Second, 800 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, localexec.Config{Workers: 2, WorkersPerSubject: -1}, nil, localexec.Handle("x", sleeping))
				running, deaf := h.create("x", `{"For":`+minute+`}`), h.create("x", `{"For":`+minute+`,"Deaf":true}`)
				queued := h.create("x", `{"For":`+second+`}`)
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
				defer cancel()
				start := time.Now()
				done := make(chan error)
				go func() { done <- h.exec.Shutdown(ctx) }()
				time.Sleep(c.soft - time.Nanosecond)
				synctest.Wait()
				if h.status(running) != engine.StatusRunning {
					t.Error("it was ended too soon")
				}
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				h.wantLog(running, started, shutDown)
				h.wantLog(queued, shutDown)
				h.wantLog(deaf, started, shutDown) // without its handler
				if took := time.Since(start); took >= c.timeout {
					t.Errorf("the last event came after %v of %v", took, c.timeout)
				}
				if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("with a handler that does not return: %v", err)
				}
				if took := time.Since(start); took != c.timeout {
					t.Errorf("it took %v", took)
				}
				// The deaf handler returns in the end, and another call says so.
				ctx, cancel = context.WithTimeout(context.Background(), 2*time.Minute)
				defer cancel()
				if err := h.exec.Shutdown(ctx); err != nil {
					t.Errorf("Shutdown again: %v", err)
				}
			})
		})
	}
}

func TestShutdownWithoutTime(t *testing.T) {
	for name, ctx := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"over":                  func(p context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(p, 0) },
		"cancelled in a second": func(p context.Context) (context.Context, context.CancelFunc) { return cancelledAfter(p, time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", sleeping))
				id := h.create("x", `{"For":`+minute+`}`)
				synctest.Wait()
				ctx, cancel := ctx(t.Context())
				defer cancel()
				if err := h.exec.Shutdown(ctx); err == nil {
					t.Error("no error")
				}
				h.wantLog(id, started, shutDown) // even so
			})
		})
	}
}

func cancelledAfter(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	timer := time.AfterFunc(d, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}

func TestEarliestShutdownCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", sleeping))
		id := h.create("x", `{"For":`+minute+`}`)
		synctest.Wait()
		start := time.Now()
		done := make(chan error, 2)
		for _, d := range []time.Duration{50 * time.Second, 5 * time.Second} {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), d)
				defer cancel()
				done <- h.exec.Shutdown(ctx)
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("it took %v", took)
		}
		h.wantLog(id, started, shutDown)
	})
}

// A grace that is under way when the executor stops is cut short.
func TestShutdownDuringGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{CancelGrace: time.Hour}, nil, localexec.Handle("x", sleeping))
		id := h.create("x", `{"For":`+minute+`,"Deaf":true}`)
		synctest.Wait()
		h.cancel(id, "why")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		go func() { _ = h.exec.Shutdown(ctx) }()
		h.wantLog(id, started, `TASK_CANCELLED {"reason":"why"}`)
		if took := time.Since(start); took >= 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{Workers: 1, Queue: -1}, nil, localexec.Handle("x", sleeping))
		spec := engine.TaskSpec{Type: "x", Input: []byte(`{}`)}
		slot, err := h.exec.Admit(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		// A place that is held holds the shutdown back, and may still be used.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- h.exec.Shutdown(ctx) }()
		synctest.Wait()
		task, _, err := h.store.Create(t.Context(), engine.Task{Owner: "ann", ClientRequestID: "r", Type: "x", Status: engine.StatusAccepted})
		if err != nil {
			t.Fatal(err)
		}
		if err := slot.Submit(t.Context(), task); err != nil {
			t.Errorf("Submit while draining: %v", err)
		}
		if err := slot.Submit(t.Context(), task); err == nil {
			t.Error("a second Submit was taken")
		}
		slot.Release() // does nothing any more
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		h.wantLog(task.ID, started, `TASK_COMPLETED {"result":"slept"}`)
	})
}

func TestSubmitAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, localexec.Config{}, nil, localexec.Handle("x", sleeping))
		slot, err := h.exec.Admit(t.Context(), engine.TaskSpec{Type: "x", Input: []byte(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.exec.Shutdown(ctx); err == nil {
			t.Error("no error with a place held")
		}
		if err := slot.Submit(t.Context(), engine.Task{ID: "aaaaaaaaaaaaaaaaaaaa"}); engine.CodeOf(err) != engine.CodeTaskSubmission {
			t.Errorf("Submit gave %v", err)
		}
		if err := h.exec.Shutdown(t.Context()); err != nil { // the place is free again
			t.Error(err)
		}
	})
}

func TestUnbound(t *testing.T) {
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("x", sleeping))
	if err != nil {
		t.Fatal(err)
	}
	slot, err := exec.Admit(t.Context(), engine.TaskSpec{Type: "x", Input: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	if err := slot.Submit(t.Context(), engine.Task{ID: "aaaaaaaaaaaaaaaaaaaa"}); engine.CodeOf(err) != engine.CodeInternal {
		t.Errorf("Submit gave %v", err)
	}
	if err := exec.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
