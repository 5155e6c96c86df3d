package engine

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"
)

// holds are the leases of this process: one for each task that has an open
// run, shared by all of the task's runs here. Nil is the holds of a store
// without Leases; its methods may be called and do nothing.
type holds struct {
	leases Leases
	holder string // names this engine, among all that ever were
	ttl    time.Duration
	// restarts bounds how often a task in trouble is run again, restartWithin for
	// how long it waits for that.
	restarts      int
	restartWithin time.Duration
	logger        *slog.Logger

	// life ends the goroutines, work counts them.
	life context.Context
	work *gate

	mu    sync.Mutex
	tasks map[string]*hold
	// renewing says that the renewer runs.
	renewing bool
}

// hold is one lease. fence does not change once busy is nil; everything else is
// guarded by holds.mu.
type hold struct {
	taskID string
	fence  uint64
	runs   map[*Run]struct{}
	// busy is closed when an Acquire or Release under way is done; nil if there
	// is none. At most one of them is, so that a late Release cannot take what
	// a new run acquired.
	busy chan struct{}
}

// appendFence is for Append.Fence; nil has none.
func (t *hold) appendFence() uint64 {
	if t == nil {
		return 0
	}
	return t.fence
}

func newHolds(life context.Context, leases Leases, cfg Config, work *gate) *holds {
	return &holds{
		leases: leases, holder: rand.Text(), ttl: cfg.Lease.TTL, restarts: cfg.Lease.MaxRestarts,
		restartWithin: cfg.Lease.RestartWithin, logger: cfg.Logger, life: life, work: work, tasks: map[string]*hold{},
	}
}

// take makes r one of those who hold its task, and acquires the lease if it is
// the first.
func (h *holds) take(ctx context.Context, r *Run) (*hold, error) {
	if h == nil {
		return nil, nil
	}
	for {
		t, first, busy := h.join(r)
		switch {
		case first:
			return t, h.acquire(ctx, t, r)
		case busy == nil:
			return t, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// join adds r to the hold of its task, if it can be added to; or makes the
// hold, for r to acquire; or says what to wait for.
func (h *holds) join(r *Run) (t *hold, first bool, busy <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t = h.tasks[r.task.ID]
	switch {
	case t == nil:
		t = &hold{taskID: r.task.ID, runs: map[*Run]struct{}{}, busy: make(chan struct{})}
		h.tasks[t.taskID] = t
		return t, true, nil
	case t.busy != nil:
		return nil, false, t.busy
	}
	t.runs[r] = struct{}{}
	return t, false, nil
}

func (h *holds) acquire(ctx context.Context, t *hold, r *Run) error {
	var fence uint64
	err := r.em.retry(ctx, "acquire a task's lease", t.taskID, func() (err error) {
		fence, err = h.leases.Acquire(ctx, t.taskID, h.holder, h.ttl)
		return err
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.forget(t)
		return err
	}
	close(t.busy)
	t.busy, t.fence = nil, fence
	t.runs[r] = struct{}{}
	if !h.renewing && h.work.enter() {
		h.renewing = true
		go h.renew()
	}
	return nil
}

// forget takes t off the books: it is not renewed any more. mu is held.
func (h *holds) forget(t *hold) {
	if h.tasks[t.taskID] == t {
		delete(h.tasks, t.taskID)
	}
	if t.busy != nil {
		close(t.busy)
		t.busy = nil
	}
}

// departure is how a run leaves its task.
type departure int

const (
	// unclean lets the lease run out: a worker that left its task unfinished with
	// an error is as good as lost.
	unclean departure = iota
	// clean releases the lease.
	clean
	// forOthers releases it so that another node goes on with the task at once.
	forOthers
)

// leave is called when r is closed. What becomes of the lease, the last run to
// leave decides.
func (h *holds) leave(ctx context.Context, t *hold, r *Run, how departure) error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	_, member := t.runs[r]
	delete(t.runs, r)
	if !member || len(t.runs) > 0 || h.tasks[t.taskID] != t {
		h.mu.Unlock()
		return nil
	}
	if how == unclean {
		h.forget(t)
		h.mu.Unlock()
		return nil
	}
	t.busy = make(chan struct{})
	h.mu.Unlock()

	err := r.em.retry(ctx, "release a task's lease", t.taskID, func() error {
		return h.leases.Release(ctx, t.taskID, h.holder, how == forOthers)
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forget(t)
	return err
}

// ended is called when the task is over: its lease is gone with it.
func (h *holds) ended(t *hold) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.busy == nil {
		h.forget(t)
	}
}

// lost is called when the store says that t is another's.
func (h *holds) lost(t *hold) {
	h.mu.Lock()
	if h.tasks[t.taskID] != t || t.busy != nil {
		h.mu.Unlock()
		return
	}
	h.forget(t)
	runs := t.runs
	t.runs = nil
	h.mu.Unlock()
	h.logger.Warn("a task's lease is lost; its worker here is stopped", "taskId", t.taskID)
	for r := range runs {
		r.supersede()
	}
}

// has reports whether a run of this process works on the task.
func (h *holds) has(taskID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tasks[taskID] != nil
}
