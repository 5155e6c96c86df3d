package fiberbridge

import (
	"container/list"

	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// Sockets that have not subscribed yet have not been served yet either. They
// take places from those who want to be, so there is a limit to them; beyond it
// a newcomer gets the place of one that has been silent for longest, of the
// subject that has most of them. A caller who opens sockets and says nothing
// loses them to itself and to others.

// arrive puts a socket that has entered among the silent ones, and closes one of
// them if they are too many.
func (s *streams) arrive(w *wsStream) {
	if victim := s.arriveLocked(w); victim != nil {
		victim.giveWay()
	}
}

func (s *streams) arriveLocked(w *wsStream) (victim *wsStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.place < 0 {
		return nil
	}
	who := w.who
	if s.idle >= s.cfg.WebSocket.MaxIdle {
		victim = s.mostIdle(who).idle.Front().Value.(*wsStream)
		s.spokeLocked(victim)
	}
	if who.idle == nil {
		who.idle = list.New()
		s.idleSubjects[who] = struct{}{}
	}
	s.idle++
	w.idle = who.idle.PushBack(w)
	return victim
}

// idleSample bounds the search for the subject with the most silent sockets. Who
// has very many is not missed for long.
const idleSample = 256

// mostIdle is a subject with the most silent sockets, who if others have no
// more. There are some.
func (s *streams) mostIdle(who *subject) *subject {
	most, n := who, 0
	if who.idle != nil {
		n = who.idle.Len()
	}
	left := idleSample
	for other := range s.idleSubjects {
		if other.idle.Len() > n {
			most, n = other, other.idle.Len()
		}
		if left--; left == 0 {
			break
		}
	}
	return most
}

// spoke takes a socket out of the silent ones.
func (s *streams) spoke(w *wsStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spokeLocked(w)
}

func (s *streams) spokeLocked(w *wsStream) {
	if w.idle == nil {
		return
	}
	s.idle--
	if w.who.idle.Remove(w.idle); w.who.idle.Len() == 0 {
		w.who.idle = nil
		delete(s.idleSubjects, w.who)
	}
	w.idle = nil
}

// giveWay closes a silent socket for another. It does not wait for an answer:
// the place is needed.
func (w *wsStream) giveWay() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy || w.subscribed {
		return // it has spoken at the last moment
	}
	w.hasty = true
	w.closeLocked(wsproto.CloseTryLater, "too many sockets have not subscribed", hastyTime)
}
