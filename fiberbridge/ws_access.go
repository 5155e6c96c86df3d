package fiberbridge

import (
	"context"
	"slices"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

func (w *wsStream) heartbeat() time.Duration { return w.s.cfg.WebSocket.Heartbeat }

// standing is part of subscriber. A task that is closed to the client ends its
// subscription, revoked credentials end the socket.
func (w *wsStream) standing(ctx context.Context, policy bool) {
	if w.s.eng.Revoked(w.auth, "") == engine.StandingRevoked {
		w.closeWith(wsproto.CloseForbidden, "access was revoked")
		return
	}
	w.mu.Lock()
	tasks := slices.Clone(w.tasks)
	w.mu.Unlock()
	for _, task := range tasks {
		if w.s.standingOf(ctx, w.auth, task, policy) != engine.StandingGood {
			w.deny(task)
		}
	}
}

// deny ends the subscription of a task that is closed to the client.
func (w *wsStream) deny(task string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending || w.over || !slices.Contains(w.tasks, task) {
		return
	}
	w.outlet.Unfollow(task, nil)
	w.end(task, endedRevoked)
}

// end notes that the subscription of a task is over. mu is held.
func (w *wsStream) end(task, reason string) {
	i := slices.Index(w.tasks, task)
	if i < 0 {
		return
	}
	w.tasks = slices.Delete(w.tasks, i, i+1)
	w.s.unplaceTask(w, task)
	w.ended = w.ended.with(task, reason)
	w.settle()
}

// placeTask takes a place among a task's subscribers for a socket, if it has
// none yet.
func (s *streams) placeTask(w *wsStream, task string) error {
	if s.cfg.Streams.MaxPerTask <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.place < 0 || slices.Contains(s.placed[w], task) {
		return nil
	}
	if !s.takeTask(task) {
		return errTaskFull
	}
	if s.placed == nil {
		s.placed = map[*wsStream][]string{}
	}
	s.placed[w] = append(s.placed[w], task)
	return nil
}

// unplaceTask gives it back. What has none is left alone.
func (s *streams) unplaceTask(w *wsStream, task string) {
	if s.cfg.Streams.MaxPerTask <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.placed[w], task); i >= 0 {
		s.placed[w] = slices.Delete(s.placed[w], i, i+1)
		s.giveTask(task)
	}
}

// left is part of subscriber.
func (w *wsStream) left() {
	w.s.spokeLocked(w)
	for _, task := range w.s.placed[w] {
		w.s.giveTask(task)
	}
	delete(w.s.placed, w)
}
