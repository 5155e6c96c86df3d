package fanout

import (
	"sync"
	"sync/atomic"
)

// budget bounds all rings together. When they are over it, the rings that
// were quiet longest shrink first, each down to its newest entry at most: who
// needs what went reads it from the Source.
type budget struct {
	limit int64
	total atomic.Int64

	// mu comes before any log's mutex.
	mu sync.Mutex
	// list holds the logs with something to give, in the order in which they
	// are asked (second chance: one that was pushed to since is asked later).
	head, tail *log
	n          int
}

// account is a log's place in the budget.
type account struct {
	pushed     atomic.Bool // since it was last asked
	rich       atomic.Bool // its ring holds more than one entry
	listed     atomic.Bool // written under budget.mu
	prev, next *log        // under budget.mu
}

// add counts a change of lg's ring, and makes room if there is too much. No
// log's mutex may be held.
func (b *budget) add(lg *log, delta int64) {
	total := b.total.Add(delta)
	if lg.account.rich.Load() != lg.account.listed.Load() {
		b.settle(lg)
	}
	if total > b.limit {
		b.shrink()
	}
}

// settle lists lg if it has something to give, and only then. Whether it has
// changes under the log's mutex only, and so does listed: whoever changes the
// one sees the other.
func (b *budget) settle(lg *log) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lg.mu.Lock()
	defer lg.mu.Unlock()
	rich := lg.account.rich.Load()
	switch listed := lg.account.listed.Load(); {
	case rich && !listed:
		b.append(lg)
	case !rich && listed:
		b.remove(lg)
	}
}

func (b *budget) shrink() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for spared := 0; b.head != nil && b.total.Load() > b.limit; {
		lg := b.head
		if lg.account.pushed.Swap(false) && spared < b.n {
			spared++
			b.remove(lg)
			b.append(lg)
			continue
		}
		lg.mu.Lock()
		for lg.ring.n > 1 && b.total.Load() > b.limit {
			b.total.Add(-lg.ring.evict())
		}
		rich := lg.ring.n > 1
		lg.account.rich.Store(rich)
		if !rich {
			b.remove(lg)
		}
		lg.mu.Unlock()
	}
}

func (b *budget) append(lg *log) {
	a := &lg.account
	a.listed.Store(true)
	a.prev, a.next = b.tail, nil
	if b.tail != nil {
		b.tail.account.next = lg
	} else {
		b.head = lg
	}
	b.tail = lg
	b.n++
}

func (b *budget) remove(lg *log) {
	a := &lg.account
	a.listed.Store(false)
	if a.prev != nil {
		a.prev.account.next = a.next
	} else {
		b.head = a.next
	}
	if a.next != nil {
		a.next.account.prev = a.prev
	} else {
		b.tail = a.prev
	}
	a.prev, a.next = nil, nil
	b.n--
}
