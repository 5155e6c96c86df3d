package engine

import (
	"cmp"
	"strconv"
)

// EventID names one event of one task: <milliseconds>-<ordinal>.
//
// The ordinal counts the task's events from 1 without a hole; the
// milliseconds (Unix time of the store's clock) never go back within a task.
// To clients it is an opaque, growing cursor. The zero EventID names no event
// and stands before the first one.
type EventID struct {
	Millis  uint64
	Ordinal uint64
}

// IsZero reports whether id is the position before the first event.
func (id EventID) IsZero() bool { return id == EventID{} }

// Compare orders positions: by milliseconds, then by ordinal.
func (id EventID) Compare(other EventID) int {
	if c := cmp.Compare(id.Millis, other.Millis); c != 0 {
		return c
	}
	return cmp.Compare(id.Ordinal, other.Ordinal)
}

// Append appends the text form, "1767225600000-7", to dst.
func (id EventID) Append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, id.Millis, 10)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, id.Ordinal, 10)
}

// String returns the text form, "1767225600000-7".
func (id EventID) String() string { return string(id.Append(make([]byte, 0, 32))) }

// maxCursorDigits bounds each half of a cursor.
const maxCursorDigits = 20

// ParseCursor reads a cursor as clients send it: "digits" or "digits-digits",
// each at most 20 digits and within 64 bits; "5" means "5-0". The empty string
// is the position before the first event. Anything else is INVALID_REQUEST.
func ParseCursor(s string) (EventID, error) {
	if s == "" {
		return EventID{}, nil
	}
	head, tail, split := s, "0", false
	for i := range len(s) {
		if s[i] == '-' {
			head, tail, split = s[:i], s[i+1:], true
			break
		}
	}
	millis, ok := parseDigits(head)
	if !ok {
		return EventID{}, errCursor
	}
	ordinal, ok := parseDigits(tail)
	if !ok && split {
		return EventID{}, errCursor
	}
	return EventID{Millis: millis, Ordinal: ordinal}, nil
}

var errCursor = NewError(CodeInvalidRequest, `the cursor is not of the form "digits" or "digits-digits"`)

// parseDigits is strconv.ParseUint without signs, underscores or long input.
func parseDigits(s string) (uint64, bool) {
	if s == "" || len(s) > maxCursorDigits {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}
