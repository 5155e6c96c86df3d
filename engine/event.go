package engine

import (
	"encoding/json"
	"time"
)

// EventType says what an event means and what shape its payload has.
type EventType string

// The protocol's event types.
const (
	TypeStarted        EventType = "TASK_STARTED"
	TypeProgress       EventType = "TASK_PROGRESS"
	TypeMessage        EventType = "TASK_MESSAGE"
	TypeSuspended      EventType = "TASK_SUSPENDED"
	TypeActionAccepted EventType = "TASK_ACTION_ACCEPTED"
	TypeCompleted      EventType = "TASK_COMPLETED"
	TypeFailed         EventType = "TASK_FAILED"
	TypeCancelled      EventType = "TASK_CANCELLED"
)

// Terminal reports whether nothing can follow an event of this type.
func (t EventType) Terminal() bool {
	return t == TypeCompleted || t == TypeFailed || t == TypeCancelled
}

// StatusAfter returns the status that a task has after an event of type t, or
// "" if the event does not change it.
func (t EventType) StatusAfter() Status {
	switch t {
	case TypeStarted:
		return StatusRunning
	case TypeCompleted:
		return StatusCompleted
	case TypeFailed:
		return StatusFailed
	case TypeCancelled:
		return StatusCancelled
	}
	return ""
}

// Draft is an event before a store has given it its place. Payload is a JSON
// object that fits Type; see [EncodePayload] and [CheckPayload].
type Draft struct {
	Type      EventType
	CreatedAt time.Time
	Payload   json.RawMessage
	// Default is kept with the suspension that a TASK_SUSPENDED opens; clients
	// do not see it.
	Default *DefaultAction
}

// Event is one entry of a task's log. It is immutable; Payload is shared.
type Event struct {
	ID        EventID
	TaskID    string
	Type      EventType
	CreatedAt time.Time
	Payload   json.RawMessage
}

// eventTime is RFC 3339 UTC with exactly six decimals and Z, the form of
// createdAt in events.
const eventTime = "2006-01-02T15:04:05.000000Z"

// AppendJSON appends the event as clients see it. Everything in it is either
// fixed, checked (ids, type) or valid JSON already (payload), so nothing is
// escaped here.
func (e Event) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, e.Type...)
	dst = append(dst, `","taskId":"`...)
	dst = append(dst, e.TaskID...)
	dst = append(dst, `","eventId":"`...)
	dst = e.ID.Append(dst)
	dst = append(dst, `","createdAt":"`...)
	dst = e.CreatedAt.UTC().AppendFormat(dst, eventTime)
	dst = append(dst, `","payload":`...)
	dst = append(dst, e.Payload...)
	return append(dst, '}')
}

// eventFrame is what AppendJSON writes around type, task id and payload, with
// ids of as many digits as those of this century.
const eventFrame = len(`{"type":"","taskId":"","eventId":"0000000000000-00000","createdAt":"","payload":}`) + len(eventTime)

// jsonSize is close to how many bytes AppendJSON appends.
func (e Event) jsonSize() int {
	return eventFrame + len(e.Type) + len(e.TaskID) + len(e.Payload)
}

// MarshalJSON is AppendJSON for encoders.
func (e Event) MarshalJSON() ([]byte, error) {
	return e.AppendJSON(make([]byte, 0, e.jsonSize())), nil
}
