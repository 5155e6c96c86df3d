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

	view atomic.Pointer[revocationView] // nil: not known yet

	stop func()          // of the store's calls
	life context.Context // of the goroutine that reads
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	asked    uint64 // numbers the reads in the order in which they began
	answered uint64 // which of them the view is from
	own      map[string]ownRevocation
	readAt   time.Time     // when the last read ended
	readTook time.Duration // and how long it took
	watchers map[*revocationWatch]struct{}
	// dirty: there is something to read; reading: a goroutine sees to it. While
	// nothing changes there is none.
	dirty, reading, closed bool
}

// revocationView is what is in force: the revocations that were read from the store, and
// those that this process has made since then or could not store.
type revocationView struct{ stored, own *revocationSet }

// ownRevocation is a revocation that this process has made.
type ownRevocation struct {
	Revocation
	// kept says that the store has it; a read numbered above after contains it.
	kept  bool
	after uint64
}

// maxUnkept bounds the revocations that hold in this process only.
const maxUnkept = 1024

// revocationWatch is told when the view has changed.
type revocationWatch struct{ fn func() }

// rereadRevocations is how soon a read that failed is made again. Until then
// what was known holds.
const rereadRevocations = 250 * time.Millisecond

// These bound the load if revocations are made without a pause: reading them takes at
// most a quarter of a core, and each takes effect within maxReadPause and two reads.
const (
	readPauseShare = 3
	maxReadPause   = 400 * time.Millisecond
)

// begin starts to follow the store. Until the first set is there, check asks.
func (r *revoked) begin(store Revocations, logger *slog.Logger) error {
	r.store, r.logger, r.now = store, logger, time.Now
	r.watchers = map[*revocationWatch]struct{}{}
	if store == nil {
		r.view.Store(&revocationView{})
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
		pause := min(readPauseShare*r.readTook, maxReadPause) - r.now().Sub(r.readAt)
		r.mu.Unlock()
		if pause > 0 {
			sleep(r.life, pause)
		}
		r.mu.Lock()
		r.dirty = false // what changes from here on needs another read
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
	began := r.now()
	all, err := r.store.ListRevocations(ctx)
	if err != nil {
		return storeError("read the revocations", err)
	}
	stored := newRevocationSet(all)
	r.mu.Lock()
	r.readAt = r.now()
	r.readTook = r.readAt.Sub(began)
	var told []func()
	if mine > r.answered {
		r.answered = mine
		for id, o := range r.own {
			same := stored.byID[id]
			if o.kept && mine > o.after || !o.kept && same != nil && !same.ExpiresAt.Before(o.ExpiresAt) {
				delete(r.own, id)
			}
		}
		told = r.show(stored)
	}
	r.mu.Unlock()
	for _, fn := range told {
		fn()
	}
	return nil
}

// show puts the stored revocations and our own in force. It returns the watchers to
// call. mu is held.
func (r *revoked) show(stored *revocationSet) (told []func()) {
	var own []Revocation
	for id, o := range r.own {
		same := stored.byID[id]
		switch {
		case !r.now().Before(o.ExpiresAt):
			delete(r.own, id)
		case same == nil || same.ExpiresAt.Before(o.ExpiresAt): // or it would count twice
			own = append(own, o.Revocation)
		}
	}
	r.view.Store(&revocationView{stored: stored, own: newRevocationSet(own)})
	for w := range r.watchers {
		told = append(told, w.fn)
	}
	return told
}

// apply puts a revocation of this process in force before it is read back from the
// store. kept is false if the store did not take it; then it holds here only.
func (r *revoked) apply(made Revocation, kept bool) {
	r.mu.Lock()
	if r.own == nil {
		r.own = map[string]ownRevocation{}
	}
	r.own[made.ID] = ownRevocation{Revocation: made, kept: kept, after: r.asked}
	r.boundUnkept()
	var told []func()
	if v := r.view.Load(); v != nil {
		told = r.show(v.stored)
	}
	r.mu.Unlock()
	for _, fn := range told {
		fn()
	}
}

// boundUnkept drops the revocation that lapses first if more than maxUnkept hold here
// only. mu is held.
func (r *revoked) boundUnkept() {
	first, unkept := "", 0
	for id, o := range r.own {
		if !o.kept {
			unkept++
			if first == "" || o.ExpiresAt.Before(r.own[first].ExpiresAt) {
				first = id
			}
		}
	}
	if unkept > maxUnkept {
		delete(r.own, first)
	}
}

// forget drops a revocation that this process made.
func (r *revoked) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.own, id)
}

// unkept returns the revocations that hold in this process only.
func (r *revoked) unkept() (list []Revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.own {
		if !o.kept && r.now().Before(o.ExpiresAt) {
			list = append(list, o.Revocation)
		}
	}
	return list
}

// ofSubject counts the revocations in force that name a subject.
func (r *revoked) ofSubject(subject string) int {
	v := r.view.Load()
	if v == nil || v.stored == nil {
		return 0
	}
	n := v.stored.perSubject[subject]
	if v.own != nil {
		n += v.own.perSubject[subject]
	}
	return n
}

// holds reports whether a revocation with this ID is in force, as far as this
// process knows: storing it again takes no further room.
func (r *revoked) holds(id string) bool {
	v := r.view.Load()
	return v != nil && v.stored != nil && (v.stored.byID[id] != nil || v.own != nil && v.own.byID[id] != nil)
}

// needless returns the revocations that made makes unnecessary.
func (r *revoked) needless(made *Revocation) []Revocation {
	v := r.view.Load()
	if v == nil {
		return nil
	}
	list := v.stored.coveredBy(made, maxReplaced)
	return append(list, v.own.coveredBy(made, maxReplaced-len(list))...)
}

// maxReplaced bounds how many others one revocation removes from the store.
const maxReplaced = 100

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
	v := r.view.Load()
	if v == nil || v.stored == nil {
		return nil
	}
	found := v.stored.find(auth, taskID, r.now())
	if found == nil || found.TaskID != "" {
		if own := v.own.find(auth, taskID, r.now()); own != nil {
			found = own
		}
	}
	return found
}

// known makes sure that there is a view to look into.
func (r *revoked) known(ctx context.Context) error {
	if r.view.Load() != nil {
		return nil
	}
	return r.refresh(ctx)
}
