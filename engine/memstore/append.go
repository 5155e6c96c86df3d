package memstore

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Append implements engine.EventStore.
func (s *Store) Append(ctx context.Context, a engine.Append) ([]engine.EventID, error) {
	e, err := s.find(a.TaskID)
	if err != nil {
		return nil, err
	}
	if err := checkBatch(a); err != nil {
		return nil, err
	}
	ids, err := s.append(e, a)
	if err != nil {
		return nil, err
	}
	if s.pressed(e) {
		s.press(ctx, e)
	}
	return ids, nil
}

func checkBatch(a engine.Append) error {
	if a.Token == "" {
		return engine.NewError(engine.CodeInternal, "memstore: append without a token")
	}
	if len(a.Events) == 0 && a.Checkpoint == nil {
		return engine.NewError(engine.CodeInternal, "memstore: append without events")
	}
	for _, d := range a.Events[:max(len(a.Events)-1, 0)] {
		if d.Type.Terminal() {
			return engine.NewError(engine.CodeInternal, "memstore: a terminal event that is not the last of its batch")
		}
	}
	if n := len(a.Events); n > 0 && a.Checkpoint != nil && a.Events[n-1].Type.Terminal() {
		return engine.NewError(engine.CodeInternal, "memstore: a checkpoint with a terminal event")
	}
	return nil
}

func (s *Store) append(e *entry, a engine.Append) ([]engine.EventID, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return s.appendTo(e, a, resolution{})
}

// appendTo appends with e.mu held; r says what answer it resolves a suspension
// with.
func (s *Store) appendTo(e *entry, a engine.Append, r resolution) ([]engine.EventID, error) {
	t, err := e.load()
	if err != nil {
		return nil, err
	}
	if ids, ok := e.tokens.find(a.Token); ok {
		return ids, nil
	}
	if over(t) {
		return nil, engine.NewError(engine.CodeTaskAlreadyTerminal, "the task is over")
	}

	if len(a.Events) == 0 {
		s.usage.grow(e.account, e.keep(a.Checkpoint))
		return nil, nil
	}

	now := s.now()
	// All events of a batch share the milliseconds, which never go back.
	millis := max(e.log.last.Millis, uint64(max(now.UnixMilli(), 0)))
	batch := makeBatch(e.id, a.Events, engine.EventID{Millis: millis, Ordinal: e.log.last.Ordinal})
	next, err := follow(t, batch)
	if err != nil {
		return nil, err
	}
	if len(next.Suspensions) > max(len(t.Suspensions), s.cfg.Actions.MaxOpen) {
		return nil, engine.NewError(engine.CodeInvalidTaskState, "the task has too many open suspensions")
	}

	// From here on nothing fails. The record goes first: who has seen an event
	// finds it in the record too.
	var grown int64
	if next != t {
		touch(next, now)
		grown += e.publish(next)
	}
	grown += s.note(e, a.Events, batch, r)
	grown += e.log.append(batch)
	grown += e.keep(a.Checkpoint)
	grown += e.tokens.add(strings.Clone(a.Token), batch[0].ID, len(batch))
	if resolves(batch, t) {
		e.resolved++
		e.wake(next)
	}
	for _, f := range e.followers {
		f.to.Push(batch)
	}
	grown -= e.log.trim(s.cfg.MaxStreamLength, s.cfg.MaxStreamBytes)
	s.usage.grow(e.account, grown)
	if over(next) {
		s.usage.grow(e.account, e.forget())
		s.finish(e)
	}
	return idsFrom(batch[0].ID, len(batch)), nil
}

// finish notes, with e.mu held, that e has ended.
func (s *Store) finish(e *entry) {
	e.ended = s.now()
	s.usage.list(e)
}

// makeBatch gives drafts their place after last. Payloads are copied into one
// block: the caller's buffers stay the caller's, and the size is what it says.
func makeBatch(taskID string, drafts []engine.Draft, last engine.EventID) []engine.Event {
	size := 0
	for i := range drafts {
		size += len(drafts[i].Payload)
	}
	block := make([]byte, 0, size)
	batch := make([]engine.Event, len(drafts))
	for i, d := range drafts {
		from := len(block)
		block = append(block, d.Payload...)
		last.Ordinal++
		batch[i] = engine.Event{
			ID: last, TaskID: taskID, Type: d.Type, CreatedAt: d.CreatedAt,
			Payload: block[from:len(block):len(block)],
		}
	}
	return batch
}

// follow returns the record after batch: t itself if nothing in it changes.
func follow(t *engine.Task, batch []engine.Event) (*engine.Task, error) {
	next := *t
	changed := false
	for i := range batch {
		ev := &batch[i]
		if st := ev.Type.StatusAfter(); st != "" && st != next.Status {
			next.Status, changed = st, true
		}
		switch {
		case ev.Type == engine.TypeStarted:
			var begun engine.Started
			if err := json.Unmarshal(ev.Payload, &begun); err != nil {
				return nil, badPayload(ev, err)
			}
			if begun.Restarts > 0 {
				next.Restarts, changed = begun.Restarts, true
			}
		case ev.Type == engine.TypeSuspended:
			var opened engine.Suspended
			if err := json.Unmarshal(ev.Payload, &opened); err != nil {
				return nil, badPayload(ev, err)
			}
			next.Suspensions = append(without(next.Suspensions, opened.SuspendID), opened)
			changed = true
		case ev.Type == engine.TypeActionAccepted:
			var done engine.ActionAccepted
			if err := json.Unmarshal(ev.Payload, &done); err != nil {
				return nil, badPayload(ev, err)
			}
			next.Suspensions = without(next.Suspensions, done.SuspendID)
			changed = true
		case ev.Type.Terminal():
			next.Suspensions, next.Terminal = nil, ev
			changed = true
		}
	}
	if !changed {
		return t, nil
	}
	if next.Terminal != nil { // a copy, so that the record does not hold the batch
		ev := *next.Terminal
		ev.Payload = slices.Clone(ev.Payload)
		next.Terminal = &ev
	}
	return &next, nil
}

// resolves reports whether batch closes a suspension of t.
func resolves(batch []engine.Event, t *engine.Task) bool {
	return slices.ContainsFunc(batch, func(ev engine.Event) bool {
		return ev.Type == engine.TypeActionAccepted || ev.Type.Terminal() && len(t.Suspensions) > 0
	})
}

// without returns a new slice, of the suspensions other than id.
func without(open []engine.Suspended, id string) []engine.Suspended {
	var rest []engine.Suspended
	for _, s := range open {
		if s.SuspendID != id {
			rest = append(rest, s)
		}
	}
	return rest
}

func badPayload(ev *engine.Event, err error) error {
	return engine.Errorf(engine.CodeInternal, "memstore: a %s payload that cannot be read", ev.Type).WithCause(err)
}
