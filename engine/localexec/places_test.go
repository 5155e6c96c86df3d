package localexec_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// running records which subjects' handlers run; each handler blocks until
// release lets one of its subject's go.
type running struct {
	mu    sync.Mutex
	order []string // in which they began
	gates map[string]chan struct{}
}

func (r *running) gate(name string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gates == nil {
		r.gates = map[string]chan struct{}{}
	}
	if r.gates[name] == nil {
		r.gates[name] = make(chan struct{})
	}
	return r.gates[name]
}

func (r *running) handle(ctx context.Context, _ *engine.Run, in struct{ Name string }) (empty, error) {
	r.mu.Lock()
	r.order = append(r.order, in.Name)
	r.mu.Unlock()
	select {
	case <-r.gate(in.Name):
	case <-ctx.Done():
	}
	return empty{}, nil
}

// release ends a handler of the named subject.
func (r *running) release(t *testing.T, name string) {
	t.Helper()
	synctest.Wait()
	select {
	case r.gate(name) <- struct{}{}:
	default:
		t.Fatalf("no handler of %s runs; those that began: %s", name, r.began())
	}
}

func (r *running) began() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.order, " ")
}

func (h *host) createAs(name string) error {
	_, err := h.tryCreateAs(engine.AuthContext{Subject: name}, "x", fmt.Sprintf(`{"Name":%q}`, name))
	return err
}

// TestOneSubjectLeavesWorkers fills the executor with one subject's endless
// tasks, at the default bounds: another subject's task runs at once.
func TestOneSubjectLeavesWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{}
		h := newHost(t, localexec.Config{Workers: 4, Queue: 6}, nil, localexec.Handle("x", r.handle))
		for n := range 5 { // two workers and three places in the queue
			if err := h.createAs("greedy"); err != nil {
				t.Fatalf("task %d of greedy: %v", n, err)
			}
		}
		var e *engine.Error
		if err := h.createAs("greedy"); !errors.As(err, &e) || e.Code != engine.CodeRateLimited ||
			e.RetryAfter != 2*time.Second || !strings.Contains(e.Message, "you have") {
			t.Errorf("beyond its bound greedy got %v, want RATE_LIMITED that speaks of its own tasks", err)
		}
		if err := h.createAs("bob"); err != nil {
			t.Fatalf("bob beside greedy: %v", err)
		}
		synctest.Wait()
		if got := r.began(); strings.Count(got, "greedy") != 2 || strings.Count(got, "bob") != 1 {
			t.Errorf("handlers began %q, want two of greedy's and bob's", got)
		}
		for range 4 {
			if err := h.createAs("bob"); err != nil {
				t.Fatal(err)
			}
		}
		err := h.createAs("carol")
		if !errors.As(err, &e) || e.Code != engine.CodeTaskSubmission || !strings.Contains(e.Message, "the server has") {
			t.Errorf("a full executor gave %v, want TASK_SUBMISSION_ERROR that speaks of the server", err)
		}
	})
}

// TestWorkersGoToSubjectsInTurn queues several tasks of one subject before those
// of others: the others wait for one of them, not for all.
func TestWorkersGoToSubjectsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{}
		h := newHost(t, localexec.Config{Workers: 1, Queue: 20, QueuePerSubject: -1}, nil, localexec.Handle("x", r.handle))
		for range 4 {
			if err := h.createAs("ann"); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"bob", "bob", "carol"} {
			if err := h.createAs(name); err != nil {
				t.Fatal(err)
			}
		}
		want := "ann bob carol ann bob ann ann"
		for _, name := range strings.Fields(want) {
			r.release(t, name)
		}
		synctest.Wait()
		if got := r.began(); got != want {
			t.Errorf("handlers began %q, want %q", got, want)
		}
	})
}

// TestCancelledWaitersLeaveTheTurn cancels queued tasks: their subject loses its
// turn, and gets it again with its next task.
func TestCancelledWaitersLeaveTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{}
		h := newHost(t, localexec.Config{Workers: 1, Queue: 20}, nil, localexec.Handle("x", r.handle))
		if err := h.createAs("ann"); err != nil {
			t.Fatal(err)
		}
		bob := engine.AuthContext{Subject: "bob"}
		var ids []string
		for range 3 {
			task, err := h.tryCreateAs(bob, "x", `{"Name":"bob"}`)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, task.ID)
		}
		synctest.Wait()
		for _, id := range ids {
			if _, err := h.engine.Cancel(t.Context(), bob, id, ""); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for _, name := range []string{"carol", "bob"} {
			if err := h.createAs(name); err != nil {
				t.Fatal(err)
			}
		}
		want := "ann carol bob"
		for _, name := range strings.Fields(want) {
			r.release(t, name)
		}
		synctest.Wait()
		if got := r.began(); got != want {
			t.Errorf("handlers began %q, want %q", got, want)
		}
	})
}
