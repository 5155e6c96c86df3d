package fiberbridge

import (
	"context"
	"log/slog"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// sseStream is one SSE response: one task, from a cursor on.
type sseStream struct {
	stream
	framing sseFraming
	taskID  string
}

var _ subscriber = (*sseStream)(nil)

// Readable throws away what a client sends behind its request.
func (st *sseStream) Readable([]byte) {}

// Writable is socket.Handler's.
func (st *sseStream) Writable() { st.outlet.Writable() }

// Hangup is socket.Handler's.
func (st *sseStream) Hangup(error) { st.cut() }

func (st *sseStream) resumed() {}

func (st *sseStream) transport() string { return transportSSE }

// Finished ends the response cleanly: this alone tells the client that there
// is no more. A slow reader still has the rest to take.
func (st *sseStream) Finished(string) {
	if st.beginEnd(10 * st.s.cfg.Streams.WriteTimeout) {
		st.outlet.End(st.framing.end())
	}
}

// Failed cuts: the client comes back and is told what is wrong.
func (st *sseStream) Failed(key string, err error) {
	st.s.log.Debug("sse: log cannot be read", slog.String("taskId", key), slog.Any("error", err))
	if st.beginEnd(farewellTime) {
		st.outlet.End(nil)
	}
}

// Ended is fanout.Sink's.
func (st *sseStream) Ended(reason fanout.EndReason) { st.letGo(reason == fanout.EndAsked) }

func (st *sseStream) endFor(reason closingReason, retryAfter time.Duration) {
	if st.beginEnd(farewellTime) {
		st.outlet.End(st.framing.appendClosing(nil, st.taskID, reason, retryAfter))
	}
}

func (st *sseStream) heartbeat() time.Duration { return st.s.cfg.SSE.Heartbeat }

// left is part of subscriber.
func (st *sseStream) left() { st.s.giveTask(st.taskID) }

// standing is part of subscriber.
func (st *sseStream) standing(ctx context.Context, policy bool) {
	if st.s.standingOf(ctx, st.auth, st.taskID, policy) != engine.StandingGood {
		st.endFor(closingAuthRevoked, st.s.retryAfter())
	}
}

func (st *sseStream) check(now instant, wall time.Time) instant {
	return st.checkLife(now, wall, func() { st.endFor(closingAuthExpired, st.s.retryAfter()) })
}
