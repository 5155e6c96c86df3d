package localexec

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Executor implements engine.TaskExecutor and engine.ReadinessProbe, and has
// the Shutdown that the engine looks for. Make one with New; it is safe for
// concurrent use.
type Executor struct {
	cfg      Config
	handlers handlers
	emitter  *engine.Emitter

	// work ends when handlers must stop, final when even last events must.
	work      context.Context
	stopWork  context.CancelCauseFunc
	final     context.Context
	stopFinal context.CancelFunc

	mu       sync.Mutex
	places   places
	jobs     map[string]*job
	leaving  bool // restartable tasks are left to other processes
	draining bool
	stopped  bool
	idle     chan struct{} // closed when draining and no place is held
	emptied  bool          // idle is closed
	// handlersLeft is what handlers get after a stop instead of CancelGrace.
	handlersLeft time.Duration
	// group counts the goroutines of submitted tasks.
	group sync.WaitGroup
}

var (
	_ engine.TaskExecutor   = (*Executor)(nil)
	_ engine.ReadinessProbe = (*Executor)(nil)
)

// New returns an executor for the given handlers. An error names the field of
// Config or the handler that is wrong.
func New(cfg Config, opts ...Option) (*Executor, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	x := &Executor{
		cfg:      cfg.withDefaults(),
		handlers: handlers{},
		jobs:     map[string]*job{},
		idle:     make(chan struct{}),
	}
	x.places = newPlaces(x.cfg)
	for _, opt := range opts {
		if err := opt(x.handlers); err != nil {
			return nil, err
		}
	}
	if len(x.handlers) == 0 {
		return nil, errors.New("localexec: no handler; give New at least one Handle")
	}
	x.work, x.stopWork = context.WithCancelCause(context.Background())
	x.final, x.stopFinal = context.WithCancel(context.Background())
	return x, nil
}

// Bind implements engine.TaskExecutor.
func (x *Executor) Bind(em *engine.Emitter) { x.emitter = em }

// Admit implements engine.TaskExecutor.
func (x *Executor) Admit(_ context.Context, spec engine.TaskSpec) (engine.Slot, error) {
	h, ok := x.handlers[spec.Type]
	if !ok {
		return nil, engine.NewError(engine.CodeInvalidRequest, "unknown task type")
	}
	do, err := h.bind(spec.Input)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.takePlace(spec.Owner); err != nil {
		return nil, err
	}
	return &slot{x: x, handler: h, do: do, owner: spec.Owner}, nil
}

// takePlace is undone by vacate. mu is held.
func (x *Executor) takePlace(owner string) error {
	if x.draining {
		return x.refuse(engine.CodeTaskSubmission, "the server is shutting down")
	}
	switch x.places.take(owner) {
	case allTaken:
		return x.refuse(engine.CodeTaskSubmission, "the server has too many tasks running and waiting")
	case subjectsTaken:
		return x.refuse(engine.CodeRateLimited, "you have too many tasks running and waiting")
	}
	return nil
}

func (x *Executor) refuse(code engine.Code, message string) error {
	err := engine.NewError(code, message)
	err.RetryAfter = x.cfg.RetryAfter
	return err
}

// Cancel implements engine.TaskExecutor: it ends the context of a task that
// runs or waits here. It does nothing for any other task.
func (x *Executor) Cancel(_ context.Context, task engine.Task) error {
	x.mu.Lock()
	j := x.jobs[task.ID]
	x.mu.Unlock()
	if j != nil {
		j.cancel(&engine.CancelRequested{Reason: task.CancelReason})
	}
	return nil
}

// Name is "executor".
func (x *Executor) Name() string { return "executor" }

// Ready fails while the executor is draining or full.
func (x *Executor) Ready(context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.leaving {
		return errors.New("draining")
	}
	if x.places.full() {
		return fmt.Errorf("full: %d tasks running, %d waiting", x.places.running, x.places.waiting)
	}
	return nil
}

// slot is a place for one task, with its decoded input.
type slot struct {
	x       *Executor
	handler *handler
	do      call
	owner   string
	used    atomic.Bool
}

var errUsedSlot = engine.NewError(engine.CodeInternal, "localexec: a slot was used twice")

// Submit implements engine.Slot. It never blocks.
func (s *slot) Submit(_ context.Context, task engine.Task) error {
	if s.used.Swap(true) {
		return errUsedSlot
	}
	return s.x.submit(s.handler.job(task, s.owner, s.do))
}

// Release implements engine.Slot.
func (s *slot) Release() {
	if !s.used.Swap(true) {
		s.x.mu.Lock()
		defer s.x.mu.Unlock()
		s.x.vacate(s.owner)
	}
}

func (x *Executor) submit(j *job) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.emitter == nil:
		x.vacate(j.owner)
		return engine.NewError(engine.CodeInternal, "localexec: the executor is not bound to an engine")
	case x.stopped:
		x.vacate(j.owner)
		return x.refuse(engine.CodeTaskSubmission, "the server is shutting down")
	case x.jobs[j.task.ID] != nil: // two came to run it again
		x.vacate(j.owner)
		return errHere
	}
	j.ctx, j.cancel = context.WithCancelCause(x.work)
	x.jobs[j.task.ID] = j
	x.places.submit(j)
	x.group.Go(func() { x.run(j) })
	return nil
}

// leave gives back what j held: its place, and its worker to the next in line.
func (x *Executor) leave(j *job) {
	j.cancel(nil)
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.jobs, j.task.ID)
	x.places.leave(j)
	x.checkIdle()
}

// vacate gives back a place whose task was not submitted. mu is held.
func (x *Executor) vacate(owner string) {
	x.places.give(owner)
	x.checkIdle()
}

func (x *Executor) checkIdle() {
	if x.draining && x.places.held == 0 && !x.emptied {
		x.emptied = true
		close(x.idle)
	}
}
