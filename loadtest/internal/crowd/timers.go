//go:build linux

package crowd

import "container/heap"

// timers is a heap of what a loop does later. An entry whose generation has
// passed is dropped when its time comes.
type timers []timer

type timer struct {
	at   int64 // monotonic nanoseconds
	sub  *sub
	gen  uint32
	kind timerKind
}

type timerKind uint8

const (
	openTimer timerKind = iota
	readTimer
	doorTimer // connected, and no stream yet
)

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push is heap.Interface's.
func (t *timers) Push(x any) { *t = append(*t, x.(timer)) }

// Pop is heap.Interface's.
func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last] = timer{}
	*t = (*t)[:last]
	return x
}

func (l *loop) after(s *sub, delay int64, kind timerKind) {
	heap.Push(&l.timers, timer{l.mono() + delay, s, s.gen, kind})
}

// ring fires what is due.
func (l *loop) ring() {
	for len(l.timers) > 0 {
		now := l.mono()
		first := l.timers[0]
		if first.at > now {
			return
		}
		heap.Pop(&l.timers)
		if first.gen != first.sub.gen {
			continue
		}
		switch first.kind {
		case openTimer:
			l.enqueue(first.sub)
		case readTimer:
			first.sub.sip()
		case doorTimer:
			first.sub.lateAtDoor()
		}
	}
}

// patience is how long the loop may wait for the next timer, in milliseconds,
// -1 for ever.
func (l *loop) patience() int {
	if len(l.timers) == 0 {
		return -1
	}
	return int(max(l.timers[0].at-l.mono(), 0)/1e6 + 1)
}
