package engine

import "context"

// storeInline stores an item on an idle pipe in the caller's own goroutine: waking
// another one takes longer than a nearby store does. It tries once, for as long
// as ctx lasts; what is not settled then is the pipe's, with the same token.
//
// r.mu is held, and released.
func (r *Run) storeInline(ctx context.Context, it item) error {
	if !r.em.work.enter() {
		r.mu.Unlock()
		return errShutDown
	}
	if it.draft.Type.Terminal() {
		r.over = true
	}
	r.pipe.busy = true
	r.pipe.bytes += it.size()
	f := r.flight([]item{it}, it.events())
	r.mu.Unlock()

	err := r.em.appendOnce(ctx, f.append)
	if err != nil && (ctx.Err() != nil || CodeOf(err) == CodeStoreUnavailable) {
		go r.run(f)
		return await(ctx, it.done)
	}
	r.learn(f.append.Events, err)
	r.mu.Lock()
	r.settle(f.batch, err)
	r.pipe.busy = len(r.pipe.queue) > 0
	goOn := r.pipe.busy
	r.mu.Unlock()
	if goOn {
		go r.run(flight{})
	} else {
		r.em.work.leave()
	}
	return <-it.done
}
