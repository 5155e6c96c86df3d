// Package latest tells a function what is true now, however often that changes.
package latest

import "sync"

// Teller calls a function with the newest value, one call at a time, in a
// goroutine and outside any lock. What changes during a call comes in one
// further call; a value that was told last is not told again. It begins as if the
// zero value had been told. Make one with New; it is safe for concurrent use.
type Teller[T comparable] struct {
	fn func(T)
	// run starts a goroutine, or does nothing if its owner is at its end.
	run func(func())

	mu sync.Mutex
	// newest is what fn is to hear, told what it has heard.
	newest, told T
	// busy says that a goroutine calls fn, or is about to.
	busy    bool
	stopped bool
}

// New returns a Teller for fn, which may call Tell and Stop. run starts a
// goroutine that its owner waits for.
func New[T comparable](run func(func()), fn func(T)) *Teller[T] {
	return &Teller[T]{fn: fn, run: run}
}

// Tell sees to it that fn hears of value, unless a newer one comes before it
// could. It does not wait for fn.
func (t *Teller[T]) Tell(value T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newest = value
	if !t.busy && t.newest != t.told {
		t.busy = true
		t.run(t.speak)
	}
}

// Stop lets no further call begin. It does not wait for one under way.
func (t *Teller[T]) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
}

// speak calls fn until it has heard the newest.
func (t *Teller[T]) speak() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.stopped && t.told != t.newest {
		t.told = t.newest
		value := t.told
		t.mu.Unlock()
		t.fn(value)
		t.mu.Lock()
	}
	t.busy = false
}
