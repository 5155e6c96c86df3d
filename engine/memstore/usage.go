package memstore

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// usage counts what the store holds, in all and by subject, and knows what may
// be evicted.
type usage struct {
	tasks, bytes atomic.Int64

	mu       sync.Mutex // a leaf: taken with an entry's lock held, never around one
	accounts map[string]*account
	// classes list the accounts that have finished tasks, by size class.
	classes [65]list.List // of *account
}

// place is an entry's element in its account's finished, guarded by usage.mu.
type place = *list.Element

// evict erases the tasks that next returns until done returns true. It reports whether
// done did; next returns nil if there is none left. No lock is held.
func (s *Store) evict(ctx context.Context, next func() *entry, done func() bool) bool {
	for !done() {
		e := next()
		if e == nil {
			return false
		}
		s.erase(ctx, e)
	}
	return true
}

// evictAny evicts tasks of the subjects that hold most, but never spare.
func (s *Store) evictAny(ctx context.Context, spare *entry, done func() bool) bool {
	return s.evict(ctx, func() *entry { return s.usage.next(spare) }, done)
}

// evictOf evicts tasks of one subject, but never spare.
func (s *Store) evictOf(ctx context.Context, a *account, spare *entry, done func() bool) bool {
	return s.evict(ctx, func() *entry { return s.usage.nextOf(a, spare) }, done)
}

// take adds n to what is used, if that stays within limit.
func take(used *atomic.Int64, n, limit int64) bool {
	for {
		now := used.Load()
		if now+n > limit {
			return false
		}
		if used.CompareAndSwap(now, now+n) {
			return true
		}
	}
}

// reserveTask makes room for one more task of a subject: for n bytes, and for the bytes
// of files, which the store's own sum has already.
func (s *Store) reserveTask(ctx context.Context, a *account, n, files int64) error {
	if !s.evictOf(ctx, a, nil, func() bool { return take(&a.tasks, 1, int64(s.cfg.MaxTasksPerSubject)) }) {
		return errSubjectFull("MaxTasksPerSubject")
	}
	if !s.evictOf(ctx, a, nil, func() bool { return take(&a.bytes, n+files, s.cfg.MaxBytesPerSubject) }) {
		a.tasks.Add(-1)
		return errSubjectFull("MaxBytesPerSubject")
	}
	s.usage.grew(a, 0)
	undo := func() {
		a.tasks.Add(-1)
		s.usage.grew(a, a.bytes.Add(-n-files)+n+files)
	}
	if !s.evictAny(ctx, nil, func() bool { return take(&s.usage.tasks, 1, int64(s.cfg.MaxTasks)) }) {
		undo()
		return errFull("MaxTasks")
	}
	if err := s.reserveBytes(ctx, n); err != nil {
		s.usage.tasks.Add(-1)
		undo()
		return err
	}
	return nil
}

// releaseTask gives back what an entry holds. n is the size of its log and everything
// else beside its record and files.
func (s *Store) releaseTask(e *entry, n int64) {
	s.usage.tasks.Add(-1)
	e.account.tasks.Add(-1)
	s.usage.grow(e.account, -e.size-n)
	s.usage.grew(e.account, e.account.bytes.Add(-e.files)+e.files)
	s.usage.drop(e.account)
}

// reserveBytes makes room for n more bytes that belong to no subject yet.
func (s *Store) reserveBytes(ctx context.Context, n int64) error {
	if !s.evictAny(ctx, nil, func() bool { return take(&s.usage.bytes, n, s.cfg.MaxBytes) }) {
		return errFull("MaxBytes")
	}
	return nil
}

func (s *Store) releaseBytes(n int64) { s.usage.bytes.Add(-n) }

// pressed reports whether an append to e has to make room.
func (s *Store) pressed(e *entry) bool {
	return s.usage.bytes.Load() > s.cfg.MaxBytes || e.account.bytes.Load() > s.cfg.MaxBytesPerSubject
}

// press brings the store back under its limits after an append to e. It erases finished
// tasks, of e's subject if that holds too much, else of the subjects that hold most. If
// that is not enough, e keeps fewer events. An append is never refused for want of room,
// or no task could end.
func (s *Store) press(ctx context.Context, e *entry) {
	own := func() int64 { return e.account.bytes.Load() - s.cfg.MaxBytesPerSubject }
	all := func() int64 { return s.usage.bytes.Load() - s.cfg.MaxBytes }
	fits := s.evictOf(ctx, e.account, e, func() bool { return own() <= 0 }) &&
		s.evictAny(ctx, e, func() bool { return all() <= 0 })
	if fits {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if excess := max(own(), all()); excess > 0 {
		s.usage.grow(e.account, -e.log.trim(s.cfg.MaxStreamLength, e.log.bytes-excess))
	}
}

// The sizes below are estimates: the structs as Go lays them out, rounded up,
// and what hangs from them.
const (
	recordOverhead     = 1024
	eventOverhead      = 128
	attachmentOverhead = 128
	suspensionOverhead = 256
)

func eventSize(ev *engine.Event) int64 { return eventOverhead + int64(len(ev.Payload)) }

func suspensionBytes(s *engine.Suspended) int {
	n := len(s.SuspendID) + len(s.ReasonCode) + len(s.UIHints) + len(s.Interaction)
	for _, a := range s.AllowedActions {
		n += 16 + len(a)
	}
	return n
}

func recordSize(t *engine.Task) int64 {
	n := recordOverhead + len(t.Type) + 2*(len(t.Owner)+len(t.ClientRequestID)) + len(t.Fingerprint) +
		len(t.Input) + len(t.Metadata) + len(t.CancelReason)
	for i := range t.Attachments {
		a := &t.Attachments[i]
		n += attachmentOverhead + len(a.Name) + len(a.ContentType) + len(a.SHA256) + len(a.Ref)
	}
	for i := range t.Suspensions {
		n += suspensionOverhead + suspensionBytes(&t.Suspensions[i])
	}
	if t.Terminal != nil {
		n += eventOverhead + len(t.Terminal.Payload)
	}
	return int64(n)
}
