package engine

import "context"

// TaskExecutor runs tasks: in this process (package localexec), or by handing
// them to a system of the host. Its methods may be called concurrently and
// must not block the request that they serve.
//
// If it also has Shutdown(context.Context) error, Engine.Shutdown calls that.
// Package enginetest holds the suite that every executor must pass.
type TaskExecutor interface {
	// Bind hands over the emitter, once, before any other call.
	Bind(em *Emitter)

	// Admit is asked before anything is stored. It returns INVALID_REQUEST for
	// a task that can never run here (unknown type, input that does not fit)
	// and TASK_SUBMISSION_ERROR for a passing refusal (full, draining).
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

// TaskSpec is what an executor knows of a task before it exists.
type TaskSpec struct {
	Type        string
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
