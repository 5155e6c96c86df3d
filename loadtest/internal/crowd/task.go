//go:build linux

package crowd

import (
	"bytes"
	"sync/atomic"
)

// Task is one followed task. Its subscribers share what was parsed of its
// events: whoever gets an event first takes it apart, the others compare
// bytes, which is both cheaper and stricter.
type Task struct {
	ID string
	// Text checks the text of the message with an ordinal; nil checks nothing.
	Text func(ordinal uint64, text []byte, plain bool) bool

	head  atomic.Uint64 // the newest ordinal that any subscriber has seen
	ended atomic.Bool   // somebody saw the terminal event
	end   atomic.Pointer[string]
	memo  []atomic.Pointer[known]
}

// known is an event that some subscriber has parsed and checked.
type known struct {
	body, id []byte
	payload  []byte
	millis   uint64
	ordinal  uint64
	created  int64
	terminal bool
}

// memoEvents is how many events of a task are remembered, a power of two.
const memoEvents = 2048

// NewTask returns a task. shared says that it has several subscribers.
func NewTask(id string, shared bool) *Task {
	t := &Task{ID: id}
	if shared {
		t.memo = make([]atomic.Pointer[known], memoEvents)
	}
	return t
}

// Head is the newest ordinal that any subscriber has seen.
func (t *Task) Head() uint64 { return t.head.Load() }

// End is the terminal event's type and, of a failure, its code; "" before.
func (t *Task) End() string {
	if s := t.end.Load(); s != nil {
		return *s
	}
	return ""
}

func (t *Task) recall(ordinal uint64) *known {
	if t.memo == nil {
		return nil
	}
	if k := t.memo[ordinal%memoEvents].Load(); k != nil && k.ordinal == ordinal {
		return k
	}
	return nil
}

func (t *Task) remember(k *known) {
	if t.memo == nil {
		return
	}
	kept := *k // k itself stays on its caller's stack
	kept.body, kept.id, kept.payload = bytes.Clone(k.body), bytes.Clone(k.id), bytes.Clone(k.payload)
	slot := &t.memo[k.ordinal%memoEvents]
	if old := slot.Load(); old == nil || old.ordinal < k.ordinal {
		slot.CompareAndSwap(old, &kept)
	}
}

func (t *Task) saw(ordinal uint64) {
	for {
		head := t.head.Load()
		if ordinal <= head || t.head.CompareAndSwap(head, ordinal) {
			return
		}
	}
}
