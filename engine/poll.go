package engine

import (
	"context"
	"fmt"
	"time"
)

// The bounds of a PollRequest.
const (
	maxPollWait       = time.Minute
	maxPollEvents     = 500
	defaultPollEvents = 100
)

// PollRequest asks for the events of a task after a cursor.
type PollRequest struct {
	TaskID string
	// After is the cursor; zero reads from the beginning.
	After EventID
	// Wait is how long to wait for an event if there is none. 0 to 60 s.
	Wait time.Duration
	// Gather is how much longer a poll with a Wait may take for further events of a
	// busy task: when the events that it found follow the one at After, and each
	// other, within this time. It never takes longer than Wait. 0 to 1 s.
	Gather time.Duration
	// Max is 1 to 500; zero stands for 100.
	Max int
	// MaxBytes bounds the bytes of the page's events, as clients see them. The first
	// event is in the page whatever its size. Zero is no bound but Max.
	MaxBytes int
}

// PollResult is one page of a task's log.
type PollResult struct {
	TaskID string
	// Status is the task's status of now, never older than Events.
	Status Status
	Events []Event
	// Next is the cursor to go on with: the last event's id, or the request's
	// cursor if there is none. Only after a gap with no event behind it yet is
	// it the place where delivery goes on (zero: the beginning), since the
	// request's cursor would meet the same gap again.
	Next EventID
	// HasMore says that more is retained after Next.
	HasMore bool
	// Gap tells of events that the caller has not seen and that are gone.
	Gap *Gap
}

// Poll reads the log after a cursor. A wait ends with the first event, with a
// gap, with ctx, or when the engine begins to shut down; each of these but an
// event or a gap gives an empty page, not an error. Behind the terminal event
// it lasts as long as asked. See PollRequest.Gather for busy tasks.
//
// A store that fails while a poll waits is asked again until the wait is over;
// the error is returned if it was not to be had by then. Access is looked at
// once more after a wait, and a revocation ends it.
func (e *Engine) Poll(ctx context.Context, auth AuthContext, req PollRequest) (PollResult, error) {
	if err := req.check(); err != nil {
		return PollResult{}, err
	}
	if req.Max == 0 {
		req.Max = defaultPollEvents
	}
	task, err := e.authorize(ctx, auth, AccessRead, req.TaskID)
	if err != nil {
		return PollResult{}, err
	}
	v, err := e.firstLook(ctx, task, req)
	if err != nil {
		return PollResult{}, err
	}
	if req.Wait > 0 && (v.idle() || req.gathers(v, false)) {
		if v, err = e.await(ctx, auth, v, req); err != nil {
			return PollResult{}, err
		}
	}

	res := PollResult{
		TaskID: task.ID, Status: v.status(), Events: v.events,
		Next: req.After, HasMore: v.more, Gap: v.gap,
	}
	switch n := len(v.events); {
	case n > 0:
		res.Next = v.events[n-1].ID
	case v.gap != nil:
		res.Next = v.position
	}
	if v.gap != nil {
		own := *v.gap // and not one that is shared
		res.Gap = &own
		e.cfg.Metrics.Add(MetricGaps, 1, "poll")
	}
	return res, nil
}

// firstLook is what a poll finds when it comes. One that would wait takes what
// the hub has, if this process follows the task, and costs the store nothing.
func (e *Engine) firstLook(ctx context.Context, task Task, req PollRequest) (view, error) {
	if req.Wait > 0 {
		if v, ok := e.recent(task, req.After, req.Max, req.MaxBytes); ok {
			return v, nil
		}
	}
	v, err := e.lookNow(ctx, task, req.key())
	if err == nil && req.Wait > 0 && len(v.events) > 0 && !v.status().Terminal() {
		// It will ask for more of a task that moves, and so will others that stand
		// where it stood.
		e.hub.Expect(task.ID, fanoutID(v.position))
	}
	return v, err
}

// lookAgain is a look after the hub has said that there may be something.
func (e *Engine) lookAgain(ctx context.Context, task Task, req PollRequest) (view, error) {
	if v, ok := e.recent(task, req.After, req.Max, req.MaxBytes); ok {
		return v, nil
	}
	return e.lookNow(ctx, task, req.key())
}

func (r PollRequest) key() lookKey {
	return lookKey{taskID: r.TaskID, after: r.After, limit: r.Max, bytes: r.MaxBytes, status: true}
}

// idle reports whether a poll has nothing to say yet.
func (v view) idle() bool { return len(v.events) == 0 && v.gap == nil }

// await waits, and returns what there is then if the caller may still have it.
// A policy or a store that cannot tell leaves it at what it was told before.
func (e *Engine) await(ctx context.Context, auth AuthContext, v view, req PollRequest) (view, error) {
	wait, cancel := context.WithTimeout(ctx, req.Wait)
	defer cancel()
	defer context.AfterFunc(e.drained, cancel)()
	taskID := v.task.ID
	end := func() {
		if e.Revoked(&auth, taskID) != StandingGood {
			cancel()
		}
	}
	defer e.OnRevocation(end)()
	end() // one that came before we listened

	var err error
	if v.idle() {
		v, err = e.awaitEvent(ctx, wait, v, req)
	}
	if err == nil && req.gathers(v, true) {
		v = e.gather(wait, v, req)
	}
	if err == nil {
		switch e.StandingOf(ctx, &auth, AccessRead, taskID) {
		case StandingRevoked:
			return view{}, errRevoked
		case StandingTaskDenied:
			return view{}, errTaskNotFound
		}
	}
	return v, err
}

// awaitEvent looks again whenever the hub says so, until there is something or
// wait ends, and returns the last look. ctx is the request's.
func (e *Engine) awaitEvent(ctx, wait context.Context, v view, req PollRequest) (view, error) {
	var pause backoff
	for wait.Err() == nil {
		if v.over {
			<-wait.Done()
			return v, nil
		}
		// An error means that the log cannot be followed just now, nil that it
		// may have something. Neither may become a busy loop.
		followed := e.hub.Wait(wait, v.task.ID, fanoutID(v.position)) == nil
		if wait.Err() != nil {
			break
		}
		next, err := e.lookAgain(wait, v.task, req)
		switch {
		case err == nil && !next.idle():
			return next, nil
		case err == nil:
			v = next
			if followed {
				pause.nextWithin(wait, maxIdlePause)
				continue
			}
		case CodeOf(err) != CodeStoreUnavailable && wait.Err() == nil:
			return view{}, err
		}
		pause.nextWithin(wait, maxErrorPause)
	}
	if ended := ctx.Err() != nil || e.drained.Err() != nil; ended { // no error, see Poll
		return v, nil
	}
	// The wait is over. Its last look must be one of now: the status may have
	// changed without an event that the caller has not seen.
	return e.lookNow(ctx, v.task, req.key())
}

// How long await pauses at most between two looks that found nothing.
const (
	maxIdlePause  = 100 * time.Millisecond
	maxErrorPause = time.Second
)

func (r PollRequest) check() error {
	var wrong []FieldError
	if r.Wait < 0 || r.Wait > maxPollWait {
		wrong = append(wrong, FieldError{"waitTimeoutMs", fmt.Sprintf("must be from 0 to %d", maxPollWait.Milliseconds())})
	}
	if r.MaxBytes < 0 {
		wrong = append(wrong, FieldError{"maxBytes", "must not be negative"})
	}
	if r.Max < 0 || r.Max > maxPollEvents {
		wrong = append(wrong, FieldError{"maxEvents", fmt.Sprintf("must be from 1 to %d", maxPollEvents)})
	}
	if r.Gather < 0 || r.Gather > maxGather {
		wrong = append(wrong, FieldError{"gather", fmt.Sprintf("must be from 0 to %v", maxGather)})
	}
	return invalid(wrong)
}

// invalid makes one error of what is wrong with a request, or none.
func invalid(wrong []FieldError) error {
	if len(wrong) == 0 {
		return nil
	}
	err := Errorf(CodeRequestValidation, "%s %s", wrong[0].Field, wrong[0].Message)
	err.Fields = wrong
	return err
}
