package memstore

import (
	"context"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var _ engine.BoundedReader = (*Store)(nil)

// Read implements engine.EventStore.
func (s *Store) Read(ctx context.Context, taskID string, after engine.EventID, limit int) (engine.Page, error) {
	return s.ReadBytes(ctx, taskID, after, limit, 0)
}

// ReadBytes implements engine.BoundedReader. Zero maxBytes is no bound.
func (s *Store) ReadBytes(_ context.Context, taskID string, after engine.EventID, limit, maxBytes int) (engine.Page, error) {
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
	if maxBytes > 0 {
		limit = reach(rest, limit, maxBytes)
	}
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

// reach returns after how many events, at most limit, the sum of the payloads reaches
// maxBytes.
func reach(batches [][]engine.Event, limit, maxBytes int) (n int) {
	for _, batch := range batches {
		for i := range batch {
			if n++; n >= limit {
				return limit
			}
			if maxBytes -= len(batch[i].Payload); maxBytes <= 0 {
				return n
			}
		}
	}
	return limit
}
