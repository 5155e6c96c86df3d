package memstore

import (
	"context"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// CodeTaskExpired is the code of the TASK_FAILED that ends a task which nobody
// ended within Config.MaxOpenAge.
const CodeTaskExpired = "TASK_EXPIRED"

// maintain ages the tasks until the store is closed.
func (s *Store) maintain() {
	tick := time.NewTicker(s.cfg.CleanupInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-tick.C:
			s.sweep()
		}
	}
}

// sweep looks at every task once.
func (s *Store) sweep() {
	ctx := context.Background()
	s.tasks.Range(func(_, v any) bool {
		s.age(ctx, v.(*entry))
		return !s.isClosed()
	})
}

// age does to one task what its age asks for.
func (s *Store) age(ctx context.Context, e *entry) {
	e.mu.Lock()
	t, now := e.record.Load(), s.now()
	if t != nil && over(t) && now.Sub(e.ended) > s.cfg.Actions.TTL {
		s.usage.grow(e.account, -e.acts.size)
		e.acts = acts{expired: e.acts.expired || e.acts.byID != nil}
	}
	var abandoned, gone bool
	switch {
	case t == nil:
	case e.ended.IsZero() && !over(t):
		abandoned = now.Sub(e.resumed) > s.cfg.MaxOpenAge && !awaited(t, now)
	case now.Sub(e.ended) > s.cfg.StreamTTL+s.cfg.RecordTTL:
		gone = true
	case now.Sub(e.ended) > s.cfg.StreamTTL && !e.expired:
		// A follower has had everything: the log ended before it expired.
		e.expired = true
		// The append that ended the task may still be repeated; the others are
		// as old as what they stored.
		s.usage.grow(e.account, e.tokens.keepNewest()-e.log.clear())
	}
	e.mu.Unlock()

	switch {
	case abandoned:
		s.abandon(e, now)
	case gone:
		s.erase(ctx, e)
	}
}

// awaited reports whether an open suspension of t has yet to expire.
func awaited(t *engine.Task, now time.Time) bool {
	for i := range t.Suspensions {
		if at := t.Suspensions[i].ExpiresAt; at != nil && at.After(now) {
			return true
		}
	}
	return false
}

// abandon fails a task that is past its maximum age, so that its stream ends.
func (s *Store) abandon(e *entry, now time.Time) {
	const payload = `{"code":"` + CodeTaskExpired + `","message":"the task was open for too long","retryable":true}`
	_, err := s.append(e, engine.Append{
		TaskID: e.id,
		Token:  "memstore:" + CodeTaskExpired,
		Events: []engine.Draft{{Type: engine.TypeFailed, CreatedAt: now.UTC().Round(0), Payload: []byte(payload)}},
	})
	// TASK_ALREADY_TERMINAL and TASK_NOT_FOUND: it ended by itself meanwhile.
	if err == nil {
		s.cfg.Logger.Warn("memstore: an open task reached its maximum age", "taskId", e.id)
	}
}
