package memstore

import (
	"context"
	"slices"
	"sync"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// listener is one Listen.
type listener struct {
	fn func(engine.Signal)

	mu sync.Mutex
	// latest is what fn is to hear, told what it has heard.
	latest, told engine.Signal
	// busy says that a goroutine calls fn, or is about to.
	busy    bool
	stopped bool
}

// Listen implements engine.Signals. fn is always called in a goroutine of the
// store; Close waits for it, so fn must not close the store.
func (s *Store) Listen(_ context.Context, taskID string, fn func(engine.Signal)) (func(), error) {
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
	e.listeners = append(e.listeners, l)
	s.tell(l, e.signal(t))
	return func() {
		l.mu.Lock()
		l.stopped = true
		l.mu.Unlock()
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
func (s *Store) wake(e *entry, t *engine.Task) {
	for _, l := range e.listeners {
		s.tell(l, e.signal(t))
	}
}

// tell sees to it that l hears of sig, outside any lock.
func (s *Store) tell(l *listener, sig engine.Signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest = sig
	if !l.busy && l.latest != l.told {
		l.busy = true
		s.start(l.speak)
	}
}

// speak calls fn until it has heard the latest.
func (l *listener) speak() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.stopped && l.told != l.latest {
		l.told = l.latest
		sig := l.told
		l.mu.Unlock()
		l.fn(sig)
		l.mu.Lock()
	}
	l.busy = false
}
