package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// TestRestarter holds an executor that is an engine.Restarter against that
// contract; if it is an engine.Resumer too, also against what the two promise
// together: a task that waits for an answer needs no process. TestExecutor holds
// for it, too.
//
// open returns an executor that knows exactly these types of task, and that may
// run those of restartable again. The suite calls it for every node of a fleet
// and kills some of them.
func TestRestarter(t *testing.T, open func(t *testing.T, restartable, once map[string]Handler) engine.TaskExecutor) {
	for name, test := range map[string]func(r *restarts){
		"it says what may be run again":                       testRestartable,
		"a task is run again where its node died":             testRestart,
		"what is not for it is refused":                       testRestartRefused,
		"what was submitted is opened before its turn":        testOpenedAtOnce,
		"of many who run it again, one does":                  testRestartRace,
		"what runs is not run twice":                          testRestartOfTheLiving,
		"a task that is run again can be cancelled":           testRestartCancelled,
		"a task that is over is left alone":                   testRestartOfTheEnded,
		"nothing is run again after a shutdown":               testRestartAfterShutdown,
		"what a shutdown interrupts ends, or goes on":         testShutdownLeaves,
		"a shutdown leaves what may be run again at once":     testShutdownLeavesAtOnce,
		"a task that waits for an answer needs no node":       testParked,
		"of an answer that comes again nothing is done twice": testParkedTwice,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &restarts{unblock: make(chan struct{})}
			r.fleet = newFleet(t, 2, func(t *testing.T) engine.TaskExecutor {
				return open(t, map[string]Handler{"again": r.again, "hold": r.hold, "ask": r.ask}, map[string]Handler{"once": r.hold})
			})
			if _, ok := r.nodes[0].exec.(engine.Restarter); !ok {
				t.Fatal("the executor is no engine.Restarter")
			}
			t.Cleanup(r.release)
			test(r)
		})
	}
}

// restarts is a fleet, and what its handlers do.
type restarts struct {
	*fleet
	runs    atomic.Int32 // of any handler
	once    sync.Once
	unblock chan struct{}
}

// again waits the first time, and is done the second.
func (r *restarts) again(ctx context.Context, run *engine.Run, in json.RawMessage) (any, error) {
	if run.Restarted() {
		r.runs.Add(1)
		return "again", run.Progress(ctx, 50, "")
	}
	return r.hold(ctx, run, in)
}

// hold waits whenever it is run.
func (r *restarts) hold(ctx context.Context, _ *engine.Run, _ json.RawMessage) (any, error) {
	r.runs.Add(1)
	select {
	case <-r.unblock:
		return "held", nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (r *restarts) ask(ctx context.Context, run *engine.Run, _ json.RawMessage) (any, error) {
	r.runs.Add(1)
	if !run.Restarted() {
		if err := run.Emit(ctx, engine.Message{Text: "asking"}); err != nil {
			return nil, err
		}
	}
	return askAndTell(ctx, run)
}

// askAndTell asks and tells the answer.
func askAndTell(ctx context.Context, run *engine.Run) (any, error) {
	a, err := run.Suspend(ctx, engine.Suspended{
		SuspendID: "s", Kind: engine.UserActionRequired, ReasonCode: "R", AllowedActions: []string{"yes", "no"},
	})
	if err != nil {
		return nil, err
	}
	return a.ActionType, run.Emit(ctx, engine.Message{Text: a.ActionType + " " + string(a.Payload)})
}

func (r *restarts) release() { r.once.Do(func() { close(r.unblock) }) }

func (r *restarts) restarter(n int) engine.Restarter { return r.nodes[n].exec.(engine.Restarter) }

// started creates a task on the first node and waits until its handler runs.
func (r *restarts) started(taskType string) string {
	r.Helper()
	before := r.runs.Load()
	id := r.create(r.nodes[0], taskType)
	eventually(r.T, "the handler runs", func() bool { return r.runs.Load() > before })
	r.await(id, engine.StatusRunning)
	return id
}

func (r *restarts) die(n int) { r.nodes[n].way.dead.Store(true) }

func testRestartable(r *restarts) {
	for taskType, want := range map[string]bool{"again": true, "ask": true, "once": false, "unknown": false, "": false} {
		if got := r.restarter(0).Restartable(taskType); got != want {
			r.Errorf("Restartable(%q) is %v", taskType, got)
		}
	}
}

func testRestart(r *restarts) {
	again, once := r.started("again"), r.started("once")
	r.die(0)
	r.await(again, engine.StatusCompleted)
	r.wantStory(again, "STARTED RESTARTED(1) PROGRESS COMPLETED")
	r.await(once, engine.StatusFailed)
	r.wantStory(once, "STARTED FAILED")
	if n := r.runs.Load(); n != 3 {
		r.Errorf("handlers were run %d times, want 3", n)
	}
}

// stored puts a task into the store that no executor has had.
func (r *restarts) stored(taskType string) engine.Task {
	r.Helper()
	r.requests++
	task, _, err := r.shared.Create(r.Context(), engine.Task{
		Type: taskType, Owner: suiteAuth.Subject, ClientRequestID: fmt.Sprint("stored ", r.requests),
		Input: json.RawMessage(`{}`), Status: engine.StatusAccepted, Restartable: true, CreatedAt: time.Now(),
	})
	if err != nil {
		r.Fatal(err)
	}
	return task
}

func testRestartRefused(r *restarts) {
	for _, taskType := range []string{"once", "unknown"} {
		task := r.stored(taskType)
		if err := r.restarter(0).Restart(r.Context(), task); err == nil {
			r.Errorf("Restart of a task of type %q gave nil: no other node would get it", taskType)
		}
		if way := r.shared.heldBy(task.ID); way != nil || r.story(task.ID) != "" {
			r.Errorf("a task of type %q was opened: %s", taskType, r.story(task.ID))
		}
	}
	// One that was stored, and whose process died then, is as good as submitted.
	task := r.stored("ask")
	if err := r.restarter(0).Restart(r.Context(), task); err != nil {
		r.Errorf("Restart of one that nobody has had: %v", err)
	}
	eventually(r.T, "it asks", func() bool { return len(r.get(task.ID).Suspensions) == 1 })
}

// As many as there is room for: most of them wait for their turn.
func testOpenedAtOnce(r *restarts) {
	for range 100 {
		r.requests++
		res, err := r.nodes[0].Create(r.Context(), suiteAuth, engine.CreateRequest{
			ClientRequestID: fmt.Sprint("request ", r.requests), TaskType: "hold", Input: json.RawMessage(`{}`),
		})
		if err != nil {
			wantCode(r.T, "Create beyond what there is room for", err, engine.CodeTaskSubmission)
			break
		}
		eventually(r.T, "a task that waits for its turn is held", func() bool { return r.shared.heldBy(res.Task.ID) != nil })
	}
}

func testRestartRace(r *restarts) {
	r.join()
	id := r.started("again")
	task := r.get(id)
	r.die(0)
	var group sync.WaitGroup
	for range 4 {
		for n := 1; n <= 2; n++ { // beside the reapers
			group.Go(func() { _ = r.restarter(n).Restart(context.Background(), task) })
		}
	}
	group.Wait()
	r.await(id, engine.StatusCompleted)
	r.wantStory(id, "STARTED RESTARTED(1) PROGRESS COMPLETED")
}

func testRestartOfTheLiving(r *restarts) {
	id := r.started("hold")
	task := r.get(id)
	for n := range 2 {
		_ = r.restarter(n).Restart(r.Context(), task) // an error or not: it is not done
	}
	// Whatever these have begun is over when another task has run.
	other := r.started("hold")
	if n := r.runs.Load(); n != 2 {
		r.Errorf("handlers were run %d times, want 2", n)
	}
	r.release()
	for _, id := range []string{id, other} {
		r.await(id, engine.StatusCompleted)
		r.wantStory(id, "STARTED COMPLETED")
	}
}

func testRestartCancelled(r *restarts) {
	id := r.started("hold")
	r.die(0)
	eventually(r.T, "it is run again", func() bool { return r.runs.Load() == 2 && r.shared.heldBy(id) == r.nodes[1].way })
	if _, err := r.nodes[1].Cancel(r.Context(), suiteAuth, id, "enough"); err != nil {
		r.Fatal(err)
	}
	r.await(id, engine.StatusCancelled)
	r.wantStory(id, "STARTED RESTARTED(1) CANCELLED")
}

func testRestartOfTheEnded(r *restarts) {
	id := r.started("hold")
	task := r.get(id)
	r.release()
	r.await(id, engine.StatusCompleted)
	for n := range 2 {
		_ = r.restarter(n).Restart(r.Context(), task) // as the reaper knew it
		_ = r.restarter(n).Restart(r.Context(), r.get(id))
	}
	r.await(r.create(r.nodes[0], "hold"), engine.StatusCompleted)
	r.wantStory(id, "STARTED COMPLETED")
	if n := r.runs.Load(); n != 2 {
		r.Errorf("handlers were run %d times, want 2", n)
	}
}

func testRestartAfterShutdown(r *restarts) {
	x, ok := r.nodes[1].exec.(interface{ Shutdown(context.Context) error })
	if !ok {
		r.Skip("the executor has no Shutdown")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := x.Shutdown(ctx); err != nil {
		r.Fatal(err)
	}
	if err := r.restarter(1).Restart(r.Context(), r.stored("again")); err == nil {
		r.Error("Restart gave nil: no other node would get the task")
	}
}

func testShutdownLeaves(r *restarts) {
	if _, ok := r.nodes[0].exec.(interface{ Shutdown(context.Context) error }); !ok {
		r.Skip("the executor has no Shutdown")
	}
	id := r.started("again")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.nodes[0].Shutdown(ctx) // whether all was in time does not matter
	eventually(r.T, "the end", func() bool { return r.get(id).Terminal != nil })
	end := r.get(id).Terminal
	if end.Type != engine.TypeCompleted && !strings.Contains(string(end.Payload), `"retryable":true`) {
		r.Errorf("it ends with %s %s", end.Type, end.Payload)
	}
}

// What may be run again goes to another node long before the time limit; what may
// not gets the time.
func testShutdownLeavesAtOnce(r *restarts) {
	if _, ok := r.nodes[0].exec.(interface{ Shutdown(context.Context) error }); !ok {
		r.Skip("the executor has no Shutdown")
	}
	again, once := r.started("again"), r.started("once")
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	defer cancel()
	down := make(chan error, 1)
	go func() { down <- r.nodes[0].Shutdown(ctx) }()
	r.await(again, engine.StatusCompleted) // within patience
	r.wantStory(again, "STARTED RESTARTED(1) PROGRESS COMPLETED")
	if got := r.get(once).Status; got != engine.StatusRunning {
		r.Errorf("what may not be run again is %s", got)
	}
	r.release()
	r.await(once, engine.StatusCompleted)
	if err := <-down; err != nil {
		r.Errorf("Shutdown: %v", err)
	}
}

// parked asks, and loses its node.
func (r *restarts) parked() string {
	r.Helper()
	if _, ok := r.nodes[0].exec.(engine.Resumer); !ok {
		r.Skip("the executor is no engine.Resumer")
	}
	id := r.create(r.nodes[0], "ask")
	eventually(r.T, "it asks", func() bool { return len(r.get(id).Suspensions) == 1 })
	r.die(0)
	eventually(r.T, "nobody holds it", func() bool { return r.shared.parked(id) })
	return id
}

const (
	answeredStory = `STARTED MESSAGE(asking) SUSPENDED ACTION_ACCEPTED MESSAGE(yes {"n":1}) COMPLETED`
	// parkedStory is of a task that had no process when the answer came.
	parkedStory = `STARTED MESSAGE(asking) SUSPENDED ACTION_ACCEPTED RESTARTED(1) MESSAGE(yes {"n":1}) COMPLETED`
)

func (r *restarts) answer(id string) {
	r.Helper()
	res, err := r.nodes[1].Act(r.Context(), suiteAuth, engine.ActionRequest{
		TaskID: id, ClientActionID: "c", SuspendID: "s", ActionType: "yes", Payload: json.RawMessage(`{"n":1}`),
	})
	if err != nil || res.Status != engine.ActionStatusAccepted {
		r.Fatalf("Act: %+v, %v", res, err)
	}
}

func testParked(r *restarts) {
	id := r.parked()
	r.answer(id)
	r.await(id, engine.StatusCompleted)
	r.wantStory(id, parkedStory)
	if n := r.runs.Load(); n != 2 {
		r.Errorf("the handler was run %d times, want 2", n)
	}
}

func testParkedTwice(r *restarts) {
	r.join()
	id := r.parked()
	r.answer(id)
	s, err := r.shared.Suspension(r.Context(), id, "s")
	if err != nil {
		r.Fatal(err)
	}
	task := r.get(id)
	var group sync.WaitGroup
	for range 3 {
		for n := 1; n <= 2; n++ {
			group.Go(func() { _ = r.nodes[n].exec.(engine.Resumer).Resume(context.Background(), task, s, *s.Answer) })
		}
	}
	group.Wait()
	r.await(id, engine.StatusCompleted)
	for n := 1; n <= 2; n++ {
		_ = r.nodes[n].exec.(engine.Resumer).Resume(r.Context(), r.get(id), s, *s.Answer) // it is over
	}
	r.wantStory(id, parkedStory)
}
