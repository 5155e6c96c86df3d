package localexec

import (
	"context"
	"errors"
	"fmt"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var (
	_ engine.Restarter = (*Executor)(nil)
	_ engine.Resumer   = (*Executor)(nil)
)

// Restartable allows the handler to be run again from its beginning, on any
// node, when the process that ran it died or was shut down; on a store that has
// engine.Leases. Without it such a task ends, with WORKER_LOST or
// EXECUTOR_SHUTDOWN.
//
// The new run can go on from the last checkpoint (run.Save), which run.Saved returns;
// what the handler did after that is done twice. Clients are told: the new run begins
// with a TASK_STARTED that has restarts and names the event at the checkpoint; texts
// and progress after that event are void. run.Suspend returns the answer that it
// returned before, if the suspensions come in the same order or are named;
// while the task waits in it, it needs no process at all. A shutdown begins with
// stopping the handler, with cause ErrShutdown, and another process continues the task. A task that loses its process while one of several suspensions is
// open waits until one of them is resolved, whatever else it was doing.
func Restartable() HandlerOption {
	return func(h *handler) error {
		h.restartable = true
		return nil
	}
}

// Restartable implements engine.Restarter.
func (x *Executor) Restartable(taskType string) bool {
	h, ok := x.handlers[taskType]
	return ok && h.restartable
}

var errHere = errors.New("localexec: the task is still here")

// Restart implements engine.Restarter. It needs a place, as a new task does.
func (x *Executor) Restart(_ context.Context, task engine.Task) error {
	h, ok := x.handlers[task.Type]
	if !ok || !h.restartable {
		return engine.NewError(engine.CodeInvalidRequest, "no restartable handler of this type")
	}
	do, err := h.bind(task.Input)
	if err != nil {
		return err
	}
	if err := x.place(task); err != nil {
		return err
	}
	return x.submit(h.job(task, task.Owner, do))
}

// place takes a place for a task that is not here yet.
func (x *Executor) place(task engine.Task) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.jobs[task.ID] != nil {
		return errHere
	}
	if x.leaving {
		return x.refuse(engine.CodeTaskSubmission, "the server is shutting down")
	}
	return x.takePlace(task.Owner)
}

// Resume implements engine.Resumer. A run that is here, or on another node, has
// the answer by itself; a task that nobody runs is run again, and finds it.
func (x *Executor) Resume(ctx context.Context, task engine.Task, _ engine.Suspension, _ engine.Action) error {
	if !task.Restartable {
		return engine.ErrHandOffPending
	}
	if err := x.Restart(ctx, task); err != nil && !errors.Is(err, errHere) {
		return fmt.Errorf("%w: %w", engine.ErrHandOffPending, err)
	}
	return engine.ErrHandOffPending
}
