package engine

import (
	"context"
	"time"
)

// PollRequest asks for the events of a task after a cursor.
type PollRequest struct {
	TaskID string
	// After is the cursor; zero reads from the beginning.
	After EventID
	// Wait is how long to wait for an event if there is none. 0 to 60 s.
	Wait time.Duration
	// Max is 1 to 500; zero stands for 100.
	Max int
}

// PollResult is one page of a task's log.
type PollResult struct {
	TaskID string
	// Status is the task's status of now, never older than Events.
	Status Status
	Events []Event
	// Next is the last event's id, or the request's cursor if there is none.
	Next EventID
	// HasMore says that more is retained after Next.
	HasMore bool
	// Gap tells of events that the caller has not seen and that are gone.
	Gap *Gap
}

// Poll reads the log after a cursor. A wait ends with the first event, with a
// gap, with ctx, or when the engine begins to shut down; each of these but an
// event or a gap gives an empty page, not an error. Behind the terminal event
// it lasts as long as asked.
func (e *Engine) Poll(ctx context.Context, auth AuthContext, req PollRequest) (PollResult, error) {
	panic("unwritten")
}
