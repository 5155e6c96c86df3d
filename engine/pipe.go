package engine

import (
	"context"
	"slices"
)

// pipe is what a Run has yet to store: the self-clocking append pipeline.
//
// One append is in flight at a time. The first event leaves at once; what
// arrives meanwhile goes into the next append, so batches grow with load and
// with the store's latency by themselves. A goroutine runs only while there is
// something to store, and not for a durable event that finds the pipe idle
// (inline.go). All of it is guarded by Run.mu.
type pipe struct {
	queue []item
	// bytes are the payloads queued and in flight.
	bytes int
	// busy says that somebody stores: the goroutine, or a caller.
	busy bool
	// room is closed when bytes shrinks; nil if nobody waits for that.
	room    chan struct{}
	appends uint64
}

// item is one event; or a checkpoint, whose draft has no Type; or neither: a mark,
// which is done when everything before it is.
type item struct {
	draft Draft
	save  *save // nil unless the item is a checkpoint
	// done gets the outcome; nil if the event was streamed. Buffered.
	done chan error
}

func (it item) streamed() bool { return it.done == nil }
func (it item) mark() bool     { return it.draft.Type == "" && it.save == nil }

// size returns the bytes that the item takes of the buffer and of a batch.
func (it item) size() int {
	if it.save != nil {
		return it.save.size()
	}
	return len(it.draft.Payload)
}

// events returns the events that the item stores.
func (it item) events() []Draft {
	switch {
	case it.save != nil:
		return it.save.events
	case it.mark():
		return nil
	}
	return []Draft{it.draft}
}

// refusal tells why an event of type t cannot be taken, nil if it can. r.mu is
// held, as in everything below but run.
func (r *Run) refusal(t EventType) error {
	switch {
	case r.over:
		return errAlreadyTerminal
	case r.closed:
		return errRunClosed
	case r.superseded:
		return ErrLeaseLost
	case t == TypeFailed || t == TypeCancelled:
		return nil // the task must be able to end
	}
	return r.lost
}

// lose keeps the first error of a streamed event.
func (r *Run) lose(err error) {
	if r.lost == nil {
		r.lost = err
	}
}

// hasRoom waits until a streamed event of size bytes fits into the buffer. It
// is false, and the event lost, if the run takes no more or its context ends.
func (r *Run) hasRoom(t EventType, size int) bool {
	for {
		if err := r.refusal(t); err != nil {
			r.lose(err)
			return false
		}
		if r.pipe.bytes == 0 || r.pipe.bytes+size <= r.em.emit.BufferBytes {
			return true
		}
		if r.pipe.room == nil {
			r.pipe.room = make(chan struct{})
		}
		room := r.pipe.room
		r.mu.Unlock()
		select {
		case <-room:
		case <-r.ctx.Done():
		}
		r.mu.Lock()
		if r.ctx.Err() != nil && r.pipe.room == room {
			r.lose(context.Cause(r.ctx))
			return false
		}
	}
}

// enqueue adds it and sees to it that somebody stores it.
func (r *Run) enqueue(it item) <-chan error {
	if it.draft.Type.Terminal() {
		r.over = true
	}
	r.pipe.queue = append(r.pipe.queue, it)
	r.pipe.bytes += it.size()
	if r.pipe.busy {
		return it.done
	}
	if !r.em.work.enter() {
		batch := r.pipe.queue
		r.pipe.queue = nil
		r.settle(batch, errShutDown)
		return it.done
	}
	r.pipe.busy = true
	go r.run(flight{})
	return it.done
}

// flight is a batch on its way.
type flight struct {
	batch  []item // nil if there is none
	append Append
}

func (r *Run) flight(batch []item, drafts []Draft) flight {
	r.pipe.appends++
	f := flight{batch, Append{
		TaskID: r.task.ID, Token: batchToken(r.token, r.pipe.appends), Fence: r.hold.appendFence(), Events: drafts,
	}}
	if s := batch[len(batch)-1].save; s != nil {
		f.append.Checkpoint = &Checkpoint{Data: s.data, Number: r.em.saves.Add(1)}
	}
	return f
}

// run stores f and then batch after batch until nothing is left.
func (r *Run) run(f flight) {
	defer r.em.work.leave()
	for {
		if f.batch == nil {
			r.mu.Lock()
			batch, drafts := r.take()
			if batch == nil {
				r.pipe.busy = false
				r.mu.Unlock()
				return
			}
			f = r.flight(batch, drafts)
			r.mu.Unlock()
		}

		var err error
		if len(f.append.Events) > 0 || f.append.Checkpoint != nil {
			err = r.em.append(r.em.life, f.append)
			r.learn(f.append.Events, err)
		}

		r.mu.Lock()
		r.settle(f.batch, err)
		r.mu.Unlock()
		f = flight{}
	}
}

// learn draws from the answer to an append what it says about the lease. r.mu is
// not held: a lost lease is every run's of the task.
func (r *Run) learn(drafts []Draft, err error) {
	switch code := CodeOf(err); {
	case r.hold == nil:
	case code == CodeTaskConflict, code == CodeTaskAlreadyTerminal: // by another's event
		r.em.holds.lost(r.hold)
		r.supersede() // also if it was closed before
	case err == nil && len(drafts) > 0 && drafts[len(drafts)-1].Type.Terminal():
		r.em.holds.ended(r.hold)
	}
}

// take cuts the next batch off the queue: bounded, but at least one event. A
// checkpoint ends its batch, since it stands for all that comes before it.
func (r *Run) take() ([]item, []Draft) {
	q := r.pipe.queue
	if len(q) == 0 {
		r.pipe.queue = nil
		return nil, nil
	}
	n, bytes := 0, 0
	drafts := make([]Draft, 0, min(len(q), r.em.emit.BatchEvents))
	for _, it := range q {
		if !it.mark() {
			full := len(drafts) == r.em.emit.BatchEvents || bytes+it.size() > r.em.emit.BatchBytes
			if full && len(drafts) > 0 {
				break
			}
			if it.save == nil {
				drafts = append(drafts, it.draft)
			} else {
				drafts = append(drafts, it.save.events...)
			}
			bytes += it.size()
		}
		n++
		if it.save != nil {
			break
		}
	}
	r.pipe.queue = q[n:]
	return q[:n:n], drafts
}

// settle tells those who wait for batch how it went.
func (r *Run) settle(batch []item, err error) {
	if err != nil {
		r.undo(batch, err)
	}
	for _, it := range batch {
		if it.save != nil && err == nil {
			r.saved = it.save.data
		}
		r.finish(it, err)
	}
	clear(batch) // the queue's array lives on; its payloads need not
}

// undo draws the consequences of a batch that was not stored.
func (r *Run) undo(batch []item, err error) {
	ended := CodeOf(err) == CodeTaskAlreadyTerminal
	for _, it := range batch {
		if it.mark() {
			continue
		}
		if it.streamed() {
			r.lose(err)
		}
		if it.draft.Type.Terminal() {
			r.over = false // it may be tried again
		}
	}
	switch {
	case ended:
		r.over = true
		r.drop(err, func(item) bool { return true })
	case r.lost != nil:
		// Nothing may follow what is missing, but the task must be able to end.
		r.drop(r.lost, func(it item) bool {
			return it.draft.Type != TypeFailed && it.draft.Type != TypeCancelled
		})
	}
}

// drop takes those events off the queue that which names; marks stay.
func (r *Run) drop(err error, which func(item) bool) {
	ended := CodeOf(err) == CodeTaskAlreadyTerminal
	r.pipe.queue = slices.DeleteFunc(r.pipe.queue, func(it item) bool {
		if it.mark() || !which(it) {
			return false
		}
		if it.streamed() {
			r.lose(err)
		}
		if it.draft.Type.Terminal() && !ended {
			r.over = false
		}
		r.finish(it, err)
		return true
	})
}

// finish takes it out of the account and tells whoever waits for it.
func (r *Run) finish(it item, err error) {
	r.pipe.bytes -= it.size()
	if r.pipe.room != nil {
		close(r.pipe.room)
		r.pipe.room = nil
	}
	if it.mark() {
		err = r.lost
	}
	if it.done != nil {
		it.done <- err
	}
}
