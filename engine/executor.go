package engine

import "context"

// TaskExecutor runs tasks: in this process (package localexec), or by handing
// them to a system of the host. Its methods may be called concurrently and
// must not block the request that they serve.
//
// If it also has Shutdown(context.Context) error, Engine.Shutdown calls that. If
// it has Drain(), Engine.Drain calls that, perhaps more than once: it returns at
// once, and from then on the executor leaves tasks that may be run again to other
// processes ([Run.Abandon]), and continues all others until Shutdown.
// Package enginetest holds the suites that every executor must pass, and those that
// are a Restarter or a Resumer.
type TaskExecutor interface {
	// Bind hands over the emitter, once, before any other call.
	Bind(em *Emitter)

	// Admit is asked before anything is stored. It returns INVALID_REQUEST for
	// a task that can never run here (unknown type, input that does not fit)
	// and TASK_SUBMISSION_ERROR for a passing refusal (full, draining), or
	// RATE_LIMITED if only this owner has too much here.
	// Otherwise it holds a place until Submit or Release of the returned Slot.
	Admit(ctx context.Context, spec TaskSpec) (Slot, error)

	// Cancel tells the executor that a cancellation of task was requested.
	// Runs opened through the Emitter have their context cancelled anyway, on
	// whatever node they are; this is for executors that run tasks elsewhere.
	// It may come again, and for a task that this executor does not run: that
	// is nil. After an error the client is asked to repeat the request
	// (TASK_SUBMISSION_ERROR).
	Cancel(ctx context.Context, task Task) error
}

// Restarter is the power of a TaskExecutor to run a task again whose worker was
// lost. New looks for it once; it counts on a store with Leases.
//
// An executor that has it opens a Run for every submitted task at once, even if
// the task has to wait for its turn: one that nobody opens within
// LeaseConfig.TTL counts as lost, too. If it has Shutdown, it leaves tasks that
// another process can run again to others at the beginning, in Drain or in Shutdown,
// and not at the end of the time limit.
type Restarter interface {
	// Restartable reports whether tasks of a type may be run again from their
	// beginning: whether what their worker did before it was lost may be done
	// twice. It is asked at create and kept with the task.
	Restartable(taskType string) bool
	// Restart runs a task again, in the background: it opens a Run, as for a task
	// that was submitted, and calls its Start. Opening ends with TASK_CONFLICT if
	// another node is faster. An error leaves the task to other nodes, or to a later time: a type
	// that it does not have or that may not be run again, no room, a shutdown.
	Restart(ctx context.Context, task Task) error
}

// TaskSpec is what an executor knows of a task before it exists.
type TaskSpec struct {
	Type        string
	Owner       string
	Input       []byte
	Attachments int
}

// Slot is a place that an executor holds for one task. Exactly one of its
// methods is called, once.
type Slot interface {
	// Submit hands the task over. After nil the executor owes the task a
	// terminal event. After an error the engine fails the task.
	Submit(ctx context.Context, task Task) error
	// Release gives the place back.
	Release()
}
