package memstore

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

const (
	// claim is for how long what Due gave is nobody else's.
	claim = 2 * time.Second
	// maxHandOffPause is the longest pause between two offers of a hand-off.
	maxHandOffPause = 30 * time.Second
)

// Suspension implements engine.ActionStore.
func (s *Store) Suspension(_ context.Context, taskID, suspendID string) (engine.Suspension, error) {
	e, err := s.find(taskID)
	if err != nil {
		return engine.Suspension{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.load(); err != nil {
		return engine.Suspension{}, err
	}
	if found := e.acts.byID[suspendID]; found != nil {
		return found.Suspension, nil
	}
	return engine.Suspension{}, engine.NewError(engine.CodeTaskNotFound, "suspension not found")
}

// Resolve implements engine.ActionStore.
func (s *Store) Resolve(ctx context.Context, r engine.Resolution) (engine.Verdict, error) {
	e, err := s.find(r.TaskID)
	if err != nil {
		return 0, err
	}
	verdict, err := s.resolve(e, r)
	if err == nil && s.pressed(e) {
		s.press(ctx, e)
	}
	return verdict, err
}

func (s *Store) resolve(e *entry, r engine.Resolution) (engine.Verdict, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load()
	if err != nil {
		return 0, err
	}
	verdict, found := e.acts.verdict(r, t, s.now())
	if verdict != engine.VerdictAccepted {
		return verdict, nil
	}
	// Before the append, which closes it without an answer otherwise. Nothing is
	// lost if the append fails: only a payload that is no JSON makes it.
	found.Expired = r.Expiry
	var answer *engine.Action
	if r.Action != nil {
		answer = detachAction(*r.Action)
	}
	_, err = s.appendTo(e, engine.Append{TaskID: e.id, Token: randomName(), Events: []engine.Draft{r.Event}},
		resolution{found, answer, strings.Clone(r.Fingerprint)})
	if err != nil {
		found.Expired = false
		return 0, err
	}
	return engine.VerdictAccepted, nil
}

// resolution says what an append resolves, and with what.
type resolution struct {
	s           *suspension
	answer      *engine.Action
	fingerprint string
}

func detachAction(a engine.Action) *engine.Action {
	for _, s := range []*string{&a.ClientActionID, &a.SuspendID, &a.ActionType, &a.Actor} {
		*s = strings.Clone(*s)
	}
	a.Payload, a.Metadata = slices.Clone(a.Payload), slices.Clone(a.Metadata)
	return &a
}

// note keeps what a batch that was appended means for the task's suspensions,
// and returns by how much their size changed. e.mu is held.
func (s *Store) note(e *entry, drafts []engine.Draft, batch []engine.Event, r resolution) (grown int64) {
	before := e.acts.size
	for i := range batch {
		switch ev := &batch[i]; {
		case ev.Type == engine.TypeSuspended:
			var opened engine.Suspended
			_ = json.Unmarshal(ev.Payload, &opened) // follow has done it
			if old := e.acts.byID[opened.SuspendID]; old != nil {
				s.dues.unset(old)
			}
			fresh := e.acts.begin(e, opened, drafts[i].Default)
			if fresh.ExpiresAt != nil {
				s.dues.set(fresh, wall, *fresh.ExpiresAt)
			}
		case ev.Type == engine.TypeActionAccepted:
			var done engine.ActionAccepted
			_ = json.Unmarshal(ev.Payload, &done)
			if found := e.acts.byID[done.SuspendID]; found != nil && found.Open {
				s.settle(e, found, r)
			}
		case ev.Type.Terminal():
			for _, found := range e.acts.byID {
				s.dues.unset(found)
				if found.Open {
					s.settle(e, found, r)
				}
			}
		}
	}
	return e.acts.size - before
}

// settle closes a suspension: with r's answer if it is r's.
func (s *Store) settle(e *entry, found *suspension, r resolution) {
	var answer *engine.Action
	if found == r.s {
		answer = r.answer
	}
	s.dues.unset(found)
	if answer != nil {
		e.resumed = s.now()
		s.dues.set(found, monotonic, s.now().Add(claim))
	}
	for _, gone := range e.acts.close(found, answer, r.fingerprint, s.cfg.Actions.MaxResolved) {
		s.dues.unset(gone)
	}
}

// HandedOver implements engine.ActionStore. There are no leases here, so no
// fence is stale.
func (s *Store) HandedOver(_ context.Context, taskID, suspendID string, _ uint64) error {
	if s.isClosed() {
		return errClosed()
	}
	v, ok := s.tasks.Load(taskID)
	if !ok {
		return nil
	}
	e := v.(*entry)
	e.mu.Lock()
	defer e.mu.Unlock()
	if found := e.acts.byID[suspendID]; found != nil && found.Answer != nil {
		found.HandedOver = true
		s.dues.unset(found)
	}
	return nil
}

// Due implements engine.ActionStore.
func (s *Store) Due(_ context.Context, limit int) ([]engine.DueSuspension, error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	now := s.now()
	var all []engine.DueSuspension
	for _, d := range s.dues.take(now, max(limit, 1)) {
		if found, ok := s.offer(d, now); ok {
			all = append(all, found)
		}
	}
	return all, nil
}

// offer looks whether there is anything to do about d, and lists it again.
func (s *Store) offer(d *suspension, now time.Time) (engine.DueSuspension, bool) {
	e := d.task
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.record.Load()
	if t == nil || over(t) || e.acts.byID[d.SuspendID] != d || s.dues.has(d) {
		return engine.DueSuspension{}, false
	}
	switch {
	case d.Open && d.overdue(now):
		s.dues.set(d, monotonic, now.Add(claim))
	case d.Open && d.ExpiresAt != nil:
		s.dues.set(d, wall, *d.ExpiresAt)
		return engine.DueSuspension{}, false
	case d.pending():
		s.dues.set(d, monotonic, now.Add(min(claim<<min(d.tries, 8), maxHandOffPause)))
		d.tries++
	default:
		return engine.DueSuspension{}, false
	}
	return engine.DueSuspension{TaskID: e.id, Suspension: d.Suspension}, true
}
