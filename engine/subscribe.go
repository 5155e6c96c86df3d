package engine

import (
	"context"
	"slices"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// SubscribeRequest asks to follow a task.
type SubscribeRequest struct {
	TaskID string
	// After is the cursor; zero begins with the first event.
	After EventID
	// Transport is "sse" or "websocket", for the metrics. It may be empty.
	Transport string
}

// Start tells a transport where a subscriber begins.
type Start struct {
	Task Task
	// Position is the cursor to follow from: the request's, or after a gap the
	// place where delivery goes on.
	Position EventID
	// Gap is to be announced before the first event.
	Gap *Gap
	// Over says that the task has ended and nothing lies after the cursor.
	Over bool
	// RollUp says that Config.RollUp lists the task's type: the transport
	// follows it with FollowMerged.
	RollUp bool
}

// Follow has o follow the task from Position on, behind opening.
func (s *Start) Follow(o *fanout.Outlet, opening []byte) {
	if s.RollUp {
		o.FollowMerged(s.Task.ID, fanoutID(s.Position), opening)
		return
	}
	o.Follow(s.Task.ID, fanoutID(s.Position), opening)
}

// Subscribe checks that the caller may follow the task and finds out where to
// begin. Delivery itself is fanout's: the transport opens an Outlet of
// Engine.Hub and has it follow the task with Start.Follow.
func (e *Engine) Subscribe(ctx context.Context, auth AuthContext, req SubscribeRequest) (Start, error) {
	task, err := e.authorize(ctx, auth, AccessSubscribe, req.TaskID)
	if err != nil {
		return Start{}, err
	}
	v, err := e.lookNow(ctx, task, lookKey{taskID: task.ID, after: req.After, limit: 1})
	if err != nil {
		return Start{}, err
	}
	if !req.After.IsZero() {
		e.cfg.Metrics.Add(MetricReplays, 1, req.Transport)
	}
	if v.gap != nil {
		e.cfg.Metrics.Add(MetricGaps, 1, req.Transport)
	}
	return Start{Task: v.task, Position: v.position, Gap: v.gap, Over: v.over,
		RollUp: slices.Contains(e.cfg.RollUp, v.task.Type)}, nil
}

// Hub is the process's delivery hub.
func (e *Engine) Hub() *fanout.Hub { return e.hub }
