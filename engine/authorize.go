package engine

import (
	"context"
	"errors"
)

// errTaskNotFound is the one answer for a task that does not exist and for one
// that is somebody else's.
var errTaskNotFound = NewError(CodeTaskNotFound, "no such task")

var errNobody = NewError(CodeAuthentication, "the caller is not authenticated")

// authorize returns the task if auth may have access to it.
//
// The first look may be cached. A no is never answered from the cache: whether
// the task is missing or denied, it is read once more, uncached, and only then
// refused. Both cases walk the same path to the same error value, so that a
// foreign task cannot be told from a missing one.
func (e *Engine) authorize(ctx context.Context, auth AuthContext, access Access, taskID string) (Task, error) {
	if auth.Subject == "" {
		return Task{}, errNobody
	}
	if !validTaskID(taskID) {
		return Task{}, errTaskNotFound
	}
	for _, freshness := range []Freshness{Cached, Fresh} {
		task, err := e.cfg.Store.Get(ctx, taskID, freshness)
		if err == nil {
			if err = e.cfg.Ownership.Allow(ctx, auth, access, task); err == nil {
				return task, nil
			}
			if passing(err) {
				return Task{}, err
			}
			e.cfg.Logger.DebugContext(ctx, "access denied",
				"taskId", task.ID, "userId", auth.Subject, "access", string(access), "error", err)
			continue
		}
		if CodeOf(err) != CodeTaskNotFound {
			return Task{}, storeError("read the task", err)
		}
	}
	return Task{}, errTaskNotFound
}

// authorizeCreate asks the policy about a task that has no ID yet.
func (e *Engine) authorizeCreate(ctx context.Context, auth AuthContext, task Task) error {
	err := e.cfg.Ownership.Allow(ctx, auth, AccessCreate, task)
	if err == nil || passing(err) {
		return err
	}
	return NewError(CodeTaskOwnership, "not allowed to create this task").WithCause(err)
}

// passing reports whether a policy's error is about the policy's own means
// rather than about the caller's rights.
func passing(err error) bool {
	var known *Error
	return errors.As(err, &known) && (known.Code == CodeStoreUnavailable || known.Code == CodeRateLimited)
}

// storeError makes an *Error of whatever a store returned. A context that ended
// counts as a passing fault.
func storeError(operation string, err error) error {
	var known *Error
	switch {
	case errors.As(err, &known):
		if known.Code == CodeTaskNotFound {
			return errTaskNotFound
		}
		return known
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return NewError(CodeStoreUnavailable, "the store did not answer in time").WithCause(err)
	}
	return Errorf(CodeInternal, "could not %s", operation).WithCause(err)
}
