package engine

import "context"

// Snapshot is a task as it stands.
type Snapshot struct {
	Task Task
	// LastEventID is the newest event's id, zero if there is none yet. A
	// subscriber that begins there misses nothing of what the snapshot lacks.
	LastEventID EventID
}

// Snapshot reads a task. Task and LastEventID fit together: no event up to
// LastEventID is missing from what Task says.
func (e *Engine) Snapshot(ctx context.Context, auth AuthContext, taskID string) (Snapshot, error) {
	task, err := e.authorize(ctx, auth, AccessRead, taskID)
	if err != nil {
		return Snapshot{}, err
	}
	return e.snapshots.do(ctx, task.ID, func(ctx context.Context) (Snapshot, error) { return e.snapshot(ctx, task.ID) })
}

func (e *Engine) snapshot(ctx context.Context, taskID string) (Snapshot, error) {
	// The log first, then the record: an event that comes in between is in the
	// record and after LastEventID, so a subscriber sees it twice, so to speak.
	// The other way round it would be in neither.
	page, err := e.cfg.Store.Read(ctx, taskID, EventID{}, 1)
	if err != nil {
		return Snapshot{}, storeError("read the log", err)
	}
	task, err := e.fresh(ctx, taskID)
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{Task: task, LastEventID: page.Last}
	if task.Terminal != nil {
		// Nothing follows it, whatever came in between; and it is still known
		// when the log has expired.
		s.LastEventID = task.Terminal.ID
	}
	return s, nil
}
