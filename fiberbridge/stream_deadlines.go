package fiberbridge

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

// instant is a monotonic time, counted from when the bridge began.
type instant time.Duration

// timed is something with a next moment to look at.
type timed interface {
	deadline() *deadline
	// check does what is due and returns when to look again; zero is never.
	// It may be called too early.
	check(now instant, wall time.Time) instant
}

// deadline is a timed's place in the heap, counted from 1; zero is not in it,
// gone never will be again. deadlines.mu guards it.
type deadline int32

// gone is the place of what was dropped.
const gone deadline = -1

// lookAgain bounds the sweeper's sleep while anything is due at some time, so
// that a jump of the wall clock, which timers do not see, is noticed: the
// expiry of a credential is a wall-clock time.
const lookAgain = 500 * time.Millisecond

// deadlines looks after the due times of all streams of a bridge with one
// goroutine.
type deadlines struct {
	begin time.Time
	ahead atomic.Int64 // tests turn the wall clock by it
	wake  chan struct{}
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	heap dueHeap
}

func newDeadlines() *deadlines {
	d := &deadlines{
		begin: time.Now(),
		wake:  make(chan struct{}, 1),
		stop:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	go d.run()
	return d
}

func (d *deadlines) now() instant { return instant(time.Since(d.begin)) }

// wall is the wall clock's time, without a monotonic reading.
func (d *deadlines) wall() time.Time {
	return time.Now().Round(0).Add(time.Duration(d.ahead.Load()))
}

// set has t looked at no later than at.
func (d *deadlines) set(t timed, at instant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slot := t.deadline()
	switch i := int(*slot) - 1; {
	case *slot == gone:
		return
	case *slot == 0:
		heap.Push(&d.heap, due{at, t})
	case at < d.heap[i].at:
		d.heap[i].at = at
		heap.Fix(&d.heap, i)
	default:
		return
	}
	if *slot == 1 {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

// drop forgets t for good. A check under way is not waited for.
func (d *deadlines) drop(t timed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := *t.deadline(); i > 0 {
		heap.Remove(&d.heap, int(i)-1)
	}
	*t.deadline() = gone
}

// close ends the sweeper and waits for it.
func (d *deadlines) close() {
	d.once.Do(func() { close(d.stop) })
	<-d.done
}

func (d *deadlines) run() {
	defer close(d.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	wallAtBegin := d.wall()
	monoAtBegin := d.now()
	for {
		wall, now := d.wall(), d.now()
		jump := wall.Sub(wallAtBegin) - time.Duration(now-monoAtBegin)
		wallAtBegin, monoAtBegin = wall, now
		if jump.Abs() > lookAgain {
			now = d.all(now)
		}
		d.due(now, wall)

		var sleep <-chan time.Time
		if next, ok := d.next(); ok {
			timer.Reset(min(max(time.Duration(next-d.now()), 0), lookAgain))
			sleep = timer.C
		}
		select {
		case <-sleep:
		case <-d.wake:
		case <-d.stop:
			return
		}
	}
}

func (d *deadlines) next() (at instant, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.heap) == 0 {
		return 0, false
	}
	return d.heap[0].at, true
}

// due checks everything whose time has come.
func (d *deadlines) due(now instant, wall time.Time) {
	for {
		d.mu.Lock()
		if len(d.heap) == 0 || d.heap[0].at > now {
			d.mu.Unlock()
			return
		}
		t := heap.Pop(&d.heap).(due).t
		d.mu.Unlock()
		if at := t.check(now, wall); at > 0 {
			d.set(t, max(at, now+1))
		}
	}
}

// all makes everything due now.
func (d *deadlines) all(now instant) instant {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.heap {
		d.heap[i].at = now // all alike: still a heap
	}
	return now
}

// due is a timed and its next moment.
type due struct {
	at instant
	t  timed
}

// dueHeap is a heap by time; see container/heap.
type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h.placed(i)
	h.placed(j)
}

// placed tells the i-th its place.
func (h dueHeap) placed(i int) {
	*h[i].t.deadline() = deadline(i + 1)
}

// Push is for container/heap.
func (h *dueHeap) Push(x any) {
	*h = append(*h, x.(due))
	h.placed(len(*h) - 1)
}

// Pop is for container/heap.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = due{}
	*h = (*h)[:last]
	*d.t.deadline() = 0
	return d
}
