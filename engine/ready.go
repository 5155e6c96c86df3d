package engine

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
)

// readyTime bounds one round of readiness probes.
const readyTime = 2 * time.Second

// readiness keeps what the probes said, so that whoever asks, and how often, costs
// the dependencies nothing more. The zero value is ready for use.
type readiness struct {
	mu      sync.Mutex
	at      time.Time
	answers map[string]error // not changed any more
	asking  chan struct{}    // closed when the round under way is over; nil if none is
}

// Ready asks every readiness probe and returns an answer for each, nil for one
// that is ready. Probes of the same name answer together. What they say counts for
// Config.ReadyTTL, and those who ask at the same time share a round. Between Drain
// and the end there is one more, "engine", with SERVER_DRAINING, at once.
func (e *Engine) Ready(ctx context.Context) map[string]error {
	ready := maps.Clone(e.readiness.ask(ctx, e.cfg.ReadyTTL, e.probes()))
	if e.drained.Err() != nil {
		ready["engine"] = NewError(CodeServerDraining, "shutting down")
	}
	return ready
}

func (e *Engine) probes() []ReadinessProbe {
	probes := e.cfg.Readiness
	for _, part := range []any{e.cfg.Store, e.cfg.Executor} {
		if p, ok := part.(ReadinessProbe); ok {
			probes = append(probes[:len(probes):len(probes)], p)
		}
	}
	return probes
}

// ask returns answers that are younger than ttl. Whoever finds none asks the
// probes, and goes on with that for the others if its ctx ends.
func (r *readiness) ask(ctx context.Context, ttl time.Duration, probes []ReadinessProbe) map[string]error {
	r.mu.Lock()
	for r.answers == nil || time.Since(r.at) >= ttl {
		asking := r.asking
		if asking == nil {
			return r.round(ctx, probes)
		}
		r.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return answered(probes, func(ReadinessProbe) error { return ctx.Err() })
		}
		r.mu.Lock()
		if r.answers != nil { // as new as they get, whatever ttl is
			break
		}
	}
	defer r.mu.Unlock()
	return r.answers
}

// round asks the probes. It is called with r.mu held, and returns without.
func (r *readiness) round(ctx context.Context, probes []ReadinessProbe) map[string]error {
	over := make(chan struct{})
	r.asking = over
	r.mu.Unlock()
	defer close(over)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
	defer cancel()
	var answers map[string]error
	defer func() { // of a panic, too
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asking = nil
		if answers != nil {
			r.answers, r.at = answers, time.Now()
		}
	}()
	answers = answered(probes, func(p ReadinessProbe) error { return p.Ready(ctx) })
	return answers
}

// answered calls ask for all probes at the same time.
func answered(probes []ReadinessProbe, ask func(ReadinessProbe) error) map[string]error {
	errs := make([]error, len(probes))
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() { errs[i] = ask(p) })
	}
	wg.Wait()
	answers := make(map[string]error, len(probes)+1)
	for i, p := range probes {
		answers[p.Name()] = errors.Join(answers[p.Name()], errs[i])
	}
	return answers
}
