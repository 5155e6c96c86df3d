package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// errTaskNotFound is the one answer for a task that does not exist and for one
// that is somebody else's.
var errTaskNotFound = NewError(CodeTaskNotFound, "no such task")

var errNobody = NewError(CodeAuthentication, "the caller is not authenticated")

// refusalGrid returns the interval to which the time of a refusal is rounded up. A foreign
// task takes longer than a missing one, since its record has to be read and the policy
// asked, and a caller who measures often enough could tell. Refusals that differ by less
// than the grid leave at the same moment. Reading the largest record twice (input and
// metadata of a mebibyte each) took about 4 ms, so the grid grows with the size of a
// record that the limits allow: 4 ms, and 8 for each mebibyte.
func refusalGrid(l Limits) time.Duration {
	const small, each = 4 * time.Millisecond, 8 * time.Millisecond
	return small + each*time.Duration(l.InputBytes)>>20
}

// authorize returns the task if auth may have access to it.
//
// The first look may be cached. A no is never answered from the cache: whether
// the task is missing or denied, it is read once more, uncached, and only then
// refused. Both cases walk the same path to the same error value, and take
// equally long, so that a foreign task cannot be told from a missing one.
func (e *Engine) authorize(ctx context.Context, auth AuthContext, access Access, taskID string) (Task, error) {
	if err := e.admitCaller(ctx, &auth); err != nil {
		return Task{}, err
	}
	if !validTaskID(taskID) {
		return Task{}, errTaskNotFound
	}
	began := time.Now()
	var reason error
	for _, freshness := range []Freshness{Cached, Fresh} {
		task, err := e.cfg.Store.Get(ctx, taskID, freshness)
		if err == nil {
			if err = e.allow(ctx, auth, access, task); err == nil {
				return task, nil
			}
			if passing(err) {
				return Task{}, err
			}
			// Not which task: that is somebody else's.
			e.cfg.Logger.DebugContext(ctx, "access denied",
				"userId", auth.Subject, "access", string(access), "error", err)
			reason = err
			continue
		}
		reason = err
		if CodeOf(err) != CodeTaskNotFound {
			return Task{}, storeError("read the task", err)
		}
	}
	e.Audit(ctx, AuditEvent{
		Action: AuditAccessDenied, Subject: auth.Subject, Access: access, TaskID: taskID, Reason: reason.Error(),
	})
	onGrid(ctx, began, refusalGrid(e.cfg.Limits))
	return Task{}, errTaskNotFound
}

// admitCaller refuses nobody, and credentials that were revoked.
func (e *Engine) admitCaller(ctx context.Context, auth *AuthContext) error {
	if auth.Subject == "" {
		e.Audit(ctx, AuditEvent{Action: AuditAuthenticationDenied, Reason: errNobody.Message})
		return errNobody
	}
	if err := e.revoked.known(ctx); err != nil {
		return err
	}
	if e.Revoked(auth, "") == StandingRevoked {
		e.Audit(ctx, AuditEvent{Action: AuditAuthenticationDenied, Subject: auth.Subject, Reason: errRevoked.Message})
		return errRevoked
	}
	return nil
}

// allow asks the revocations about the task, then the policy.
func (e *Engine) allow(ctx context.Context, auth AuthContext, access Access, task Task) error {
	if e.Revoked(&auth, task.ID) != StandingGood {
		return errAccessRevoked
	}
	return e.cfg.Ownership.Allow(ctx, auth, access, task)
}

// onGrid waits until the time since began is a multiple of grid and a random
// quarter of one more, or ctx ends. The grid hides all but what it cannot (how
// soon a processor that was busy wakes, a record so large that it takes longer
// than the grid), and that drowns in the rest.
func onGrid(ctx context.Context, began time.Time, grid time.Duration) {
	wait := time.NewTimer(grid - time.Since(began)%grid + rand.N(grid/4))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}

// authorizeCreate asks the policy about a task that has no ID yet.
func (e *Engine) authorizeCreate(ctx context.Context, auth AuthContext, task Task) error {
	err := e.cfg.Ownership.Allow(ctx, auth, AccessCreate, task)
	if err == nil || passing(err) {
		return err
	}
	e.Audit(ctx, AuditEvent{Action: AuditAccessDenied, Subject: auth.Subject, Access: AccessCreate, Reason: err.Error()})
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
