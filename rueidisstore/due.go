package rueidisstore

import (
	"context"
	"sync"

	"github.com/redis/rueidis"
)

// dueQueue holds changes of the due index that nobody waits for: tasks that
// have ended leave it, tasks whose place could not be taken at once get one. It
// is bounded; what does not fit is lost, and costs maintenance a look later.
type dueQueue struct {
	mu      sync.Mutex
	pending map[string]bool // task id → listed
	// wake has room for one: somebody put something in.
	wake chan struct{}
}

const maxPending = 8192

func newDueQueue() *dueQueue {
	return &dueQueue{pending: map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (q *dueQueue) put(taskID string, listed bool) {
	q.keep(taskID, listed)
	q.nudge()
}

func (q *dueQueue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// keep is put for later: whoever takes next takes it too.
func (q *dueQueue) keep(taskID string, listed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) < maxPending {
		q.pending[taskID] = listed
	}
}

func (q *dueQueue) take() map[string]bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 {
		return nil
	}
	taken := q.pending
	q.pending = map[string]bool{}
	return taken
}

func (s *Store) listLater(taskID string)   { s.dues.put(taskID, true) }
func (s *Store) unlistLater(taskID string) { s.dues.put(taskID, false) }

// applyDues makes the queued changes until the store is closed, and then the
// last of them.
func (s *Store) applyDues() {
	for {
		select {
		case <-s.life.Done():
			s.applyOnce()
			return
		case <-s.dues.wake:
			s.applyOnce()
		}
	}
}

// applyOnce leaves a listing that fails to maintenance. A removal that fails is
// dropped: maintenance will meet the task.
func (s *Store) applyOnce() {
	ctx, done := s.bound(context.Background()) // Close waits for it
	defer done()
	var gone [dueShards][]string
	for taskID, listed := range s.dues.take() {
		if listed {
			if err := s.list(ctx, taskID); err != nil {
				s.complain("list a task", err)
				s.dues.keep(taskID, true)
			}
			continue
		}
		shard := shardOf(taskID)
		gone[shard] = append(gone[shard], taskID)
	}
	var removals rueidis.Commands
	for shard, ids := range gone {
		if len(ids) > 0 {
			removals = append(removals,
				s.ended(shard, ids),
				s.client.B().Zrem().Key(s.keys.leases(shard)).Member(ids...).Build(),
				s.client.B().Zrem().Key(s.keys.actions(shard)).Member(ids...).Build())
		}
	}
	if len(removals) == 0 {
		return
	}
	for _, answer := range s.client.DoMulti(ctx, removals...) {
		if err := answer.Error(); err != nil {
			s.complain("take ended tasks out of the due index", err)
			return
		}
	}
}

// ended takes tasks out of the due index; or, if they may have files, has
// maintenance look at them.
func (s *Store) ended(shard int, ids []string) rueidis.Completed {
	if s.cfg.Attachments == nil {
		return s.client.B().Zrem().Key(s.keys.due(shard)).Member(ids...).Build()
	}
	look := s.client.B().Zadd().Key(s.keys.due(shard)).Xx().ScoreMember()
	for _, id := range ids {
		look = look.ScoreMember(0, id)
	}
	return look.Build()
}
