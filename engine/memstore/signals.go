package memstore

import (
	"context"
	"slices"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/internal/latest"
)

// listener is one Listen.
type listener = latest.Teller[engine.Signal]

// Listen implements engine.Signals. fn is always called in a goroutine of the
// store; Close waits for it, so fn must not close the store.
func (s *Store) Listen(_ context.Context, taskID string, fn func(engine.Signal)) (func(), error) {
	e, err := s.find(taskID)
	if err != nil {
		return nil, err
	}
	l := latest.New(s.start, fn)
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.load()
	if err != nil {
		return nil, err
	}
	e.listeners = append(e.listeners, l)
	l.Tell(e.signal(t))
	return func() {
		l.Stop()
		e.mu.Lock()
		defer e.mu.Unlock()
		if i := slices.Index(e.listeners, l); i >= 0 {
			e.listeners = slices.Delete(e.listeners, i, i+1)
		}
	}, nil
}

// signal is what listeners are told of t. mu is held.
func (e *entry) signal(t *engine.Task) engine.Signal {
	return engine.Signal{CancelRequested: t.CancelRequested, CancelReason: t.CancelReason, Resolved: e.resolved}
}

// wake tells every listener of e what is true now. e.mu is held.
func (e *entry) wake(t *engine.Task) {
	for _, l := range e.listeners {
		l.Tell(e.signal(t))
	}
}
