package engine

import (
	"encoding/json"
	"time"
)

// Payload is the typed payload of one event type: Started, Progress, Message,
// Suspended, ActionAccepted, Completed, Failed or Cancelled.
type Payload interface {
	eventType() EventType
}

// Started is the payload of TASK_STARTED.
type Started struct {
	Message string `json:"message,omitempty"`
	// Restarts is how often the task has been begun again; zero is left out.
	// ResumesAfter is the id of the event at the checkpoint from which the run goes
	// on, empty if there is none. Run.Start sets both.
	Restarts     int    `json:"restarts,omitempty"`
	ResumesAfter string `json:"resumesAfter,omitempty"`
}

// Progress is the payload of TASK_PROGRESS.
type Progress struct {
	// Percent is 0..100.
	Percent float64 `json:"progress"`
	Stage   string  `json:"stage,omitempty"`
	Message string  `json:"message,omitempty"`
}

// Level is the level of a Message; empty means none is sent.
type Level string

// The levels of a Message.
const (
	LevelInfo    Level = "info"
	LevelWarning Level = "warning"
	LevelDebug   Level = "debug"
)

// Message is the payload of TASK_MESSAGE.
type Message struct {
	Text  string `json:"message"`
	Level Level  `json:"level,omitempty"`
}

// SuspensionKind says whom a suspended task waits for.
type SuspensionKind string

// The kinds of a suspension.
const (
	UserActionRequired          SuspensionKind = "USER_ACTION_REQUIRED"
	ExternalConfirmationPending SuspensionKind = "EXTERNAL_CONFIRMATION_PENDING"
	SystemPaused                SuspensionKind = "SYSTEM_PAUSED"
)

// Suspended is the payload of TASK_SUSPENDED: the task waits for an action.
type Suspended struct {
	// SuspendID is chosen by Run.Suspend if empty.
	SuspendID  string         `json:"suspendId"`
	Kind       SuspensionKind `json:"kind"`
	ReasonCode string         `json:"reasonCode"`
	// AllowedActions holds at least one action type.
	AllowedActions []string `json:"allowedActions"`
	// SchemaVersion is at least 1; zero is sent as 1.
	SchemaVersion int `json:"schemaVersion"`
	// ExpiresAt ends the wait. Nil: never.
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	// UIHints and Interaction are JSON objects for the client's user
	// interface.
	UIHints     json.RawMessage `json:"uiHints,omitempty"`
	Interaction json.RawMessage `json:"interaction,omitempty"`
	// Default is the answer that the suspension gives itself at ExpiresAt. Nil:
	// it then fails the task with SUSPENSION_EXPIRED. Clients do not see it; it
	// needs a store that is an [ActionStore].
	Default *DefaultAction `json:"-"`
}

// ActionAccepted is the payload of TASK_ACTION_ACCEPTED.
type ActionAccepted struct {
	SuspendID      string    `json:"suspendId"`
	ClientActionID string    `json:"clientActionId"`
	ActionType     string    `json:"actionType"`
	AcceptedAt     time.Time `json:"acceptedAt"`
	Message        string    `json:"message,omitempty"`
}

// Completed is the payload of TASK_COMPLETED.
type Completed struct {
	// Result is any value that encodes as JSON; nil is sent as null.
	Result any `json:"result"`
}

// Failed is the payload of TASK_FAILED.
type Failed struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

// Cancelled is the payload of TASK_CANCELLED.
type Cancelled struct {
	// Reason is the first cancel request's reason, or DefaultCancelReason.
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// DefaultCancelReason is sent when a cancel request gives no reason.
const DefaultCancelReason = "cancelled_by_user"

func (Started) eventType() EventType        { return TypeStarted }
func (Progress) eventType() EventType       { return TypeProgress }
func (Message) eventType() EventType        { return TypeMessage }
func (Suspended) eventType() EventType      { return TypeSuspended }
func (ActionAccepted) eventType() EventType { return TypeActionAccepted }
func (Completed) eventType() EventType      { return TypeCompleted }
func (Failed) eventType() EventType         { return TypeFailed }
func (Cancelled) eventType() EventType      { return TypeCancelled }
