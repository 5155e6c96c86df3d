package engine

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// ActionRequest is an answer to a suspension.
type ActionRequest struct {
	TaskID string
	// ClientActionID makes the answer safe to repeat: 1 to 255 characters,
	// chosen by the client, one for each answer to the task.
	ClientActionID string
	SuspendID      string
	ActionType     string
	// Payload and Metadata are JSON objects; nil stands for {}.
	Payload  json.RawMessage
	Metadata json.RawMessage
}

// ActionStatus is what became of an answer.
type ActionStatus string

// What can become of an answer.
const (
	// ActionStatusAccepted: the answer resolved the suspension.
	ActionStatusAccepted ActionStatus = "ACCEPTED"
	// ActionStatusDeduplicated: the very same answer was accepted before.
	ActionStatusDeduplicated ActionStatus = "DEDUPLICATED"
	// ActionStatusResolved: another answer was faster, or the task is over.
	ActionStatusResolved ActionStatus = "REJECTED_ALREADY_RESOLVED"
	// ActionStatusExpired: the answer came too late.
	ActionStatusExpired ActionStatus = "REJECTED_EXPIRED"
)

// ActionResult tells what became of an ActionRequest.
type ActionResult struct {
	TaskID         string
	SuspendID      string
	ClientActionID string
	Status         ActionStatus
}

// ActionValidator decides whether the payload of an answer fits what the
// suspension asks for. It may be called concurrently.
type ActionValidator interface {
	// Validate is asked before an answer of an allowed type resolves an open
	// suspension. payload is a JSON object, compact and within Limits. An
	// *Error with REQUEST_VALIDATION_ERROR refuses the answer and leaves the
	// suspension open; what its Fields name begins with "payload". Any other
	// *Error is passed on, any other error is an INTERNAL_ERROR; the suspension
	// is left alone.
	Validate(ctx context.Context, task Task, s Suspension, actionType string, payload json.RawMessage) error
}

// actTimeout bounds what outlives the request: resolving the suspension.
const actTimeout = 15 * time.Second

var errUnknownSuspension = NewError(CodeTaskNotFound, "no such suspension")

// Act answers a suspension. Of many answers at once one is accepted; the task
// goes on with it, at once or, if it cannot be handed over now, later. Whoever
// is not accepted is told so in ActionResult.Status, without an error.
//
// Errors: REQUEST_VALIDATION_ERROR with fields, also from the ActionValidator;
// TASK_NOT_FOUND for an unknown task and, with another message, for an unknown
// suspension; IDEMPOTENCY_CONFLICT if the suspension does not allow ActionType,
// or ClientActionID was used for another answer; SERVER_DRAINING,
// STORE_UNAVAILABLE. After STORE_UNAVAILABLE the answer may have been accepted;
// repeating it is safe.
func (e *Engine) Act(ctx context.Context, auth AuthContext, req ActionRequest) (ActionResult, error) {
	req, err := e.cfg.Limits.checkAction(req)
	if err != nil {
		return ActionResult{}, err
	}
	task, err := e.authorize(ctx, auth, AccessAct, req.TaskID)
	if err != nil {
		return ActionResult{}, err
	}
	if e.emitter.actions == nil {
		return ActionResult{}, errUnknownSuspension
	}
	s, err := e.emitter.actions.Suspension(ctx, task.ID, req.SuspendID)
	// What a task that is over knew of its suspensions may be gone before its
	// record is: the store tells that from a suspension that never was.
	if err != nil && (CodeOf(err) != CodeTaskNotFound || !task.Status.Terminal()) {
		return ActionResult{}, suspensionError(err)
	}
	unfit, err := e.validateAction(ctx, task, s, req)
	if err != nil {
		return ActionResult{}, err
	}
	if !e.acts.enter() {
		return ActionResult{}, NewError(CodeServerDraining, "the server is shutting down")
	}
	defer e.acts.leave()
	return e.resolve(ctx, auth, task, s, req, unfit)
}

// resolve has the store decide. From here on the client may go.
func (e *Engine) resolve(ctx context.Context, auth AuthContext, task Task, s Suspension, req ActionRequest, unfit error) (ActionResult, error) {
	r, err := e.resolution(auth, req)
	if err != nil {
		return ActionResult{}, err
	}
	r.Unfit = unfit != nil
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), actTimeout)
	defer done()
	verdict, err := e.emitter.actions.Resolve(ctx, r)
	if err != nil && e.resolvedBy(ctx, r) {
		verdict, err = VerdictAccepted, nil
	}
	if err != nil {
		return ActionResult{}, suspensionError(err)
	}
	res := ActionResult{TaskID: task.ID, SuspendID: req.SuspendID, ClientActionID: req.ClientActionID}
	switch verdict {
	case VerdictAccepted:
		s.Open, s.Answer = false, r.Action
		e.handOffs.start(DueSuspension{TaskID: task.ID, Suspension: s})
		res.Status = ActionStatusAccepted
	case VerdictDeduplicated:
		res.Status = ActionStatusDeduplicated
	case VerdictResolved:
		res.Status = ActionStatusResolved
	case VerdictExpired:
		res.Status = ActionStatusExpired
	case VerdictUnknown:
		return ActionResult{}, errUnknownSuspension
	case VerdictNotAllowed:
		return ActionResult{}, NewError(CodeIdempotency, "the suspension does not allow this action")
	case VerdictConflict:
		return ActionResult{}, NewError(CodeIdempotency, "clientActionId was used for another action")
	case VerdictUnfit:
		return ActionResult{}, unfit
	}
	return res, nil
}

// resolution is what the store is asked.
func (e *Engine) resolution(auth AuthContext, req ActionRequest) (Resolution, error) {
	at := wireTime(time.Now())
	event, err := e.emitter.draft(ActionAccepted{
		SuspendID: req.SuspendID, ClientActionID: req.ClientActionID, ActionType: req.ActionType, AcceptedAt: at,
	})
	if err != nil {
		return Resolution{}, NewError(CodeInternal, "could not word the event").WithCause(err)
	}
	content, err := actionFingerprint(req.SuspendID, req.ActionType, req.Payload)
	if err != nil {
		return Resolution{}, NewError(CodeInternal, "could not compare the action").WithCause(err)
	}
	return Resolution{
		TaskID: req.TaskID, SuspendID: req.SuspendID, Fingerprint: content, Event: event,
		Action: &Action{
			ClientActionID: req.ClientActionID, SuspendID: req.SuspendID, ActionType: req.ActionType,
			Payload: req.Payload, Metadata: req.Metadata, Actor: auth.Subject, AcceptedAt: at,
		},
	}, nil
}

// resolvedBy asks again, after an error of Resolve, whether it was done and the
// answer lost: a repeat finds its own receipt, and fails as the first one did if
// what was done is not as durable as the store was told to make it. AcceptedAt
// tells it from an equal one.
func (e *Engine) resolvedBy(ctx context.Context, r Resolution) bool {
	verdict, err := e.emitter.actions.Resolve(ctx, r)
	if err != nil || verdict == VerdictAccepted {
		return err == nil
	}
	s, err := e.emitter.actions.Suspension(ctx, r.TaskID, r.SuspendID)
	return verdict == VerdictDeduplicated && err == nil && s.Answer != nil && s.Answer.ClientActionID == r.Action.ClientActionID &&
		s.Answer.AcceptedAt.Equal(r.Action.AcceptedAt)
}

// validateAction asks the validator, where its word can count. unfit is what it
// has against the payload.
func (e *Engine) validateAction(ctx context.Context, task Task, s Suspension, req ActionRequest) (unfit, err error) {
	if e.cfg.ActionValidator == nil || !s.Open || !s.allows(req.ActionType) {
		return nil, nil
	}
	err = e.cfg.ActionValidator.Validate(ctx, task, s, req.ActionType, req.Payload)
	if CodeOf(err) == CodeRequestValidation {
		return err, nil
	}
	var known *Error
	if err == nil || errors.As(err, &known) {
		return nil, err
	}
	return nil, NewError(CodeInternal, "the action could not be validated").WithCause(err)
}

// suspensionError is err for whoever named the suspension: the task is there,
// or was a moment ago.
func suspensionError(err error) error {
	if CodeOf(err) == CodeTaskNotFound {
		return errUnknownSuspension
	}
	return storeError("resolve the suspension", err)
}
