package memstore

import (
	"container/heap"
	"sync"
	"time"
)

// dues says which suspensions somebody must look at, and when: at the expiry of
// an open one, or while an answer has not been handed over.
type dues struct {
	mu    sync.Mutex // a leaf: taken with an entry's lock held, never around one
	heaps [2]dueHeap // by clock
}

// clock says what a time was made of, since what a client was told is the
// wall's time, and a pause should not change when that jumps.
type clock int

const (
	wall clock = iota
	monotonic
)

// due is a place in dues, guarded by dues.mu.
type due struct {
	at    time.Time
	clock clock
	index int // in the heap, from 1; 0: not in it
}

// set sees to it that s comes at a time, whatever was set before.
func (d *dues) set(s *suspension, c clock, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(s)
	s.due.at, s.due.clock = at, c
	heap.Push(&d.heaps[c], s)
}

// unset forgets s.
func (d *dues) unset(s *suspension) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(s)
}

// remove needs mu.
func (d *dues) remove(s *suspension) {
	if s.due.index > 0 {
		heap.Remove(&d.heaps[s.due.clock], s.due.index-1)
	}
}

// has reports whether s will come.
func (d *dues) has(s *suspension) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.due.index > 0
}

// take takes out up to limit suspensions whose time has come.
func (d *dues) take(now time.Time, limit int) (taken []*suspension) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.heaps {
		h := &d.heaps[c]
		for len(taken) < limit && len(*h) > 0 && !(*h)[0].due.at.After(now) {
			taken = append(taken, heap.Pop(h).(*suspension))
		}
	}
	return taken
}

// dueHeap implements heap.Interface, the earliest first.
type dueHeap []*suspension

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.at.Before(h[j].due.at) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].due.index, h[j].due.index = i+1, j+1
}

func (h *dueHeap) Push(x any) {
	s := x.(*suspension)
	*h = append(*h, s)
	s.due.index = len(*h)
}

func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	s.due.index = 0
	return s
}
