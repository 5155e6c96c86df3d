package localexec

import (
	"container/list"
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
	places   int       // slots, queued and running tasks
	running  int       // tasks that have a worker
	queue    list.List // of *job, waiting for a worker
	jobs     map[string]*job
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
	if err := x.takePlace(); err != nil {
		return nil, err
	}
	return &slot{x: x, handler: h, do: do}, nil
}

// takePlace is undone by vacate. mu is held.
func (x *Executor) takePlace() error {
	if x.draining {
		return x.refusal("the server is shutting down")
	}
	if x.places >= x.cfg.Workers+x.cfg.Queue {
		return x.refusal("too many tasks are waiting")
	}
	x.places++
	return nil
}

func (x *Executor) refusal(message string) error {
	err := engine.NewError(engine.CodeTaskSubmission, message)
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
	if x.draining {
		return errors.New("draining")
	}
	if x.places >= x.cfg.Workers+x.cfg.Queue {
		return fmt.Errorf("full: %d tasks running, %d waiting", x.running, x.queue.Len())
	}
	return nil
}

// slot is a place for one task, with its decoded input.
type slot struct {
	x       *Executor
	handler *handler
	do      call
	used    atomic.Bool
}

var errUsedSlot = engine.NewError(engine.CodeInternal, "localexec: a slot was used twice")

// Submit implements engine.Slot. It never blocks.
func (s *slot) Submit(_ context.Context, task engine.Task) error {
	if s.used.Swap(true) {
		return errUsedSlot
	}
	return s.x.submit(s.handler.job(task, s.do))
}

// Release implements engine.Slot.
func (s *slot) Release() {
	if !s.used.Swap(true) {
		s.x.mu.Lock()
		defer s.x.mu.Unlock()
		s.x.vacate()
	}
}

func (x *Executor) submit(j *job) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.emitter == nil:
		x.vacate()
		return engine.NewError(engine.CodeInternal, "localexec: the executor is not bound to an engine")
	case x.stopped:
		x.vacate()
		return x.refusal("the server is shutting down")
	case x.jobs[j.task.ID] != nil: // two came to run it again
		x.vacate()
		return errHere
	}
	j.ctx, j.cancel = context.WithCancelCause(x.work)
	x.jobs[j.task.ID] = j
	if x.running < x.cfg.Workers {
		x.running++
		close(j.turn)
	} else {
		j.waiting = x.queue.PushBack(j)
	}
	x.group.Go(func() { x.run(j) })
	return nil
}

// leave gives back what j held: its place, and its worker to the next in line.
func (x *Executor) leave(j *job) {
	j.cancel(nil)
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.jobs, j.task.ID)
	if j.waiting != nil {
		x.queue.Remove(j.waiting)
	} else if next := x.queue.Front(); next != nil {
		heir := x.queue.Remove(next).(*job)
		heir.waiting = nil
		close(heir.turn)
	} else {
		x.running--
	}
	x.vacate()
}

// vacate gives a place back. mu is held.
func (x *Executor) vacate() {
	x.places--
	x.checkIdle()
}

func (x *Executor) checkIdle() {
	if x.draining && x.places == 0 && !x.emptied {
		x.emptied = true
		close(x.idle)
	}
}
