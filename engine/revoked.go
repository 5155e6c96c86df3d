package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// revoked is what this process knows of revocations: the store's set, looked up
// on every access without a lock.
type revoked struct {
	store Revocations // nil: none are ever made
	now   func() time.Time

	set  atomic.Pointer[revocationSet] // nil: not known yet
	stop func()

	mu       sync.Mutex
	version  uint64 // counts the sets
	watchers map[*revocationWatch]struct{}
}

// revocationWatch is somebody who wants to know when the set has changed.
type revocationWatch struct{ fn func() }

// begin starts to follow the store. Until its first word, check asks.
func (r *revoked) begin(store Revocations) (err error) {
	r.store, r.now = store, time.Now
	r.watchers = map[*revocationWatch]struct{}{}
	r.stop = func() {}
	if store == nil {
		r.set.Store(&revocationSet{})
		return nil
	}
	stop, err := store.WatchRevocations(func(all []Revocation) { r.replace(all) })
	if err == nil {
		r.stop = stop
	}
	return err
}

// replace puts a new set in force and tells who watches.
func (r *revoked) replace(all []Revocation) {
	r.mu.Lock()
	told := r.replaceLocked(all)
	r.mu.Unlock()
	for _, fn := range told {
		fn()
	}
}

func (r *revoked) replaceLocked(all []Revocation) (told []func()) {
	r.version++
	r.set.Store(newRevocationSet(all))
	for w := range r.watchers {
		told = append(told, w.fn)
	}
	return told
}

// refresh reads the set, again if it was replaced meanwhile: nobody knows by
// which of two reads that crossed.
func (r *revoked) refresh(ctx context.Context) error {
	for range 3 {
		r.mu.Lock()
		version := r.version
		r.mu.Unlock()
		all, err := r.store.ListRevocations(ctx)
		if err != nil {
			return storeError("read the revocations", err)
		}
		r.mu.Lock()
		if version != r.version {
			r.mu.Unlock()
			continue
		}
		told := r.replaceLocked(all)
		r.mu.Unlock()
		for _, fn := range told {
			fn()
		}
		return nil
	}
	return nil // others keep replacing it: there is a set, and it is new
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
