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
	who   *subject
	task  string // whose place it holds, too; see forTask
	until instant
	slot  deadline
	// gone is set by whoever ends the ticket: take, cancel or the sweeper.
	gone atomic.Bool
}

var (
	errFull        = engine.NewError(engine.CodeTooManyStreams, "too many streams are open")
	errSubjectFull = engine.NewError(engine.CodeTooManyStreams, "the caller has too many streams open")
	errTaskFull    = engine.NewError(engine.CodeTooManyStreams, "the task has too many subscribers")
	errPollsFull   = engine.NewError(engine.CodeTooManyStreams, "the caller has too many polls at once")
	errDraining    = engine.NewError(engine.CodeServerDraining, "the server is shutting down")
)

// reserve takes a place for a caller, or says SERVER_DRAINING or
// TOO_MANY_STREAMS. The ticket goes to enter or is cancelled.
func (s *streams) reserve(auth *engine.AuthContext) (*ticket, error) {
	// Sockets that linger after their stream's end still take a descriptor.
	open := s.group.Len()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, errDraining
	}
	if s.used >= s.limit || open+s.waiting >= s.limit || s.exhausted(open) {
		return nil, errFull
	}
	who := s.subject(auth)
	if who.streams >= s.cfg.Streams.MaxPerSubject {
		s.forget(who)
		return nil, errSubjectFull
	}
	t := &ticket{s: s, who: who}
	who.streams++
	s.count(+1)
	s.waiting++
	t.until = s.deadlines.now() + instant(ticketTime)
	s.deadlines.set(t, t.until)
	return t, nil
}

// exhausted reports whether streams and waiting polls together take as many
// descriptors as they may: without any, the host's listener would end. open is
// how many sockets there are. s.mu is held.
func (s *streams) exhausted(open int) bool { return open+s.waiting+s.polls >= s.ceiling }

// forTask takes a place among a task's subscribers as well. It is asked when the
// caller is known to have access: before, a task that has no place left could be
// told from one that does not exist.
func (t *ticket) forTask(id string) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.gone.Load() {
		return nil // the stream will not begin
	}
	if !t.s.takeTask(id) {
		return errTaskFull
	}
	t.task = id
	return nil
}

// takeTask counts a subscriber of a task in, if there is a limit. s.mu is held.
func (s *streams) takeTask(id string) bool {
	limit := s.cfg.Streams.MaxPerTask
	if limit <= 0 {
		return true
	}
	if s.perTask[id] >= limit {
		return false
	}
	if s.perTask == nil {
		s.perTask = map[string]int{}
	}
	s.perTask[id]++
	return true
}

// giveTask counts it out. s.mu is held.
func (s *streams) giveTask(id string) {
	if n, ok := s.perTask[id]; ok && n > 1 {
		s.perTask[id] = n - 1
	} else {
		delete(s.perTask, id)
	}
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
	t.giveBack()
}

// giveBack gives back what a ticket holds. s.mu is held.
func (t *ticket) giveBack() {
	if t.task != "" {
		t.s.giveTask(t.task)
	}
	t.who.streams--
	t.s.forget(t.who)
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
		t.giveBack()
		return false
	}
	st := m.base()
	st.who = t.who
	st.place = int32(len(s.subscribers))
	s.subscribers = append(s.subscribers, st)
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
	s.subscribers[st.place].place = st.place
	s.subscribers[last] = nil
	s.subscribers = s.subscribers[:last]
	st.place = -1
	if cap(s.subscribers) > 1024 && last < cap(s.subscribers)/4 {
		s.subscribers = slices.Clip(slices.Clone(s.subscribers))
	}
	m.left()
	st.who.streams--
	s.forget(st.who)
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
