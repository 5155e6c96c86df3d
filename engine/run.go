package engine

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// Run is how a worker writes to its task's log. It may be used by several
// goroutines; events go into the log in the order of the calls.
//
// Durable calls return when the store has the event. Streamed calls return at
// once and run ahead of the store, within EmitConfig.BufferBytes; a durable
// call comes after everything streamed before it. An error of a streamed event
// comes back from every later durable call, from Flush and from Close, and
// nothing after it is stored, except the TASK_FAILED or TASK_CANCELLED that
// ends the task. After a terminal event the run is closed: every further event
// is refused with TASK_ALREADY_TERMINAL. A run whose task was given to another
// worker (ErrLeaseLost) stores nothing any more.
//
// A durable call whose ctx ends first returns context.Cause(ctx); its event may
// still be stored.
type Run struct {
	em    *Emitter
	task  Task
	token string // names this run's appends
	hold  *hold  // nil if the store has no Leases

	ctx    context.Context // of the handler, see Context
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	unlisten func() // nil without Signals and after Close
	pipe     pipe
	text     rollUp
	// lost is the error of a streamed event.
	lost error
	// saved is the task's checkpoint. resumesAfter is the event at the checkpoint of
	// an earlier run, and does not change.
	saved        json.RawMessage
	resumesAfter EventID
	// over: a terminal event is queued or stored, or the log refused one of
	// ours because of another's.
	over   bool
	closed bool
	// superseded: the task is another worker's now.
	superseded bool

	// suspends counts the calls of Suspend; waits, those that wait, by SuspendID.
	suspends int
	waits    map[string]int
	// resolved is the last Signal's; resolving is closed when it changes, nil if
	// nobody waits for that.
	resolved  uint64
	resolving chan struct{}
}

var (
	errAlreadyTerminal = NewError(CodeTaskAlreadyTerminal, "the task is over")
	errRunClosed       = NewError(CodeInvalidTaskState, "the run is closed")
)

// Task returns the record as it was when the run was opened.
func (r *Run) Task() Task { return r.task }

// Restarted reports whether an earlier run has begun the task: its TASK_STARTED
// is in the log, and whatever else that run emitted. Saved returns its checkpoint.
func (r *Run) Restarted() bool { return r.task.Status == StatusRunning }

// Context ends when cancellation is requested (context.Cause is then a
// *CancelRequested), when the task's lease is lost (ErrLeaseLost), when the
// context that the run was opened with does, or with Close.
func (r *Run) Context() context.Context { return r.ctx }

// Emit stores one event and returns when it is durable. A payload that does
// not fit its type, is not UTF-8, or is too large is refused with an error
// that names the field (REQUEST_VALIDATION_ERROR, Fields).
func (r *Run) Emit(ctx context.Context, p Payload) error {
	d, err := r.em.draft(p)
	if err != nil {
		return err
	}
	return r.store(ctx, item{draft: d})
}

// EmitRaw is Emit for a payload that is JSON already.
func (r *Run) EmitRaw(ctx context.Context, t EventType, payload json.RawMessage) error {
	payload, err := r.em.limits.checkPayload(t, payload)
	if err != nil {
		return err
	}
	return r.store(ctx, item{draft: Draft{Type: t, CreatedAt: wireTime(time.Now()), Payload: payload}})
}

// store queues an item and waits until it is stored.
func (r *Run) store(ctx context.Context, it item) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.mu.Lock()
	if err := r.refusal(it.draft.Type); err != nil {
		r.mu.Unlock()
		return err
	}
	r.endText()
	it.done = make(chan error, 1)
	if !r.pipe.busy {
		return r.storeInline(ctx, it)
	}
	stored := r.enqueue(it)
	r.mu.Unlock()
	return await(ctx, stored)
}

func await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select { // both at once: what happened counts
	case err := <-done:
		return err
	default:
		return context.Cause(ctx)
	}
}

// Stream queues one event and returns. It waits only while the buffer is full.
func (r *Run) Stream(p Payload) {
	d, err := r.em.draft(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.lose(err)
		return
	}
	if r.hasRoom(d.Type, len(d.Payload)) {
		r.endText()
		r.enqueue(item{draft: d})
	}
}

// Text streams a piece of text as TASK_MESSAGE. Adjacent pieces are rolled up
// into one event for at most EmitConfig.RollUp; the first one after a pause
// leaves at once. A character may be split between two pieces; bytes that are
// no UTF-8 become U+FFFD.
func (r *Run) Text(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(s) > 0 {
		piece := s[:min(len(s), r.em.textBytes())]
		if !r.hasRoom(TypeMessage, len(piece)) {
			return
		}
		s = s[len(piece):]
		r.addText(piece)
	}
}

// Progress stores TASK_PROGRESS: percent is 0..100, stage may be empty.
func (r *Run) Progress(ctx context.Context, percent float64, stage string) error {
	return r.Emit(ctx, Progress{Percent: percent, Stage: stage})
}

// Flush returns when everything streamed so far is stored.
func (r *Run) Flush(ctx context.Context) error {
	r.mu.Lock()
	r.endText()
	if !r.pipe.busy { // nothing is queued either
		defer r.mu.Unlock()
		return r.lost
	}
	done := r.enqueue(item{done: make(chan error, 1)})
	r.mu.Unlock()
	return await(ctx, done)
}

// Close flushes what is streamed and gives back what the run holds. It does
// not end the task. It may be called again. If ctx ends first, storing goes on
// in the background until the engine is shut down.
//
// After a Close without an error another process may open the task; no lease is
// held then, so nobody notices if none does. After one with an error the lease
// runs out, and an open task is failed as one whose worker was lost.
func (r *Run) Close(ctx context.Context) error {
	r.finalize()
	defer r.cancel(errRunClosed)
	err := r.Flush(ctx)
	how := unclean
	if err == nil && ctx.Err() == nil {
		how = clean
	}
	if e := r.em.holds.leave(ctx, r.hold, r, how); err == nil {
		err = e
	}
	return err
}

// finalize ends the taking of events and signals.
func (r *Run) finalize() {
	r.mu.Lock()
	r.endText()
	r.closed = true
	unlisten := r.unlisten
	r.unlisten = nil
	r.mu.Unlock()
	r.em.runs.remove(r)
	if unlisten != nil {
		unlisten()
	}
}

// Abandonable reports whether Abandon would leave the task to another process.
func (r *Run) Abandonable() bool {
	return r.hold != nil && r.task.Restartable && !cancelRequested(r.ctx)
}

// Abandon is Close for a worker that must stop and wants another process to go
// on with the task: another node runs it again, or, if a suspension of it is
// open, once that is resolved. It is false, and nothing has happened, if nobody
// could: the store has no Leases, or the task is not restartable, or asked to be
// cancelled. The caller then owes the task an end.
//
// An error beside true says that something streamed was not stored, or that the
// task could not be given back: it is taken over when its lease has run out.
func (r *Run) Abandon(ctx context.Context) (bool, error) {
	if !r.Abandonable() {
		return false, nil
	}
	r.finalize()
	defer r.cancel(errRunClosed)
	err := r.Flush(ctx)
	how := unclean
	if err == nil && ctx.Err() == nil {
		how = forOthers
		// What is answered in this moment is still to be handed over, and comes
		// to whoever takes the task then.
		if task, e := r.em.store.Get(ctx, r.task.ID, Fresh); e == nil && len(task.Suspensions) > 0 {
			how = clean
		}
	}
	if e := r.em.holds.leave(ctx, r.hold, r, how); err == nil {
		err = e
	}
	if err == nil && how == clean {
		err = r.em.cancelMissed(ctx, r.task.ID)
	}
	return true, err
}

func cancelRequested(ctx context.Context) bool {
	var c *CancelRequested
	return errors.As(context.Cause(ctx), &c)
}

// supersede ends the run because its task was given to another worker.
func (r *Run) supersede() {
	r.mu.Lock()
	r.superseded = true
	r.lose(ErrLeaseLost)
	r.drop(ErrLeaseLost, func(item) bool { return true })
	r.mu.Unlock()
	r.cancel(ErrLeaseLost)
}

// CancelRequested is the cause of a Run's context after a cancel request.
type CancelRequested struct{ Reason string }

// Error gives the reason.
func (c *CancelRequested) Error() string { return "cancellation requested: " + c.Reason }
