package engine

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// strandedNotice is for how long a task must have waited for a node that can
	// run it before those who cannot speak of it: in a fleet whose nodes differ
	// it is nothing special that the first one asked cannot.
	strandedNotice = 30 * time.Second
	// noticePause is between two words in the log about the same task.
	noticePause = 5 * time.Minute
	// maxNotices bounds the tasks that are remembered for that.
	maxNotices = 1024
)

var errNoRestarter = errors.New("no executor here runs tasks again")

// strand sees to a restartable task that nobody works on and this node cannot
// run: it is left to others, spoken of, and after LeaseConfig.RestartWithin given
// up. giveUp is called with the task's lease.
func (m *Emitter) strand(ctx context.Context, task Task, waited time.Duration, why error, giveUp func(context.Context, Task, uint64) error) error {
	if limit := m.holds.restartWithin; limit > 0 && waited >= limit {
		return unlessSettled(m.seize(ctx, task.ID, giveUp))
	}
	if waited >= strandedNotice && m.notices.due(task.ID, time.Now()) {
		m.logger.WarnContext(ctx, "a task whose worker was lost waits for a node that can run it",
			"taskId", task.ID, "taskType", task.Type, "waited", waited.Round(time.Second), "notHere", why)
	} else {
		m.logger.DebugContext(ctx, "a task whose worker was lost is left to other nodes", "taskId", task.ID, "error", why)
	}
	return nil
}

// abandon ends a task that no node could run again; one that has come to wait
// for an answer meanwhile is parked.
func (m *Emitter) abandon(ctx context.Context, task Task, fence uint64) error {
	if len(task.Suspensions) > 0 && !task.CancelRequested {
		return m.park(ctx, task, fence)
	}
	return m.conclude(ctx, task, fence, "the task's worker was lost, and no other could run it again")
}

// abandonAnswered is abandon for a task whose answer nobody could take. If
// somebody has taken it meanwhile, the lease goes back.
func (m *Emitter) abandonAnswered(suspendID string) func(context.Context, Task, uint64) error {
	return func(ctx context.Context, task Task, fence uint64) error {
		s, err := m.actions.Suspension(ctx, task.ID, suspendID)
		if err == nil && s.Answer != nil && !s.HandedOver {
			return m.conclude(ctx, task, fence, "the task was answered, and no worker could go on with it")
		}
		if CodeOf(err) == CodeTaskNotFound {
			err = nil // pruned: it had been taken
		}
		orphan := len(task.Suspensions) == 0
		return errors.Join(err, m.holds.leases.Release(ctx, task.ID, m.holds.holder+reaperSuffix, orphan))
	}
}

// notices remembers what was logged not long ago.
type notices struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due reports whether something may be said about a task again. While very many
// tasks are spoken of, not every one gets its word.
func (n *notices) due(taskID string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, ok := n.last[taskID]; ok && now.Sub(at) < noticePause {
		return false
	}
	if len(n.last) >= maxNotices {
		for id, at := range n.last {
			if now.Sub(at) >= noticePause {
				delete(n.last, id)
			}
		}
		if len(n.last) >= maxNotices {
			return false
		}
	}
	if n.last == nil {
		n.last = map[string]time.Time{}
	}
	n.last[taskID] = now
	return true
}
