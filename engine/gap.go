package engine

import "github.com/taskbridge/taskbridge-fiber/engine/fanout"

// Gap tells of events that a reader has not seen and that are gone.
type Gap struct {
	Reason GapReason
	// After is the last event that the reader has, zero if none.
	After EventID
	// First is the event that delivery goes on with, zero if there is none yet.
	First EventID
}

// GapReason says why events are gone.
type GapReason = fanout.GapReason

// The reasons of a gap.
const (
	// GapTrimmed: the log keeps only so many events.
	GapTrimmed = fanout.GapTrimmed
	// GapExpired: the whole log has expired; the terminal event is left.
	GapExpired = fanout.GapExpired
	// GapAhead: the cursor names an event that the log does not have.
	GapAhead = fanout.GapAhead
)
