package fanout

import "context"

// wait is one call of Hub.Wait. It costs a channel and a place in the log's
// list; its goroutine is the caller's.
type wait struct {
	after ID
	index int // in log.waits; -1 when it is over
	done  chan struct{}
	err   error // set before done is closed
}

// Wait returns nil as soon as the log of key has, or may have, an entry after
// the cursor: read it then. It returns ctx's error if that comes first, the
// Source's if the log cannot be followed (at the first failure), and ErrClosed
// if the hub is closed. Many waits on one log cost one Follow.
func (h *Hub) Wait(ctx context.Context, key string, after ID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lg, err := h.logs.acquire(key, after)
	if err != nil {
		return err
	}
	defer h.logs.release(lg)
	w := lg.await(after)
	if w == nil {
		return nil
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		lg.forget(w)
		return ctx.Err()
	}
}

// await returns nil if there is nothing to wait for.
func (lg *log) await(after ID) *wait {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	if lg.err == nil && !lg.dropped && lg.past(after) {
		return nil
	}
	w := &wait{after: after, index: len(lg.waits), done: make(chan struct{})}
	lg.waits = append(lg.waits, w)
	switch {
	case lg.err != nil:
		lg.failWaits(lg.err)
	case lg.dropped:
		lg.failWaits(ErrClosed)
	}
	return w
}

// past says that the log has something after the cursor, as far as the ring
// knows. mu is held.
func (lg *log) past(after ID) bool {
	return !lg.adrift && lg.ring.last().Ordinal > after.Ordinal
}

// wakeWaits ends the waits that have something to read; if the log is adrift,
// all of them have. mu is held.
func (lg *log) wakeWaits() {
	lg.endWaits(nil, func(w *wait) bool { return lg.adrift || lg.past(w.after) })
}

// failWaits ends all waits. mu is held.
func (lg *log) failWaits(err error) {
	lg.endWaits(err, func(*wait) bool { return true })
}

// endWaits ends the waits that which picks. mu is held.
func (lg *log) endWaits(err error, which func(*wait) bool) {
	var over []*wait
	rest := lg.waits[:0]
	for _, w := range lg.waits {
		if !which(w) {
			w.index = len(rest)
			rest = append(rest, w)
			continue
		}
		w.index, w.err = -1, err
		over = append(over, w)
	}
	if len(over) == 0 {
		return
	}
	clear(lg.waits[len(rest):])
	lg.waits = rest
	if len(rest) == 0 {
		lg.waits = nil
	}
	lg.hub.waker.wake(over)
}

// forget takes out a wait that was given up.
func (lg *log) forget(w *wait) {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	if w.index < 0 {
		return
	}
	last := len(lg.waits) - 1
	lg.waits[w.index] = lg.waits[last]
	lg.waits[w.index].index = w.index
	lg.waits[last] = nil
	lg.waits = lg.waits[:last]
	w.index = -1
}
