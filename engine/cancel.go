package engine

import "context"

// CancelResult tells what a cancel request met.
type CancelResult struct {
	TaskID string
	// AlreadyTerminal says that the task was over.
	AlreadyTerminal bool
}

// Cancel asks for a task's cancellation, on whatever node it runs. Repeating
// it is harmless; the first reason stays. An empty reason stands for
// DefaultCancelReason. reason is at most 1000 characters.
func (e *Engine) Cancel(ctx context.Context, auth AuthContext, taskID, reason string) (CancelResult, error) {
	panic("unwritten")
}
