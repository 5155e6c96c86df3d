package fiberbridge

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// ticketTime is how long a place is kept for a stream whose connection has not
// been handed over yet. Some hand-overs never happen, and nobody tells: the
// host's middleware timed the request out, or the client left.
const ticketTime = 10 * time.Second

// ticket is a place among the streams, held from before the hand-over.
type ticket struct {
	s     *streams
	until instant
	slot  deadline
	// gone is set by whoever ends the ticket: take, cancel or the sweeper.
	gone atomic.Bool
}

// reserve takes a place, or says SERVER_DRAINING or TOO_MANY_STREAMS. The
// ticket goes to enter or is cancelled.
func (s *streams) reserve() (*ticket, error) {
	// Sockets that linger after their stream's end still take a descriptor.
	open := s.group.Len()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return nil, engine.NewError(engine.CodeServerDraining, "the server is shutting down")
	case s.used >= s.limit || open+s.waiting >= s.limit:
		return nil, engine.NewError(engine.CodeTooManyStreams, "too many streams are open")
	}
	t := &ticket{s: s}
	s.count(+1)
	s.waiting++
	t.until = s.deadlines.now() + instant(ticketTime)
	s.deadlines.set(t, t.until)
	return t, nil
}

// cancel gives the place back, unless it was taken or given back already. On no
// ticket at all it does nothing.
func (t *ticket) cancel() {
	if t == nil || t.gone.Swap(true) {
		return
	}
	t.s.deadlines.drop(t)
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.waiting--
	t.s.count(-1)
}

// enter makes m a subscriber in the ticket's place. It reports false if the ticket
// has lapsed, or nobody may enter any more.
func (s *streams) enter(t *ticket, m subscriber) bool {
	if t.gone.Swap(true) {
		return false
	}
	s.deadlines.drop(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	if s.draining {
		s.count(-1)
		return false
	}
	m.base().place = len(s.subscribers)
	s.subscribers = append(s.subscribers, m)
	s.eng.Metrics().Add(engine.MetricStreams, 1, m.transport())
	return true
}

// leave gives a subscriber's place back. Whoever is no subscriber is not counted.
func (s *streams) leave(m subscriber) {
	s.deadlines.drop(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := m.base()
	if st.place < 0 {
		return
	}
	last := len(s.subscribers) - 1
	s.subscribers[st.place] = s.subscribers[last]
	s.subscribers[st.place].base().place = st.place
	s.subscribers[last] = nil
	s.subscribers = s.subscribers[:last]
	st.place = -1
	if cap(s.subscribers) > 1024 && last < cap(s.subscribers)/4 {
		s.subscribers = slices.Clip(slices.Clone(s.subscribers))
	}
	s.count(-1)
	s.eng.Metrics().Add(engine.MetricStreams, -1, m.transport())
}

// count keeps empty in step with used. s.mu is held.
func (s *streams) count(delta int) {
	if s.used == 0 && delta > 0 {
		s.empty = make(chan struct{})
	}
	s.used += delta
	if s.used == 0 {
		close(s.empty)
	}
}

func (t *ticket) deadline() *deadline { return &t.slot }

// check gives the place back when its time is over.
func (t *ticket) check(now instant, _ time.Time) instant {
	if now < t.until {
		return t.until
	}
	t.cancel()
	return 0
}
