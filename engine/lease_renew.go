package engine

import (
	"context"
	"math/rand/v2"
	"time"
)

// renew keeps the leases of this process alive, all in one call, until there is
// none.
func (h *holds) renew() {
	defer h.work.leave()
	var (
		pause   backoff
		failing bool
		next    = h.renewalPause()
	)
	for {
		if !sleep(h.life, next) {
			return
		}
		held, ids := h.held()
		if held == nil {
			return
		}
		lost, err := h.renewOnce(ids)
		for _, id := range lost {
			h.lost(held[id])
		}
		switch {
		case h.life.Err() != nil:
			return
		case err == nil:
			if failing {
				h.logger.Info("leases are renewed again", "leases", len(ids))
			}
			failing, pause, next = false, backoff{}, h.renewalPause()
		default:
			if !failing {
				h.logger.Warn("leases could not be renewed; trying again", "leases", len(ids), "error", err)
			}
			failing, next = true, pause.next(min(maxRetryPause, h.ttl/12))
		}
	}
}

// renewOnce bounds a renewal, so that a store that hangs is asked again.
func (h *holds) renewOnce(ids []string) ([]string, error) {
	ctx, done := context.WithTimeout(h.life, h.ttl)
	defer done()
	return h.leases.Renew(ctx, h.holder, ids, h.ttl)
}

// renewalPause is between a quarter and a third of the TTL: what the store
// promises a holder, it promises one that renews every third.
func (h *holds) renewalPause() time.Duration {
	return h.ttl/4 + rand.N(h.ttl/12)
}

// held are the leases to renew. Nil says that there is none at all, and that
// the renewer is taken to have ended.
func (h *holds) held() (map[string]*hold, []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.tasks) == 0 {
		h.renewing = false
		return nil, nil
	}
	held, ids := make(map[string]*hold, len(h.tasks)), make([]string, 0, len(h.tasks))
	for id, t := range h.tasks {
		if t.busy == nil {
			held[id] = t
			ids = append(ids, id)
		}
	}
	return held, ids
}
