package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
)

// Checkpoints is an optional power of a store: it keeps one checkpoint for each task,
// from which a later run can go on. Append writes the checkpoint (Append.Checkpoint),
// and the end of the task removes it. New looks for this power once; without it
// Run.Save fails. See docs/adr/0012-checkpoints.md.
type Checkpoints interface {
	// Checkpoint returns the task's checkpoint; its Data is nil if there is none.
	// TASK_NOT_FOUND if the task is unknown.
	Checkpoint(ctx context.Context, taskID string) (Checkpoint, error)
}

// Checkpoint is what a worker saved of its state.
type Checkpoint struct {
	// Data is JSON.
	Data json.RawMessage
	// At is the newest event when the checkpoint was saved, zero if there was none.
	// The store sets it.
	At EventID
	// Number grows with every checkpoint that is saved under one fence. A checkpoint
	// whose number is not higher than the stored one's is a late repeat.
	Number uint64
}

var errNoCheckpoints = NewError(CodeInternal, "the store keeps no checkpoints")

// Save stores v, as JSON, as the task's checkpoint, in place of the one before, and
// returns when it is durable. If the worker is lost or shut down and the task is run
// again, Saved returns it. The events in with are stored just before it, in the same
// atomic step: either all of this is stored or nothing.
//
// The checkpoint stands for everything that was emitted before the call,
// streamed events included. Clients of a task that goes on from it are told that
// texts and progress after it are void. An event that is stored with the checkpoint
// can never disagree with it:
//
//	err := run.Save(ctx, state{Page: n}, engine.Progress{Percent: 40})
//
// A value over Limits.CheckpointBytes, or one that does not encode, is refused
// with REQUEST_VALIDATION_ERROR; the checkpoint before stays. Other errors are
// those of Emit: a worker that lost its lease cannot save (ErrLeaseLost). The end of
// the task removes the checkpoint, so with cannot have a terminal event. On a store
// without [Checkpoints] Save fails with INTERNAL_ERROR.
func (r *Run) Save(ctx context.Context, v any, with ...Payload) error {
	if r.em.checkpoints == nil {
		return errNoCheckpoints
	}
	data, err := r.em.limits.encodeCheckpoint(v)
	if err != nil {
		return err
	}
	s := &save{data: data}
	for _, p := range with {
		d, err := r.em.draft(p)
		if err != nil {
			return err
		}
		if d.Type.Terminal() {
			return payloadError(d.Type, "type", "ends the task, and its checkpoint with it")
		}
		s.events = append(s.events, d)
	}
	return r.store(ctx, item{save: s})
}

// Saved decodes the task's checkpoint into v: what Save stored last, in this run
// or in an earlier one. It returns false and leaves v alone if there is none.
// Numbers that go into an any become a json.Number and keep their digits. An error
// says that the checkpoint does not fit v, for instance after a deploy that changed
// its type. A handler may start from the beginning then.
func (r *Run) Saved(v any) (bool, error) {
	r.mu.Lock()
	data := r.saved
	r.mu.Unlock()
	if data == nil {
		return false, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return false, NewError(CodeInternal, "the task's checkpoint cannot be read").WithCause(err)
	}
	return true, nil
}

// Start stores TASK_STARTED. For a task that was begun before (Restarted) the
// event says how often it was begun again and which event belongs to the checkpoint
// that it goes on from, so that clients drop what is void. Executors call it once for
// each run, before anything else is emitted.
func (r *Run) Start(ctx context.Context) error {
	var s Started
	if r.Restarted() {
		s.Restarts = r.task.Restarts + 1
		if !r.resumesAfter.IsZero() {
			s.ResumesAfter = r.resumesAfter.String()
		}
	}
	return r.Emit(ctx, s)
}

// recall reads what earlier runs have stored of a task that is run again: the number of
// restarts and the checkpoint. No other run can write to the task any more.
func (r *Run) recall(ctx context.Context) error {
	if !r.Restarted() {
		return nil
	}
	return r.em.retry(ctx, "read a task's checkpoint", r.task.ID, func() error {
		// The caller's record may be from before another run's start.
		task, err := r.em.store.Get(ctx, r.task.ID, Fresh)
		switch {
		case err != nil:
			return err
		case task.Terminal != nil || task.Status.Terminal():
			return errAlreadyTerminal
		}
		r.task.Restarts = task.Restarts
		if r.em.checkpoints == nil {
			return nil
		}
		found, err := r.em.checkpoints.Checkpoint(ctx, r.task.ID)
		r.saved, r.resumesAfter = found.Data, found.At
		return err
	})
}

// save is a checkpoint on its way, with the events that go with it.
type save struct {
	events []Draft
	data   json.RawMessage
}

func (s *save) size() int {
	n := len(s.data)
	for i := range s.events {
		n += len(s.events[i].Payload)
	}
	return n
}

// encodeCheckpoint encodes a checkpoint, which only the host reads.
func (l Limits) encodeCheckpoint(v any) (json.RawMessage, error) {
	refuse := func(message string, cause error) error {
		e := NewError(CodeRequestValidation, "the checkpoint "+message)
		e.Fields = []FieldError{{Field: "checkpoint", Message: message}}
		return e.WithCause(cause)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, refuse("cannot be encoded as JSON", err)
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(data) > l.CheckpointBytes {
		return nil, refuse(fmt.Sprintf("is %d bytes long, at most %d are allowed", len(data), l.CheckpointBytes), nil)
	}
	return data, nil
}
