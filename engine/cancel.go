package engine

import (
	"cmp"
	"context"
	"fmt"
	"time"
	"unicode/utf8"
)

// CancelResult tells what a cancel request met.
type CancelResult struct {
	TaskID string
	// AlreadyTerminal says that the task was over.
	AlreadyTerminal bool
}

// maxCancelReason is in characters.
const maxCancelReason = 1000

// cancelTimeout bounds telling the executor, which outlives the request.
const cancelTimeout = 10 * time.Second

// Cancel asks for a task's cancellation, on whatever node it runs. Repeating
// it is harmless; the first reason stays. An empty reason stands for
// DefaultCancelReason. reason is at most 1000 characters.
//
// If the request is noted but the executor could not be told, the error is
// TASK_SUBMISSION_ERROR; runs opened through the Emitter are cancelled even so.
func (e *Engine) Cancel(ctx context.Context, auth AuthContext, taskID, reason string) (CancelResult, error) {
	if err := checkCancelReason(reason); err != nil {
		return CancelResult{}, err
	}
	task, err := e.authorize(ctx, auth, AccessCancel, taskID)
	if err != nil {
		return CancelResult{}, err
	}
	task, err = e.cfg.Store.RequestCancel(ctx, task.ID, cmp.Or(reason, DefaultCancelReason))
	if err != nil {
		return CancelResult{}, storeError("request the cancellation", err)
	}
	res := CancelResult{TaskID: task.ID, AlreadyTerminal: task.Status.Terminal()}
	if res.AlreadyTerminal {
		return res, nil
	}
	e.cfg.Metrics.Add(MetricCancels, 1, "")
	// What is noted is not taken back, so the executor hears of it even if the
	// caller has gone.
	tell, done := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer done()
	if err := e.emitter.cancelParked(tell, task); err != nil {
		return CancelResult{}, storeError("cancel a task that waits", err)
	}
	if e.cfg.Executor == nil {
		return res, nil
	}
	if err := e.cfg.Executor.Cancel(tell, task); err != nil {
		return CancelResult{}, submissionError("the task's executor could not be told", err)
	}
	return res, nil
}

func checkCancelReason(reason string) error {
	switch {
	case !utf8.ValidString(reason):
		return invalid([]FieldError{{"reason", "is not valid UTF-8"}})
	case utf8.RuneCountInString(reason) > maxCancelReason:
		return invalid([]FieldError{{"reason", fmt.Sprintf("is longer than %d characters", maxCancelReason)}})
	}
	return nil
}
