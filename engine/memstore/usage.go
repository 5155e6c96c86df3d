package memstore

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// usage counts what the store holds, and knows what may be evicted.
type usage struct {
	tasks, bytes atomic.Int64

	mu       sync.Mutex // a leaf: taken with an entry's lock held, never around one
	finished list.List  // of *entry, in the order in which they ended
}

// place is an entry's element in usage.finished, guarded by usage.mu.
type place = *list.Element

func (u *usage) list(e *entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e.place == nil {
		e.place = u.finished.PushBack(e)
	}
}

func (u *usage) unlist(e *entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e.place != nil {
		u.finished.Remove(e.place)
		e.place = nil
	}
}

// oldest returns the entry that ended first, nil if there is none.
func (u *usage) oldest() *entry {
	u.mu.Lock()
	defer u.mu.Unlock()
	if el := u.finished.Front(); el != nil {
		return el.Value.(*entry)
	}
	return nil
}

// evict erases finished tasks, the first to end first, until done says so. It
// stops at spare and reports whether done did. No lock is held.
func (s *Store) evict(ctx context.Context, spare *entry, done func() bool) bool {
	for !done() {
		e := s.usage.oldest()
		if e == nil || e == spare {
			return false
		}
		s.erase(ctx, e)
	}
	return true
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

// reserveTask makes room for one more task with a record of n bytes.
func (s *Store) reserveTask(ctx context.Context, n int64) error {
	if !s.evict(ctx, nil, func() bool { return take(&s.usage.tasks, 1, int64(s.cfg.MaxTasks)) }) {
		return errFull("MaxTasks")
	}
	if err := s.reserveBytes(ctx, n); err != nil {
		s.usage.tasks.Add(-1)
		return err
	}
	return nil
}

func (s *Store) releaseTask(n int64) {
	s.usage.tasks.Add(-1)
	s.usage.bytes.Add(-n)
}

// reserveBytes makes room for n more bytes.
func (s *Store) reserveBytes(ctx context.Context, n int64) error {
	if !s.evict(ctx, nil, func() bool { return take(&s.usage.bytes, n, s.cfg.MaxBytes) }) {
		return errFull("MaxBytes")
	}
	return nil
}

func (s *Store) releaseBytes(n int64) { s.usage.bytes.Add(-n) }

// press brings the store back under MaxBytes after an append to e: finished
// tasks go; if that is not enough, e keeps fewer events. An append is never
// refused for want of room, else no task could end.
func (s *Store) press(ctx context.Context, e *entry) {
	if s.evict(ctx, e, func() bool { return s.usage.bytes.Load() <= s.cfg.MaxBytes }) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if excess := s.usage.bytes.Load() - s.cfg.MaxBytes; excess > 0 {
		s.usage.bytes.Add(-e.log.trim(s.cfg.MaxStreamLength, e.log.bytes-excess))
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
