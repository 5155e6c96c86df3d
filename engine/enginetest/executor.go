package enginetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Executor is an engine.TaskExecutor whose tasks do nothing by themselves: the
// test takes each one's Run and emits what it wants clients to see, when it
// wants it. It owes no task a terminal event; that is the test's choice too.
// Make one with NewExecutor; it is safe for concurrent use.
type Executor struct {
	mu       sync.Mutex
	emitter  *engine.Emitter
	admit    error
	submit   error
	held     int
	order    []string // submitted and not yet taken, oldest first
	tasks    map[string]engine.Task
	runs     map[string]*engine.Run
	cancels  []engine.Task
	shutdown bool
	changed  chan struct{} // closed and replaced at every submission
}

// NewExecutor returns an Executor that admits everything.
func NewExecutor() *Executor {
	return &Executor{
		tasks:   map[string]engine.Task{},
		runs:    map[string]*engine.Run{},
		changed: make(chan struct{}),
	}
}

// submissionWait bounds how long Next waits for the code under test.
const submissionWait = time.Minute

// Next returns the Run of the task that was submitted first among those that
// neither Next nor Task has returned yet. It waits for one, and fails the test
// if none comes within 10 seconds.
func (x *Executor) Next(t testing.TB) *engine.Run {
	t.Helper()
	deadline := time.NewTimer(submissionWait)
	defer deadline.Stop()
	for {
		x.mu.Lock()
		if len(x.order) > 0 {
			id := x.order[0]
			x.mu.Unlock()
			return x.Task(t, id)
		}
		changed := x.changed
		x.mu.Unlock()
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("enginetest: no task was submitted within %v", submissionWait)
		}
	}
}

// Task returns the Run of one submitted task, the same one each time. It fails
// the test if the task was not submitted.
func (x *Executor) Task(t testing.TB, taskID string) *engine.Run {
	t.Helper()
	run, err := x.open(taskID)
	if err != nil {
		t.Fatalf("enginetest: task %s: %v", taskID, err)
	}
	return run
}

func (x *Executor) open(taskID string) (*engine.Run, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if run, ok := x.runs[taskID]; ok {
		return run, nil
	}
	task, ok := x.tasks[taskID]
	switch {
	case !ok:
		return nil, errors.New("it was not submitted")
	case x.shutdown:
		return nil, errors.New("the executor is shut down")
	}
	run, err := x.emitter.Open(context.Background(), task)
	if err != nil {
		return nil, err
	}
	x.runs[taskID] = run
	if i := slices.Index(x.order, taskID); i >= 0 {
		x.order = slices.Delete(x.order, i, i+1)
	}
	return run, nil
}

// RefuseAdmission makes Admit return err from now on; nil lets it admit again.
func (x *Executor) RefuseAdmission(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.admit = err
}

// FailSubmission makes every Submit return err from now on; nil lets it take
// tasks again.
func (x *Executor) FailSubmission(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.submit = err
}

// Cancels returns the tasks that Cancel was called with, oldest call first.
func (x *Executor) Cancels() []engine.Task {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.cancels)
}

// Held returns how many places are held that were neither submitted nor
// released. After a request is answered it is 0.
func (x *Executor) Held() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.held
}

// Bind implements engine.TaskExecutor.
func (x *Executor) Bind(em *engine.Emitter) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.emitter = em
}

// Admit implements engine.TaskExecutor.
func (x *Executor) Admit(context.Context, engine.TaskSpec) (engine.Slot, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.shutdown {
		return nil, engine.NewError(engine.CodeTaskSubmission, "the executor is shut down")
	}
	if x.admit != nil {
		return nil, x.admit
	}
	x.held++
	return &slot{x: x}, nil
}

// Cancel implements engine.TaskExecutor.
func (x *Executor) Cancel(_ context.Context, task engine.Task) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cancels = append(x.cancels, task)
	return nil
}

// Shutdown closes the runs that were handed out, and refuses what comes. It
// leaves the tasks as they are.
func (x *Executor) Shutdown(ctx context.Context) error {
	x.mu.Lock()
	x.shutdown = true
	runs := x.runs
	x.runs = map[string]*engine.Run{}
	x.mu.Unlock()
	var errs []error
	for _, run := range runs {
		errs = append(errs, run.Close(ctx))
	}
	return errors.Join(errs...)
}

type slot struct {
	x    *Executor
	used bool // guarded by x.mu
}

// leave gives the place back, once.
func (s *slot) leave() error {
	if s.used {
		return errors.New("enginetest: a slot was used twice")
	}
	s.used = true
	s.x.held--
	return nil
}

func (s *slot) Submit(_ context.Context, task engine.Task) error {
	x := s.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := s.leave(); err != nil {
		return err
	}
	if x.submit != nil {
		return x.submit
	}
	x.tasks[task.ID] = task
	x.order = append(x.order, task.ID)
	close(x.changed)
	x.changed = make(chan struct{})
	return nil
}

func (s *slot) Release() {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	_ = s.leave()
}
