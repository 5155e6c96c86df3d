package socket

import (
	"container/heap"
	"sync"
	"time"
)

// lingers closes the sockets that CloseGracefully left waiting, each at its
// time, with one timer for all of them. It holds a socket no longer than the
// socket is open.
type lingers struct {
	epoch time.Time // monotonic: the wall clock may jump
	timer *time.Timer

	mu      sync.Mutex
	queue   lingerHeap // guarded by mu
	flights int        // calls of expire that are due or under way; guarded by mu
	landed  sync.Cond  // flights is 0
}

type lingering struct {
	at time.Duration // since epoch
	s  *Socket
}

func (l *lingers) start() {
	l.epoch = time.Now()
	l.landed.L = &l.mu
	l.timer = time.AfterFunc(time.Hour, l.expire)
	l.timer.Stop()
}

// add closes s after d. Called with the Socket's lock held.
func (l *lingers) add(s *Socket, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heap.Push(&l.queue, lingering{at: time.Since(l.epoch) + d, s: s})
	if s.lingerAt == 0 {
		l.arm(d)
	}
}

func (l *lingers) arm(d time.Duration) {
	if !l.timer.Reset(d) {
		l.flights++
	}
}

func (l *lingers) disarm() {
	if l.timer.Stop() {
		l.flights--
	}
}

// remove forgets s. Called with the Socket's lock held.
func (l *lingers) remove(s *Socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.lingerAt < 0 {
		return
	}
	heap.Remove(&l.queue, int(s.lingerAt))
	if len(l.queue) == 0 {
		l.disarm()
	}
}

// expire is the timer's.
func (l *lingers) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) > 0 {
		if wait := l.queue[0].at - time.Since(l.epoch); wait > 0 {
			l.arm(wait)
			break
		}
		s := heap.Pop(&l.queue).(lingering).s
		l.mu.Unlock() // a Socket's lock comes before this one
		s.Close()
		l.mu.Lock()
	}
	l.flights--
	l.landed.Broadcast()
}

// stop waits for expire. The sockets are closed by now: nothing is queued.
func (l *lingers) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disarm()
	for l.flights > 0 {
		l.landed.Wait()
	}
}

// lingerHeap is a container/heap by time, each Socket knowing its place.
type lingerHeap []lingering

func (h lingerHeap) Len() int           { return len(h) }
func (h lingerHeap) Less(i, j int) bool { return h[i].at < h[j].at }

func (h lingerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].s.lingerAt, h[j].s.lingerAt = int32(i), int32(j)
}

func (h *lingerHeap) Push(x any) {
	e := x.(lingering)
	e.s.lingerAt = int32(len(*h))
	*h = append(*h, e)
}

func (h *lingerHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = lingering{}
	*h = (*h)[:last]
	e.s.lingerAt = -1
	return e
}
