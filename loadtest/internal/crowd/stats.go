//go:build linux

package crowd

import (
	"sync/atomic"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
)

// Transport is how a subscriber follows its task.
type Transport uint8

// The transports.
const (
	SSE Transport = iota
	WebSocket
	transports
)

func (t Transport) String() string { return [...]string{"sse", "ws"}[t] }

// Class is how a subscriber reads.
type Class uint8

// The classes.
const (
	Steady  Class = iota // whatever comes, at once
	Slow                 // a few bytes now and then
	Stalled              // nothing
	classes
)

func (c Class) String() string { return [...]string{"steady", "slow", "stalled"}[c] }

// Stats are running totals of a crowd, readable at any time.
type Stats struct {
	Deliveries uint64 // events, new or not
	Bytes      uint64 // read from sockets
	Reads      uint64
	Live       uint64 // events emitted after their subscriber had attached
	Attached   uint64 // connections that became streams, in all
	Open       uint64 // streams now
	Cuts       uint64 // ends that were not ours and not the task's
	Closings   uint64 // closing notices
	Delayed    uint64 // refusals of the passing kind, and failed connects
	Done       uint64 // subscribers that saw the terminal event and a clean end
}

// totals is Stats as a loop publishes it.
type totals struct {
	deliveries, bytes, reads, live, attached, open, cuts, closings, delayed, done atomic.Uint64
}

func (t *totals) publish(s *Stats) {
	t.deliveries.Store(s.Deliveries)
	t.bytes.Store(s.Bytes)
	t.reads.Store(s.Reads)
	t.live.Store(s.Live)
	t.attached.Store(s.Attached)
	t.open.Store(s.Open)
	t.cuts.Store(s.Cuts)
	t.closings.Store(s.Closings)
	t.delayed.Store(s.Delayed)
	t.done.Store(s.Done)
}

func (t *totals) addTo(s *Stats) {
	s.Deliveries += t.deliveries.Load()
	s.Bytes += t.bytes.Load()
	s.Reads += t.reads.Load()
	s.Live += t.live.Load()
	s.Attached += t.attached.Load()
	s.Open += t.open.Load()
	s.Cuts += t.cuts.Load()
	s.Closings += t.closings.Load()
	s.Delayed += t.delayed.Load()
	s.Done += t.done.Load()
}

// Latencies are the times from emit to client in microseconds, of live events,
// by transport and class.
type Latencies [transports][classes]hist.Hist

// Merge adds other.
func (l *Latencies) Merge(other *Latencies) {
	for t := range l {
		for c := range l[t] {
			l[t][c].Merge(&other[t][c])
		}
	}
}

// Of merges a class over the transports.
func (l *Latencies) Of(c Class) *hist.Hist {
	var h hist.Hist
	for t := range l {
		h.Merge(&l[t][c])
	}
	return &h
}

// All merges everything.
func (l *Latencies) All() *hist.Hist {
	var h hist.Hist
	for c := range classes {
		h.Merge(l.Of(c))
	}
	return &h
}
