package engine

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// revoked is what this process knows of revocations: the store's set, looked up
// on every access without a lock.
type revoked struct {
	store  Revocations // nil: none are ever made
	logger *slog.Logger
	now    func() time.Time

	set atomic.Pointer[revocationSet] // nil: not known yet

	stop func()          // of the store's calls
	life context.Context // of the goroutine that reads
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	asked    uint64 // numbers the reads in the order in which they began
	answered uint64 // which of them set is from
	watchers map[*revocationWatch]struct{}
	// dirty: there is something to read; reading: a goroutine sees to it. While
	// nothing changes there is none.
	dirty, reading, closed bool
}

// revocationWatch is somebody who wants to know when the set has changed.
type revocationWatch struct{ fn func() }

// rereadRevocations is how soon a read that failed is made again. Until then
// what was known holds.
const rereadRevocations = 250 * time.Millisecond

// begin starts to follow the store. Until the first set is there, check asks.
func (r *revoked) begin(store Revocations, logger *slog.Logger) error {
	r.store, r.logger, r.now = store, logger, time.Now
	r.watchers = map[*revocationWatch]struct{}{}
	if store == nil {
		r.set.Store(&revocationSet{empty: true})
		return nil
	}
	r.life, r.end = context.WithCancel(context.Background())
	var err error
	if r.stop, err = store.WatchRevocations(r.poke); err != nil {
		r.end()
		return err
	}
	r.poke() // for the first set
	return nil
}

// close ends the reading and waits for it. It may be called again.
func (r *revoked) close() {
	if r.store == nil {
		return
	}
	r.stop()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.wg.Wait()
}

// poke has the set read again.
func (r *revoked) poke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty = true
	if !r.reading && !r.closed {
		r.reading = true
		r.wg.Go(r.read)
	}
}

// read reads until there is nothing new.
func (r *revoked) read() {
	failing := false
	for {
		r.mu.Lock()
		if !r.dirty || r.closed {
			r.reading = false
			r.mu.Unlock()
			return
		}
		r.dirty = false
		r.mu.Unlock()
		err := r.refresh(r.life)
		if err == nil {
			failing = false
			continue
		}
		if !failing && r.life.Err() == nil {
			failing = true
			r.logger.Warn("revocations could not be read; those that are known hold on", "error", err)
		}
		sleep(r.life, rereadRevocations/2+rand.N(rereadRevocations))
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
	}
}

// refresh reads the set and puts it in force, unless one is that was asked for
// later, and tells who watches.
func (r *revoked) refresh(ctx context.Context) error {
	r.mu.Lock()
	r.asked++
	mine := r.asked
	r.mu.Unlock()
	all, err := r.store.ListRevocations(ctx)
	if err != nil {
		return storeError("read the revocations", err)
	}
	r.mu.Lock()
	var told []func()
	if mine > r.answered {
		r.answered = mine
		r.set.Store(newRevocationSet(all))
		for w := range r.watchers {
			told = append(told, w.fn)
		}
	}
	r.mu.Unlock()
	for _, fn := range told {
		fn()
	}
	return nil
}

// watch has fn called after each change of the set. fn must return at once.
func (r *revoked) watch(fn func()) (stop func()) {
	w := &revocationWatch{fn}
	r.mu.Lock()
	r.watchers[w] = struct{}{}
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		delete(r.watchers, w)
		r.mu.Unlock()
	}
}

// find returns a revocation that applies, nil if none does.
func (r *revoked) find(auth *AuthContext, taskID string) *Revocation {
	set := r.set.Load()
	if set == nil || set.empty {
		return nil
	}
	return set.find(auth, taskID, r.now())
}

// known makes sure that there is a set to look into.
func (r *revoked) known(ctx context.Context) error {
	if r.set.Load() != nil {
		return nil
	}
	return r.refresh(ctx)
}

// revocationSet is immutable. Most revocations name a subject or a task, and are
// found by it.
type revocationSet struct {
	empty     bool
	bySubject map[string][]*Revocation
	byTask    map[string][]*Revocation
	rest      []*Revocation
}

func newRevocationSet(all []Revocation) *revocationSet {
	s := &revocationSet{empty: len(all) == 0, bySubject: map[string][]*Revocation{}, byTask: map[string][]*Revocation{}}
	for i := range all {
		switch r := &all[i]; {
		case r.Subject != "":
			s.bySubject[r.Subject] = append(s.bySubject[r.Subject], r)
		case r.TaskID != "":
			s.byTask[r.TaskID] = append(s.byTask[r.TaskID], r)
		default:
			s.rest = append(s.rest, r)
		}
	}
	return s
}

// find prefers one that is about the credential to one about the task.
func (s *revocationSet) find(auth *AuthContext, taskID string, now time.Time) (found *Revocation) {
	for _, list := range [][]*Revocation{s.bySubject[auth.Subject], s.byTask[taskID], s.rest} {
		for _, r := range list {
			if now.Before(r.ExpiresAt) && r.Fits(auth, taskID) {
				if r.TaskID == "" {
					return r
				}
				found = r
			}
		}
	}
	return found
}
