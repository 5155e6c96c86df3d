package engine

import (
	"cmp"
	"context"
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

// reap ends the tasks whose workers died, on any node, until life ends. Each
// node does it; the store hands every orphan to one of them, and if two come
// together all the same, one acquires.
func (m *Emitter) reap() {
	defer m.keep.leave()
	failing := false
	for {
		// Two looks of the store's are needed to make an orphan, so two rounds
		// fit into the third of a TTL that is promised.
		if !sleep(m.life, m.holds.ttl/12+rand.N(m.holds.ttl/12)) {
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
		ids, err := m.holds.leases.Orphans(m.life, reapBatch)
		for _, id := range ids {
			switch e := m.reapTask(m.life, id); {
			case CodeOf(e) == CodeStoreUnavailable, m.life.Err() != nil:
				return e
			case e != nil: // this one's trouble, not the others'
				m.logger.Error("a task whose worker was lost could not be ended", "taskId", id, "error", e)
			}
		}
		if err != nil || len(ids) < reapBatch {
			return err
		}
	}
	return nil
}

// reapTask ends one orphan. Whatever happened to the task meanwhile is no error:
// its holder came back, another node was faster, it is over.
func (m *Emitter) reapTask(ctx context.Context, id string) error {
	if m.holds.has(id) {
		return nil // this process woke up; its renewer is about to renew
	}
	fence, err := m.holds.leases.Acquire(ctx, id, m.holds.holder+reaperSuffix, m.holds.ttl)
	if err == nil {
		err = m.bury(ctx, id, fence)
	}
	switch CodeOf(err) {
	case CodeTaskConflict, CodeTaskAlreadyTerminal, CodeTaskNotFound:
		return nil
	}
	return err
}

// bury appends the terminal event of a task whose worker is lost: what somebody
// asked for if its cancellation was requested. If it fails, the lease runs out
// and the task is an orphan again.
func (m *Emitter) bury(ctx context.Context, id string, fence uint64) error {
	task, err := m.store.Get(ctx, id, Fresh)
	if err != nil {
		return err
	}
	var last Payload = Failed{Code: CodeWorkerLost, Message: "the task's worker was lost", Retryable: true}
	if task.CancelRequested {
		last = Cancelled{Reason: cmp.Or(task.CancelReason, DefaultCancelReason)}
	}
	d, err := m.draft(last)
	if err != nil {
		return err
	}
	if _, err := m.store.Append(ctx, Append{
		TaskID: id, Token: "worker-lost-" + strconv.FormatUint(fence, 10), Fence: fence, Events: []Draft{d},
	}); err != nil {
		return err
	}
	m.logger.WarnContext(ctx, "a task's worker was lost", "taskId", id, "taskType", task.Type, "end", d.Type)
	if d.Type == TypeFailed {
		m.metrics.Add(MetricTaskFailures, 1, "")
	}
	return nil
}
