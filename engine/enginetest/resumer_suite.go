package enginetest

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// TestResumer holds an executor that is an engine.Resumer against that contract.
// open is TestExecutor's, whose suite holds for it, too; the handlers ask with
// Run.Suspend. TestRestarter has more for executors that are restarters as well.
func TestResumer(t *testing.T, open func(t *testing.T, handlers map[string]Handler) engine.TaskExecutor) {
	for name, test := range map[string]func(r *restarts){
		"an answer reaches the handler that waits":          testResume,
		"a default action is an answer":                     testResumeDefault,
		"the same answer may come again":                    testResumeAgain,
		"an answer that nobody has is not taken":            testResumeUnknown,
		"an answer to a task that is over is left alone":    testResumeOfTheEnded,
		"it does not outlast its context":                   testResumeCutOff,
		"an answer and a cancellation at once end the task": testResumeCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &restarts{unblock: make(chan struct{})}
			r.fleet = newFleet(t, 1, func(t *testing.T) engine.TaskExecutor {
				return open(t, map[string]Handler{"ask": r.ask, "hold": r.hold, "default": r.askWithDefault})
			})
			if _, ok := r.nodes[0].exec.(engine.Resumer); !ok {
				t.Fatal("the executor is no engine.Resumer")
			}
			t.Cleanup(r.release)
			test(r)
		})
	}
}

func (r *restarts) askWithDefault(ctx context.Context, run *engine.Run, _ json.RawMessage) (any, error) {
	at := time.Now().Add(200 * time.Millisecond)
	a, err := run.Suspend(ctx, engine.Suspended{
		SuspendID: "s", Kind: engine.UserActionRequired, ReasonCode: "R", AllowedActions: []string{"yes", "no"},
		ExpiresAt: &at, Default: &engine.DefaultAction{ActionType: "no"},
	})
	if err != nil {
		return nil, err
	}
	return a.ActionType, run.Emit(ctx, engine.Message{Text: a.ActionType + a.Actor})
}

func (r *restarts) resumer() engine.Resumer { return r.nodes[0].exec.(engine.Resumer) }

// asking creates a task and waits for its question.
func (r *restarts) asking() string {
	r.Helper()
	id := r.create(r.nodes[0], "ask")
	eventually(r.T, "it asks", func() bool { return len(r.get(id).Suspensions) == 1 })
	return id
}

// yes answers on the only node.
func (r *restarts) yes(id string) engine.Suspension {
	r.Helper()
	res, err := r.nodes[0].Act(r.Context(), suiteAuth, engine.ActionRequest{
		TaskID: id, ClientActionID: "c", SuspendID: "s", ActionType: "yes", Payload: json.RawMessage(`{"n":1}`),
	})
	if err != nil || res.Status != engine.ActionStatusAccepted {
		r.Fatalf("Act: %+v, %v", res, err)
	}
	s, err := r.shared.Suspension(r.Context(), id, "s")
	if err != nil || s.Answer == nil {
		r.Fatalf("Suspension: %+v, %v", s, err)
	}
	return s
}

func (r *restarts) wantHandedOver(id string) {
	r.Helper()
	eventually(r.T, "the answer is handed over", func() bool {
		s, err := r.shared.Suspension(r.Context(), id, "s")
		return err == nil && s.HandedOver
	})
}

func testResume(r *restarts) {
	id := r.asking()
	r.yes(id)
	r.await(id, engine.StatusCompleted)
	r.wantStory(id, answeredStory)
	r.wantHandedOver(id)
}

func testResumeDefault(r *restarts) {
	id := r.create(r.nodes[0], "default")
	r.await(id, engine.StatusCompleted)
	r.wantStory(id, "STARTED SUSPENDED ACTION_ACCEPTED MESSAGE(no) COMPLETED")
	r.wantHandedOver(id)
}

func testResumeAgain(r *restarts) {
	id := r.asking()
	task := r.get(id)
	s := r.yes(id)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { _ = r.resumer().Resume(context.Background(), task, s, *s.Answer) })
	}
	group.Wait()
	r.await(id, engine.StatusCompleted)
	r.wantStory(id, answeredStory)
	if n := r.runs.Load(); n != 1 {
		r.Errorf("the handler was run %d times", n)
	}
}

// Nobody has submitted this task here, and nobody may run it again: after nil the
// answer would be lost.
func testResumeUnknown(r *restarts) {
	task := r.stored("ask")
	task.Restartable = false
	a := engine.Action{ClientActionID: "c", SuspendID: "s", ActionType: "yes", Payload: json.RawMessage(`{}`)}
	s := engine.Suspension{Suspended: engine.Suspended{SuspendID: "s", AllowedActions: []string{"yes"}}, Answer: &a}
	for _, taskType := range []string{"ask", "unknown"} {
		task.Type = taskType
		if err := r.resumer().Resume(r.Context(), task, s, a); err == nil {
			r.Errorf("Resume of a task of type %q that is not here gave nil", taskType)
		}
	}
	if n := r.runs.Load(); n != 0 || r.story(task.ID) != "" {
		r.Errorf("it was run %d times: %s", n, r.story(task.ID))
	}
}

func testResumeOfTheEnded(r *restarts) {
	id := r.asking()
	task := r.get(id)
	s := r.yes(id)
	r.await(id, engine.StatusCompleted)
	_ = r.resumer().Resume(r.Context(), task, s, *s.Answer)
	_ = r.resumer().Resume(r.Context(), r.get(id), s, *s.Answer)
	r.await(r.asked(), engine.StatusCompleted)
	r.wantStory(id, answeredStory)
	if n := r.runs.Load(); n != 2 {
		r.Errorf("handlers were run %d times, want 2", n)
	}
}

// asked is a task that asked and was answered.
func (r *restarts) asked() string {
	id := r.asking()
	r.yes(id)
	return id
}

func testResumeCutOff(r *restarts) {
	id := r.asking()
	task := r.get(id)
	s := r.yes(id)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.resumer().Resume(ctx, task, s, *s.Answer)
	}()
	eventually(r.T, "Resume returns", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	r.await(id, engine.StatusCompleted)
}

func testResumeCancelled(r *restarts) {
	for range 10 {
		id := r.asking()
		var group sync.WaitGroup
		group.Go(func() {
			_, err := r.nodes[0].Act(context.Background(), suiteAuth, engine.ActionRequest{
				TaskID: id, ClientActionID: "c", SuspendID: "s", ActionType: "yes",
			})
			if err != nil {
				r.Errorf("Act: %v", err)
			}
		})
		group.Go(func() {
			if _, err := r.nodes[0].Cancel(context.Background(), suiteAuth, id, "enough"); err != nil {
				r.Errorf("Cancel: %v", err)
			}
		})
		group.Wait()
		eventually(r.T, "the end", func() bool { return r.get(id).Terminal != nil })
	}
}
