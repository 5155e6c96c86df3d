package memstore

import (
	"context"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Read implements engine.EventStore.
func (s *Store) Read(_ context.Context, taskID string, after engine.EventID, limit int) (engine.Page, error) {
	e, err := s.find(taskID)
	if err != nil {
		return engine.Page{}, err
	}
	limit = max(limit, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.load(); err != nil {
		return engine.Page{}, err
	}
	p := engine.Page{
		First:   e.log.first(),
		Last:    e.log.newest(),
		Found:   e.log.holds(after),
		Expired: e.expired,
	}
	rest := e.log.after(after)
	if len(rest) > 0 && len(rest[0]) >= limit {
		p.Events = rest[0][:limit:limit]
	} else if len(rest) > 0 {
		ahead := e.log.last.Ordinal - rest[0][0].ID.Ordinal + 1
		p.Events = make([]engine.Event, 0, min(uint64(limit), ahead))
		for _, batch := range rest {
			p.Events = append(p.Events, batch[:min(len(batch), limit-len(p.Events))]...)
			if len(p.Events) == limit {
				break
			}
		}
	}
	if n := len(p.Events); n > 0 {
		p.More = p.Events[n-1].ID != p.Last
	}
	return p, nil
}
