package fanout

import (
	"runtime"
	"sync"
)

// wakeAtOnce is how many waits are woken without letting anyone else run.
const wakeAtOnce = 64

// waker wakes waits. If very many wait for one entry, those that it has woken
// all want a processor at once, and what is woken after them, the loops that
// write to subscribers, would stand in line behind them all: so a goroutine
// wakes a few, and goes to the end of the line itself before it wakes more.
type waker struct {
	signal chan struct{} // holds one signal: there is something in the queue

	mu     sync.Mutex
	queue  []*wait
	closed bool
}

// wake ends the waits given.
func (k *waker) wake(waits []*wait) {
	k.mu.Lock()
	if k.closed || len(waits) <= wakeAtOnce {
		k.mu.Unlock()
		for _, w := range waits {
			close(w.done)
		}
		return
	}
	first := len(k.queue) == 0
	k.queue = append(k.queue, waits...)
	k.mu.Unlock()
	if first {
		select {
		case k.signal <- struct{}{}:
		default:
		}
	}
}

// run wakes all that is queued.
func (k *waker) run() {
	for k.few() {
		runtime.Gosched()
	}
}

// few wakes a few and reports whether there are more.
func (k *waker) few() (more bool) {
	k.mu.Lock()
	n := min(len(k.queue), wakeAtOnce)
	few := k.queue[:n:n]
	k.queue = k.queue[n:]
	if more = len(k.queue) > 0; !more {
		k.queue = nil
	}
	k.mu.Unlock()
	for _, w := range few {
		close(w.done)
	}
	return more
}

// close wakes all that is queued. From then on every wait is woken at once.
func (k *waker) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.run()
}
