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
	panic("unwritten")
}
