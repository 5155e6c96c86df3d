package fiberbridge

import (
	"container/list"

	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// Sockets that have not subscribed yet have not been served yet either. They
// take places from those who want to be, so there is a limit to them; beyond it
// a newcomer gets the place of the one that has been silent for longest, of its
// own subject if that has any. A caller who opens sockets and says nothing loses
// them to itself.

// idleSocket is a socket's place among the silent ones.
type idleSocket struct{ all, own *list.Element }

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
	if s.idle.Len() >= s.cfg.WebSocket.MaxIdle {
		oldest := s.idle.Front()
		if who.idle != nil {
			oldest = who.idle.Front()
		}
		victim = oldest.Value.(*wsStream)
		s.spokeLocked(victim)
	}
	if who.idle == nil {
		who.idle = list.New()
	}
	w.idle = &idleSocket{s.idle.PushBack(w), who.idle.PushBack(w)}
	return victim
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
	s.idle.Remove(w.idle.all)
	if w.who.idle.Remove(w.idle.own); w.who.idle.Len() == 0 {
		w.who.idle = nil
	}
	w.idle = nil
}

// giveWay closes a silent socket for another. It does not wait for an answer:
// the place is needed.
func (w *wsStream) giveWay() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy || w.subscribeBy == 0 {
		return // it has spoken at the last moment
	}
	w.closing.hasty = true
	w.closeLocked(wsproto.CloseTryLater, "too many sockets have not subscribed", hastyTime)
}
