package engine

import (
	"context"
	"encoding/json"
)

// Emitter opens runs. The engine hands it to the executor; a worker process
// that has no executor gets it from Engine.Emitter.
type Emitter struct{}

// Open returns a Run for a task that this process works on. Its context ends
// when ctx does or when somebody, on any node, asks for cancellation. Close it.
func (m *Emitter) Open(ctx context.Context, task Task) (*Run, error) { panic("unwritten") }

// Run is how a worker writes to its task's log. It may be used by several
// goroutines; events go into the log in the order of the calls.
//
// Durable calls return when the store has the event. Streamed calls return at
// once and run ahead of the store, within EmitConfig.BufferBytes; a durable
// call comes after everything streamed before it. An error of a streamed event
// comes back from every later durable call, from Flush and from Close. After a
// terminal event the run is closed: every further event is refused with
// TASK_ALREADY_TERMINAL.
type Run struct{}

// Task returns the record as it was when the run was opened.
func (r *Run) Task() Task { panic("unwritten") }

// Context ends when cancellation is requested (context.Cause is then a
// *CancelRequested), or when the context that the run was opened with does.
func (r *Run) Context() context.Context { panic("unwritten") }

// Emit stores one event and returns when it is durable. A payload that does
// not fit its type, is not UTF-8, or is too large is refused with an error
// that names the field.
func (r *Run) Emit(ctx context.Context, p Payload) error { panic("unwritten") }

// EmitRaw is Emit for a payload that is JSON already.
func (r *Run) EmitRaw(ctx context.Context, t EventType, payload json.RawMessage) error {
	panic("unwritten")
}

// Stream queues one event and returns. It waits only while the buffer is full.
func (r *Run) Stream(p Payload) { panic("unwritten") }

// Text streams a piece of text as TASK_MESSAGE. Adjacent pieces are rolled up
// into one event for at most EmitConfig.RollUp; the first one after a pause
// leaves at once.
func (r *Run) Text(s string) { panic("unwritten") }

// Progress stores TASK_PROGRESS: percent is 0..100, stage may be empty.
func (r *Run) Progress(ctx context.Context, percent float64, stage string) error {
	return r.Emit(ctx, Progress{Percent: percent, Stage: stage})
}

// Flush returns when everything streamed so far is stored.
func (r *Run) Flush(ctx context.Context) error { panic("unwritten") }

// Suspend stores TASK_SUSPENDED and waits until the suspension expires
// (ErrSuspensionExpired) or ctx or the run's context ends.
func (r *Run) Suspend(ctx context.Context, s Suspended) error { panic("unwritten") }

// Close flushes what is streamed and gives back what the run holds. It does
// not end the task.
func (r *Run) Close(ctx context.Context) error { panic("unwritten") }

// CancelRequested is the cause of a Run's context after a cancel request.
type CancelRequested struct{ Reason string }

// Error gives the reason.
func (c *CancelRequested) Error() string { return "cancellation requested: " + c.Reason }

// ErrSuspensionExpired is returned by Run.Suspend when nobody answered in time.
var ErrSuspensionExpired = NewError(CodeInvalidTaskState, "the suspension expired")
