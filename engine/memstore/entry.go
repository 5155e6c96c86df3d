package memstore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// entry is one task with all that belongs to it.
type entry struct {
	id  string
	key requestKey
	// account is the owner's. It is held until the entry is erased.
	account *account
	files   int64 // bytes of attachments in the store's memory
	// born, resumed and ended carry Go's monotonic reading: a clock that jumps
	// neither expires nor prolongs anything.
	born time.Time

	// record is what Get returns, replaced as a whole under mu and read
	// without it. Nil means erased, the one place that says so.
	record atomic.Pointer[engine.Task]

	mu        sync.Mutex
	resumed   time.Time // when it last got an answer, or was born
	ended     time.Time // zero while the task is open
	log       eventLog
	expired   bool // the log is gone
	tokens    tokens
	acts      acts
	followers []*follower
	listeners []*listener
	resolved  uint64 // see engine.Signal
	saved     engine.Checkpoint
	size      int64 // what the record adds to the store's usage
	place     place // where the entry stands among its account's finished ones
}

// requestKey names a task by what its creator sent.
type requestKey struct{ owner, clientRequestID string }

// load returns the record, or TASK_NOT_FOUND once the task is erased.
func (e *entry) load() (*engine.Task, error) {
	if t := e.record.Load(); t != nil {
		return t, nil
	}
	return nil, errNotFound()
}

// publish replaces the record and returns by how much its size changed. mu is
// held.
func (e *entry) publish(t *engine.Task) int64 {
	before := e.size
	e.size = recordSize(t)
	e.record.Store(t)
	return e.size - before
}

// touch sets UpdatedAt, which never goes back.
func touch(t *engine.Task, now time.Time) {
	if now = now.UTC().Round(0); now.After(t.UpdatedAt) {
		t.UpdatedAt = now
	}
}

// over reports whether nothing can follow in t's log.
func over(t *engine.Task) bool { return t.Terminal != nil || t.Status.Terminal() }
