package engine

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
)

const (
	// reapBatch tasks are asked for at a time, in at most reapBatches a round.
	reapBatch   = 64
	reapBatches = 16

	// reaperSuffix tells the reaper from the runs of its process: one that opens
	// the task in this moment must meet a conflict, not its own lease.
	reaperSuffix = "-reaper"
)

// reap handles tasks whose workers died, on any node, until this node is drained: a
// process that shuts down would only keep an orphan from others. Each node
// does it; the store hands every orphan to one of them, and if two come
// together all the same, one acquires.
func (m *Emitter) reap() {
	defer m.keep.leave()
	failing := false
	for {
		// Two looks of the store's are needed to make an orphan, so two rounds
		// fit into the third of a TTL that is promised.
		if !sleep(m.drained, m.holds.ttl/12+rand.N(m.holds.ttl/12)) || m.life.Err() != nil {
			return
		}
		err := m.reapRound()
		if m.life.Err() != nil {
			return
		}
		if err != nil && !failing {
			m.logger.Warn("lost workers could not be looked for; trying again", "error", err)
		}
		failing = err != nil
	}
}

func (m *Emitter) reapRound() error {
	for range reapBatches {
		orphans, err := m.holds.leases.Orphans(m.life, reapBatch)
		for _, o := range orphans {
			switch e := m.reapTask(m.life, o); {
			case CodeOf(e) == CodeStoreUnavailable, m.life.Err() != nil:
				return e
			case e != nil: // this one's trouble, not the others'
				m.logger.Error("a task whose worker was lost could not be seen to", "taskId", o.TaskID, "error", e)
			}
		}
		if err != nil || len(orphans) < reapBatch {
			return err
		}
	}
	return nil
}

// reapTask sees to one orphan. Whatever happened to the task meanwhile is no
// error: its holder came back, another node was faster, it is over.
func (m *Emitter) reapTask(ctx context.Context, o Orphan) error {
	if m.holds.has(o.TaskID) {
		return nil // this process woke up; its renewer is about to renew
	}
	task, err := m.store.Get(ctx, o.TaskID, Fresh)
	switch {
	case err != nil:
	case !task.Restartable || task.CancelRequested:
		err = m.seize(ctx, o.TaskID, m.bury)
	case len(task.Suspensions) > 0:
		err = m.seize(ctx, o.TaskID, m.park)
	case o.Takeovers >= m.holds.restarts:
		err = m.seize(ctx, o.TaskID, m.bury)
	default:
		if why := m.restart(ctx, task, o); why != nil {
			err = m.strand(ctx, task, o.Waited, why, m.abandon)
		}
	}
	return unlessSettled(err)
}

// unlessSettled is nil where somebody else has seen to the task.
func unlessSettled(err error) error {
	switch CodeOf(err) {
	case CodeTaskConflict, CodeTaskAlreadyTerminal, CodeTaskNotFound:
		return nil
	}
	return err
}

// seize acquires the lease of a task that nobody works on, so that nobody can
// write to it any more, and does something with it. If that fails the lease runs
// out and the task is an orphan again.
func (m *Emitter) seize(ctx context.Context, id string, do func(ctx context.Context, task Task, fence uint64) error) error {
	fence, err := m.holds.leases.Acquire(ctx, id, m.holds.holder+reaperSuffix, m.holds.ttl)
	if err != nil {
		return err
	}
	task, err := m.store.Get(ctx, id, Fresh)
	if err != nil {
		return err
	}
	return do(ctx, task, fence)
}

// restart has the executor run a task again, or says why it cannot. Its run
// acquires the lease; until then the task stays an orphan.
func (m *Emitter) restart(ctx context.Context, task Task, o Orphan) (why error) {
	switch {
	case m.drained.Err() != nil:
		return nil //nolint:nilerr // no word of one that leaves counts
	case m.restarter == nil:
		return errNoRestarter
	}
	err := recovered("restarting a task", func() error { return m.restarter.Restart(ctx, task) })
	if errors.Is(err, errPanicked) {
		m.logger.ErrorContext(ctx, "a task whose worker was lost could not be run again", "taskId", task.ID, "error", err)
	}
	if err != nil {
		return err
	}
	if o.Released {
		m.logger.InfoContext(ctx, "a task that another process gave away is continued here", "taskId", task.ID, "taskType", task.Type)
		return nil
	}
	m.logger.WarnContext(ctx, "a task's worker was lost; it is run again",
		"taskId", task.ID, "taskType", task.Type, "restart", o.Takeovers+1)
	return nil
}

// park gives the lease of a task that waits for an answer back: the answer, or
// the expiry, brings the task to life again. If it came in this moment, it may be
// that the lost worker has it already: then the lease is left to run out, and
// the task is run again.
func (m *Emitter) park(ctx context.Context, task Task, _ uint64) error {
	if len(task.Suspensions) == 0 {
		return nil
	}
	m.logger.InfoContext(ctx, "a task whose worker was lost waits for an answer", "taskId", task.ID, "taskType", task.Type)
	if err := m.holds.leases.Release(ctx, task.ID, m.holds.holder+reaperSuffix, false); err != nil {
		return err
	}
	return m.cancelMissed(ctx, task.ID)
}

// bury ends a task whose worker is lost.
func (m *Emitter) bury(ctx context.Context, task Task, fence uint64) error {
	return m.conclude(ctx, task, fence, "the task's worker was lost")
}

// conclude appends the terminal event of a task that has no worker: what somebody asked
// for if its cancellation was requested.
func (m *Emitter) conclude(ctx context.Context, task Task, fence uint64, message string) error {
	var last Payload = Failed{Code: CodeWorkerLost, Message: message, Retryable: true}
	if task.CancelRequested {
		last = Cancelled{Reason: cmp.Or(task.CancelReason, DefaultCancelReason)}
	}
	d, err := m.draft(last)
	if err != nil {
		return err
	}
	if _, err := m.store.Append(ctx, Append{
		TaskID: task.ID, Token: "worker-lost-" + strconv.FormatUint(fence, 10), Fence: fence, Events: []Draft{d},
	}); err != nil {
		return err
	}
	m.logger.WarnContext(ctx, "a task has no worker any more", "taskId", task.ID, "taskType", task.Type, "end", d.Type)
	if d.Type == TypeFailed {
		m.metrics.Add(MetricTaskFailures, 1, "")
	}
	return nil
}

// cancelParked ends a task that waits for an answer and that nobody works on: no
// run would hear of the request. One that somebody works on is left alone.
func (m *Emitter) cancelParked(ctx context.Context, task Task) error {
	if m.holds == nil || !task.Restartable || len(task.Suspensions) == 0 || m.holds.has(task.ID) {
		return nil
	}
	return unlessSettled(m.seize(ctx, task.ID, m.bury))
}

// cancelMissed is cancelParked for a task whose lease was released just now:
// whoever asked while it was held took the task for one that somebody works on.
func (m *Emitter) cancelMissed(ctx context.Context, id string) error {
	task, err := m.store.Get(ctx, id, Fresh)
	if err != nil || !task.CancelRequested {
		return unlessSettled(err)
	}
	return m.cancelParked(ctx, task)
}
