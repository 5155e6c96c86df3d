package fiberbridge

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// recheckWorkers bounds how many open streams the policy is asked about at once.
const recheckWorkers = 8

// recheck looks after access that was given when a stream began: at once when
// revocations have changed, and now and then by asking the policy again.
type recheck struct {
	s *streams
	// every is the setting; zero goes by the transport's heartbeat, negative is
	// never.
	every time.Duration
	// asking works on single streams, walking goes over all of them.
	asking, walking *commandPool
	// due says that there is a walk to come.
	due  atomic.Bool
	stop func()
}

// newRecheck is called with s.eng, s.cfg and s.deadlines set.
func newRecheck(s *streams) *recheck {
	r := &recheck{
		s: s, every: s.cfg.Streams.Recheck,
		asking: newCommandPool(recheckWorkers), walking: newCommandPool(1),
	}
	if !s.eng.PolicyMayChange() {
		r.every = -1
	}
	r.stop = s.eng.OnRevocation(func() {
		if !r.due.Swap(true) {
			r.walking.add(walk{r})
		}
	})
	return r
}

func (r *recheck) close(ctx context.Context) error {
	r.stop()
	return errors.Join(r.walking.close(ctx), r.asking.close(ctx))
}

// first is when a new stream is asked about: spread, so that those which came
// together are not asked about together.
func (r *recheck) first(heartbeat time.Duration) instant {
	if r.every < 0 || r.interval(heartbeat) <= 0 {
		return 0
	}
	d := r.interval(heartbeat)
	return r.s.deadlines.now() + instant(d-jitter(d/2))
}

// interval is a little less than a heartbeat: an idle stream's peer is told that
// it is alive only if it was asked about since it last heard anything.
func (r *recheck) interval(heartbeat time.Duration) time.Duration {
	if r.every > 0 {
		return r.every
	}
	return heartbeat - heartbeat/8
}

// again has the policy asked about st, and says when to do so next.
func (r *recheck) again(st *stream, now instant) instant {
	if !st.flags.set(asked) { // while a store hangs, one question each
		r.asking.add(question{st})
	}
	d := r.interval(st.self().heartbeat())
	return now + instant(d-jitter(d/8))
}

// question asks the policy about one stream.
type question struct{ st *stream }

func (q question) command(ctx context.Context) (more bool) {
	q.st.flags.clear(asked)
	q.st.self().standing(ctx, true)
	return false
}

// walk goes over all streams, in memory.
type walk struct{ r *recheck }

func (w walk) command(ctx context.Context) (more bool) {
	w.r.due.Store(false) // what changes from here on needs another walk
	s := w.r.s
	s.mu.Lock()
	open := slices.Clone(s.subscribers)
	s.mu.Unlock()
	for _, st := range open {
		st.self().standing(ctx, false)
	}
	return false
}

// standingOf is what is left of a caller's access to a task. Without policy it
// asks memory only. The policy is the host's code: if it panics, on this
// goroutine, the process would end; it could not tell.
func (s *streams) standingOf(ctx context.Context, auth *engine.AuthContext, taskID string, policy bool) (found engine.Standing) {
	if !policy {
		return s.eng.Revoked(auth, taskID)
	}
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("stream: panic in the ownership policy",
				slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			found = engine.StandingGood
		}
	}()
	return s.eng.StandingOf(ctx, auth, engine.AccessSubscribe, taskID)
}
