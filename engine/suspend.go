package engine

import (
	"context"
	"math"
	"strconv"
	"time"
)

const (
	// signalPoll is how often a run looks by itself, on a store without Signals.
	signalPoll = time.Second
	// maxExpiryPause is how long a run whose clock is ahead of the store's waits
	// at most between two tries to let its suspension expire.
	maxExpiryPause = time.Second
	forever        = time.Duration(math.MaxInt64)
)

// ErrSuspensionExpired is returned by Run.Suspend when nobody answered in time.
// The task is over then: TASK_FAILED with code SUSPENSION_EXPIRED.
var ErrSuspensionExpired = NewError(CodeSuspensionExpired, "nobody answered in time")

// CodeSuspensionExpired is the code of the TASK_FAILED that ends a task whose
// suspension expired without a default action.
const CodeSuspensionExpired Code = "SUSPENSION_EXPIRED"

var errNoAnswer = NewError(CodeTaskAlreadyTerminal, "the suspension was closed without an answer")

// Suspend stores TASK_SUSPENDED and waits for the answer, or for the default
// action that s names (its Actor is empty). ErrSuspensionExpired says that
// there was neither; other errors are those of Emit, and the cause of ctx or
// of the run's context if one of them ends first. The suspension stays open
// then. While the store is unavailable the wait goes on.
//
// An empty SuspendID stands for one that is made of the task's id and the
// number of this call among the run's, so that a handler that is run again
// (Restarted) asks under the same id; where several goroutines suspend, name
// them. A suspension that the task has already, from an earlier run or an
// earlier call, is not stored again: Suspend waits for its answer, or returns
// at once with the one that it had.
func (r *Run) Suspend(ctx context.Context, s Suspended) (Action, error) {
	ctx, done := r.within(ctx)
	defer done()
	if ctx.Err() != nil {
		return Action{}, context.Cause(ctx)
	}
	id, again := r.beginWait(s.SuspendID)
	defer r.endWait(id)
	s.SuspendID = id

	known := false
	if again && r.em.actions != nil {
		var err error
		if known, err = r.asked(ctx, id); err != nil {
			return Action{}, err
		}
	}
	if !known {
		if err := r.Emit(ctx, s); err != nil {
			return Action{}, err
		}
	}
	if r.em.actions == nil {
		return Action{}, outwait(ctx, s.ExpiresAt)
	}
	return r.awaitAnswer(ctx, id)
}

// within is ctx, ended by the run's context too.
func (r *Run) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	end := func() { cancel(context.Cause(r.ctx)) }
	if r.ctx.Err() != nil {
		end() // at once; AfterFunc would take a goroutine's time
	}
	stop := context.AfterFunc(r.ctx, end)
	return ctx, func() { stop(); cancel(nil) }
}

// beginWait names a suspension and notes that somebody waits for it. again says
// that the task may have it already.
func (r *Run) beginWait(id string) (_ string, again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.suspends++
	if id == "" {
		id = r.task.ID + "-" + strconv.Itoa(r.suspends)
	}
	if r.waits == nil {
		r.waits = map[string]int{}
	}
	_, used := r.waits[id]
	r.waits[id]++
	return id, used || r.Restarted()
}

func (r *Run) endWait(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits[id]-- // what was used once stays known
}

// waitsFor reports whether a Suspend of r will take the answer by itself.
func (r *Run) waitsFor(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waits[id] > 0
}

// asked reports whether the task has a suspension already.
func (r *Run) asked(ctx context.Context, id string) (known bool, err error) {
	err = r.em.retry(ctx, "look a suspension up", r.task.ID, func() error {
		_, err := r.em.actions.Suspension(ctx, r.task.ID, id)
		known = err == nil
		if CodeOf(err) == CodeTaskNotFound {
			return nil
		}
		return err
	})
	return known, err
}

// outwait is all that a store without suspensions allows.
func outwait(ctx context.Context, expiresAt *time.Time) error {
	var expired <-chan time.Time
	if expiresAt != nil {
		t := time.NewTimer(time.Until(*expiresAt))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-expired:
		return ErrSuspensionExpired
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// awaitAnswer looks at a suspension whenever the task's signal says that one of
// them was resolved, until it is this one.
func (r *Run) awaitAnswer(ctx context.Context, id string) (Action, error) {
	var pause backoff
	for {
		changed := r.resolution()
		found, err := r.em.actions.Suspension(ctx, r.task.ID, id)
		if err != nil {
			err = storeError("look at a suspension", err)
		}
		var again time.Duration
		switch {
		case CodeOf(err) == CodeStoreUnavailable:
			again = pause.next(maxRetryPause)
		case err != nil:
			return Action{}, err
		case !found.Open:
			return r.takeAnswer(ctx, found)
		default:
			again = r.untilExpiry(ctx, found, &pause)
		}
		if r.em.signals == nil {
			again = min(again, signalPoll)
		}
		timer := time.NewTimer(again)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return Action{}, context.Cause(ctx)
		}
	}
}

// untilExpiry says when to look again, having let the suspension expire if its
// time seems to be over. The store decides: by its clock, and once.
func (r *Run) untilExpiry(ctx context.Context, s Suspension, pause *backoff) time.Duration {
	if s.ExpiresAt == nil {
		*pause = backoff{}
		return forever
	}
	if left := time.Until(*s.ExpiresAt); left > 0 {
		*pause = backoff{}
		return left
	}
	if v, err := r.em.expire(ctx, r.task.ID, s); err == nil && v == VerdictAccepted {
		return 0
	}
	return pause.next(maxExpiryPause)
}

// takeAnswer returns what resolved a suspension and confirms that it got here.
func (r *Run) takeAnswer(ctx context.Context, s Suspension) (Action, error) {
	if s.Answer == nil {
		if s.Expired {
			return Action{}, ErrSuspensionExpired
		}
		return Action{}, errNoAnswer
	}
	if s.HandedOver {
		return *s.Answer, nil
	}
	switch err := r.confirm(ctx, s.SuspendID); {
	case CodeOf(err) == CodeTaskConflict:
		return Action{}, ErrLeaseLost
	case err != nil: // it is offered again, and confirmed then
		r.em.logger.DebugContext(ctx, "an answer that a run has was not confirmed",
			"taskId", r.task.ID, "suspendId", s.SuspendID, "error", err)
	}
	return *s.Answer, nil
}

// confirm notes that the run has the answer to a suspension, unless the task is
// another's by now.
func (r *Run) confirm(ctx context.Context, id string) error {
	err := r.em.actions.HandedOver(ctx, r.task.ID, id, r.hold.appendFence())
	if CodeOf(err) == CodeTaskConflict {
		r.em.holds.lost(r.hold)
		r.supersede()
	}
	return err
}

// resolution returns a channel that is closed when a suspension of the task is
// resolved, at the latest when the first one is that the caller has not seen.
func (r *Run) resolution() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resolving == nil {
		r.resolving = make(chan struct{})
	}
	return r.resolving
}

// signalled takes what the store says about the task.
func (r *Run) signalled(s Signal) {
	if s.CancelRequested {
		r.cancel(&CancelRequested{Reason: s.CancelReason})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Resolved != r.resolved {
		r.resolved = s.Resolved
		if r.resolving != nil {
			close(r.resolving)
			r.resolving = nil
		}
	}
}
