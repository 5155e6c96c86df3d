package memstore

import (
	"context"
	"slices"
	"sync/atomic"
)

// listener is one Listen. Whoever sets spent first, a call or stop, wins.
type listener struct {
	fn    func(reason string)
	spent atomic.Bool
}

// Listen implements engine.Signals. fn is always called in a goroutine of the
// store; Close waits for it, so fn must not close the store.
func (s *Store) Listen(_ context.Context, taskID string, fn func(reason string)) (func(), error) {
	e, err := s.find(taskID)
	if err != nil {
		return nil, err
	}
	l := &listener{fn: fn}
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load()
	if err != nil {
		return nil, err
	}
	if t.CancelRequested {
		s.wake([]*listener{l}, t.CancelReason)
	} else {
		e.listeners = append(e.listeners, l)
	}
	return func() {
		l.spent.Store(true)
		e.mu.Lock()
		defer e.mu.Unlock()
		if i := slices.Index(e.listeners, l); i >= 0 {
			e.listeners = slices.Delete(e.listeners, i, i+1)
		}
	}, nil
}

// wake calls the listeners, outside any lock.
func (s *Store) wake(listeners []*listener, reason string) {
	if len(listeners) == 0 {
		return
	}
	s.start(func() {
		for _, l := range listeners {
			if !l.spent.Swap(true) {
				l.fn(reason)
			}
		}
	})
}
