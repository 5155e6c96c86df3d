package memstore

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Create implements engine.TaskRegistry.
func (s *Store) Create(ctx context.Context, task engine.Task) (engine.Task, bool, error) {
	if s.isClosed() {
		return engine.Task{}, false, errClosed()
	}
	// Looked up before any place is made, so that a repeat evicts nobody.
	key := requestKey{task.Owner, task.ClientRequestID}
	if t := s.existing(key); t != nil {
		return *t, false, nil
	}

	task = detach(task)
	task.ID = randomName()
	e := &entry{id: task.ID, key: requestKey{task.Owner, task.ClientRequestID}, born: s.now()}
	e.resumed = e.born
	e.account, e.files = s.usage.hold(task.Owner), s.inMemory(task.Attachments)
	if err := s.reserveTask(ctx, e.account, recordSize(&task), e.files); err != nil {
		s.usage.drop(e.account)
		if t := s.existing(key); t != nil { // an equal call at once had the last place
			return *t, false, nil
		}
		return engine.Task{}, false, err
	}
	e.publish(&task)

	// First by ID, which nobody knows yet, then by key: who finds the entry by
	// its key also finds it by its ID.
	s.tasks.Store(e.id, e)
	for {
		v, lost := s.index.LoadOrStore(e.key, e)
		if !lost {
			break
		}
		other := v.(*entry)
		if t := other.record.Load(); t != nil {
			s.tasks.Delete(e.id)
			s.releaseTask(e, 0)
			return *t, false, nil
		}
		s.index.CompareAndDelete(e.key, other) // being erased; help it along
	}
	if over(&task) {
		e.mu.Lock()
		s.finish(e)
		e.mu.Unlock()
	}
	return task, true, nil
}

// existing returns the record that key names, or nil.
func (s *Store) existing(key requestKey) *engine.Task {
	if v, ok := s.index.Load(key); ok {
		return v.(*entry).record.Load()
	}
	return nil
}

// detach copies everything that may belong to a request out of it.
func detach(t engine.Task) engine.Task {
	t.OpenWithin = 0
	for _, s := range []*string{&t.Type, &t.Owner, &t.ClientRequestID, &t.Fingerprint, &t.CancelReason} {
		*s = strings.Clone(*s)
	}
	t.Input, t.Metadata = bytes.Clone(t.Input), bytes.Clone(t.Metadata)
	t.Attachments, t.Suspensions = slices.Clone(t.Attachments), slices.Clone(t.Suspensions)
	return t
}

// Lookup implements engine.TaskRegistry.
func (s *Store) Lookup(_ context.Context, owner, clientRequestID string) (engine.Task, error) {
	if s.isClosed() {
		return engine.Task{}, errClosed()
	}
	t := s.existing(requestKey{owner, clientRequestID})
	if t == nil {
		return engine.Task{}, errNotFound()
	}
	return *t, nil
}

// Get implements engine.TaskRegistry. Every answer is fresh.
func (s *Store) Get(_ context.Context, taskID string, _ engine.Freshness) (engine.Task, error) {
	e, err := s.find(taskID)
	if err != nil {
		return engine.Task{}, err
	}
	t, err := e.load()
	if err != nil {
		return engine.Task{}, err
	}
	return *t, nil
}

// RequestCancel implements engine.TaskRegistry.
func (s *Store) RequestCancel(_ context.Context, taskID, reason string) (engine.Task, error) {
	e, err := s.find(taskID)
	if err != nil {
		return engine.Task{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load()
	if err != nil {
		return engine.Task{}, err
	}
	if over(t) || t.CancelRequested {
		return *t, nil
	}
	next := *t
	next.CancelRequested, next.CancelReason = true, strings.Clone(reason)
	touch(&next, s.now())
	s.usage.grow(e.account, e.publish(&next))
	e.wake(&next)
	return next, nil
}

// Erase implements engine.TaskRegistry.
func (s *Store) Erase(ctx context.Context, taskID string) error {
	if s.isClosed() {
		return errClosed()
	}
	if v, ok := s.tasks.Load(taskID); ok {
		s.erase(ctx, v.(*entry))
	}
	return nil
}

// deleteTimeout bounds the deletion of one task's attachments.
const deleteTimeout = 10 * time.Second

// erase removes e and its attachments. Only the first call for e does anything.
func (s *Store) erase(ctx context.Context, e *entry) {
	e.mu.Lock()
	t := e.record.Swap(nil)
	if t == nil {
		e.mu.Unlock()
		return
	}
	for _, f := range e.followers {
		f.to.Lost()
	}
	s.usage.unlist(e)
	s.releaseTask(e, e.log.clear()+e.tokens.size+e.acts.size-e.forget())
	for _, d := range e.acts.byID {
		s.dues.unset(d)
	}
	e.followers, e.listeners, e.tokens, e.acts = nil, nil, tokens{}, acts{}
	e.mu.Unlock()

	s.index.CompareAndDelete(e.key, e)
	s.tasks.Delete(e.id)
	if len(t.Attachments) == 0 {
		return
	}
	// The task is gone, so nobody would come back for its files.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	for _, a := range t.Attachments {
		if err := s.files.Delete(ctx, a); err != nil {
			s.cfg.Logger.WarnContext(ctx, "memstore: an attachment of an erased task was not deleted",
				"taskId", e.id, "ref", a.Ref, "error", err)
		}
	}
}
