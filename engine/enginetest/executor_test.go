package enginetest_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

var ann = engine.AuthContext{Subject: "ann"}

type host struct {
	*testing.T
	engine *engine.Engine
	exec   *enginetest.Executor
	n      int
}

func newHost(t *testing.T) *host {
	t.Helper()
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{T: t, exec: enginetest.NewExecutor()}
	h.engine, err = engine.New(engine.Config{Store: store, Executor: h.exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.engine.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *host) create() (string, error) {
	h.n++
	res, err := h.engine.Create(context.Background(), ann, engine.CreateRequest{ClientRequestID: fmt.Sprint(h.n), TaskType: "any"})
	return res.Task.ID, err
}

func (h *host) mustCreate() string {
	h.Helper()
	id, err := h.create()
	if err != nil {
		h.Fatal(err)
	}
	return id
}

func TestNextGivesTasksInOrder(t *testing.T) {
	h := newHost(t)
	first, second, third := h.mustCreate(), h.mustCreate(), h.mustCreate()
	taken := h.exec.Task(t, second)
	if taken.Task().ID != second || h.exec.Task(t, second) != taken {
		t.Error("Task does not give the task's one run")
	}
	for _, want := range []string{first, third} {
		if got := h.exec.Next(t).Task().ID; got != want {
			t.Errorf("Next gave %s, want %s", got, want)
		}
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		got := make(chan string)
		go func() { got <- h.exec.Next(t).Task().ID }()
		synctest.Wait()
		id := h.mustCreate()
		if next := <-got; next != id {
			t.Errorf("Next gave %s, want %s", next, id)
		}
	})
}

func TestRefusals(t *testing.T) {
	h := newHost(t)
	full := engine.NewError(engine.CodeTaskSubmission, "full")
	h.exec.RefuseAdmission(full)
	if _, err := h.create(); engine.CodeOf(err) != engine.CodeTaskSubmission {
		t.Errorf("Create gave %v", err)
	}
	h.exec.RefuseAdmission(nil)
	h.exec.FailSubmission(full)
	if _, err := h.create(); engine.CodeOf(err) != engine.CodeTaskSubmission {
		t.Errorf("Create gave %v", err)
	}
	h.exec.FailSubmission(nil)
	id := h.mustCreate()
	if got := h.exec.Next(t).Task().ID; got != id {
		t.Errorf("Next gave %s, want the only one taken, %s", got, id)
	}
	if n := h.exec.Held(); n != 0 {
		t.Errorf("%d places are held", n)
	}
}

func TestCancelsAreRecorded(t *testing.T) {
	h := newHost(t)
	id := h.mustCreate()
	if _, err := h.engine.Cancel(t.Context(), ann, id, "why"); err != nil {
		t.Fatal(err)
	}
	if got := h.exec.Cancels(); len(got) != 1 || got[0].ID != id || got[0].CancelReason != "why" {
		t.Errorf("recorded: %+v", got)
	}
}

func TestShutdownClosesRuns(t *testing.T) {
	h := newHost(t)
	h.mustCreate()
	run := h.exec.Next(t)
	if err := h.exec.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := run.Emit(t.Context(), engine.Started{}); err == nil {
		t.Error("a run takes events after the shutdown")
	}
	if _, err := h.create(); engine.CodeOf(err) != engine.CodeTaskSubmission {
		t.Errorf("Create gave %v", err)
	}
}
