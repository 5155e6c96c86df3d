package engine

import (
	"context"
	"encoding/json"
	"time"
)

// ActionStore is the power of a store to keep suspensions and the answers to
// them: a suspension that TASK_SUSPENDED opened, the receipt of the answer that
// was accepted, and whether the executor has it yet. New looks for it once;
// without it every action is refused and a suspension only expires.
//
// Time is the store's: it decides whether a suspension has expired, whatever a
// node's clock says.
//
// Every method may be called concurrently; errors are those of [Store].
type ActionStore interface {
	// Suspension returns one suspension of a task as it is now, open or not,
	// with the answer that resolved it. TASK_NOT_FOUND if the task or the
	// suspension is unknown, or was pruned.
	Suspension(ctx context.Context, taskID, suspendID string) (Suspension, error)

	// Resolve is one atomic step: it finds out what becomes of an answer or of
	// an expiry, and if that is VerdictAccepted it resolves the suspension,
	// keeps the receipt, notes that the hand-off is pending, and appends
	// Resolution.Event; otherwise it changes nothing. Of many at once, on any
	// number of nodes, exactly one is accepted. Whoever listens to the task's
	// Signals is woken.
	//
	// A repeat of an accepted Resolution whose answer was lost finds its own
	// receipt: VerdictDeduplicated. An error that says nothing about the task is
	// one after which nobody knows whether it was accepted.
	//
	// TASK_NOT_FOUND if the task is unknown.
	Resolve(ctx context.Context, r Resolution) (Verdict, error)

	// HandedOver notes that somebody has the answer to a suspension and will not
	// lose it. Repeating it, or naming what is not there any more, is no error.
	// A store that has Leases refuses it with TASK_CONFLICT if fence is not zero
	// and the task's lease was acquired with a higher one since: a run that was
	// taken for dead must not take an answer with it.
	HandedOver(ctx context.Context, taskID, suspendID string, fence uint64) error

	// Due gives up to limit of what somebody must see to: open suspensions
	// whose time is over, and answers whose hand-off is still pending a few
	// seconds after they were accepted. What one caller was given no other gets
	// for some seconds; then it is offered again until it is done, an answer
	// after longer and longer pauses, up to half a minute. It looks at an index
	// of due times, not at all tasks, and is made to be called every half a
	// second on every node. It may give suspensions and an error: what it could
	// not look at comes later.
	Due(ctx context.Context, limit int) ([]DueSuspension, error)
}

// Suspension is what a store knows of one suspension.
type Suspension struct {
	// Suspended is what TASK_SUSPENDED said, Default included.
	Suspended
	// Answer is what resolved it. Nil while it is open, and after it expired or
	// the task ended without an answer.
	Answer *Action
	// Open says that it waits for an answer. Past ExpiresAt it is open until an
	// expiry was accepted, but no answer is.
	Open bool
	// Expired says that an expiry was accepted: Answer is its default action, or
	// nil.
	Expired bool
	// HandedOver says that somebody has the answer; see ActionStore.HandedOver.
	HandedOver bool
}

// Action is an answer to a suspension.
type Action struct {
	// ClientActionID names the answer within its task; empty for the default
	// action of an expired suspension.
	ClientActionID string `json:"clientActionId"`
	SuspendID      string `json:"suspendId"`
	ActionType     string `json:"actionType"`
	// Payload and Metadata are JSON objects, with the digits that the client sent. To
	// keep them when decoding into an any, use a json.Decoder with UseNumber.
	Payload  json.RawMessage `json:"payload,omitempty"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	// Actor is the subject that answered; empty for the default action of an
	// expired suspension.
	Actor      string    `json:"actor,omitempty"`
	AcceptedAt time.Time `json:"acceptedAt"`
}

// DefaultAction is the answer that a suspension gives itself when it expires.
type DefaultAction struct {
	// ActionType is one of the allowed actions.
	ActionType string `json:"actionType"`
	// Payload is a JSON object; nil stands for {}.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Resolution asks a store to resolve a suspension: by an answer, by the default
// action of one that expired, or by failing the task of one that expired.
type Resolution struct {
	TaskID    string
	SuspendID string
	// Expiry is accepted only when the suspension's time is over, an answer only
	// before that. An expiry keeps no receipt and looks for none.
	Expiry bool
	// Action is what resolves it; nil if the expiry fails the task.
	Action *Action
	// Fingerprint stands for the content of the action (suspension, type,
	// payload): two are equal exactly if their fingerprints are.
	Fingerprint string
	// Unfit says that the payload does not fit what the suspension asks for. It
	// counts only when nothing else stands against the answer: VerdictUnfit.
	Unfit bool
	// Event is TASK_ACTION_ACCEPTED, or the TASK_FAILED of an expiry.
	Event Draft
}

// Verdict is what became of a Resolution. They are checked for in this order.
type Verdict int

// The verdicts.
const (
	// VerdictUnknown: the task has no such suspension. Once a task is over and
	// all that was known of its suspensions is gone, each of them is
	// VerdictResolved.
	VerdictUnknown Verdict = iota
	// VerdictNotAllowed: the suspension does not allow this type of action.
	VerdictNotAllowed
	// VerdictDeduplicated: there is a receipt with this id and content. A refused
	// answer leaves none.
	VerdictDeduplicated
	// VerdictConflict: there is a receipt with this id and other content.
	VerdictConflict
	// VerdictResolved: the task is over, or another answer resolved it.
	VerdictResolved
	// VerdictExpired: its time is over, or an expiry was accepted. For an expiry:
	// its time is not over yet, or another expiry was accepted.
	VerdictExpired
	// VerdictUnfit: Resolution.Unfit.
	VerdictUnfit
	// VerdictAccepted: it is resolved.
	VerdictAccepted
)

// DueSuspension is something that Due found.
type DueSuspension struct {
	TaskID string
	Suspension
	// Waited is for how long an answer has been offered while nobody held the
	// task's lease, the first time 0; time in which nobody asked counts little.
	// Always 0 on a store without Leases.
	Waited time.Duration
}
