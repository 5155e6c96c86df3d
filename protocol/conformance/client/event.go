package client

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FreshID returns a clientRequestId that nobody has used.
func FreshID() string { return rand.Text() }

// Event is one entry of a log as a client gets it.
type Event struct {
	Type      string          `json:"type"`
	TaskID    string          `json:"taskId"`
	EventID   string          `json:"eventId"`
	CreatedAt time.Time       `json:"createdAt"`
	Payload   json.RawMessage `json:"payload"`
}

// String is an event in a line, as failed tests print it.
func (e Event) String() string { return fmt.Sprintf("%s %s %.200s", e.EventID, e.Type, e.Payload) }

// Terminal reports whether the event ends a log.
func (e Event) Terminal() bool {
	return e.Type == "TASK_COMPLETED" || e.Type == "TASK_FAILED" || e.Type == "TASK_CANCELLED"
}

// Ordinal is the second half of the event's id.
func (e Event) Ordinal() uint64 {
	_, n := e.Halves()
	return n
}

// Halves are the two numbers of the event's id.
func (e Event) Halves() (millis, ordinal uint64) {
	a, b, _ := strings.Cut(e.EventID, "-")
	millis, _ = strconv.ParseUint(a, 10, 64)
	ordinal, _ = strconv.ParseUint(b, 10, 64)
	return millis, ordinal
}

// Gap is the notice of a hole.
type Gap struct {
	Reason       string  `json:"reason"`
	AfterEventID *string `json:"afterEventId"`
	FirstEventID *string `json:"firstEventId"`
}

// CheckLog checks a stretch of a log that begins with the ordinal first: one
// task, dense ordinals, milliseconds that never go back, createdAt that fits
// them, and nothing after a terminal event.
func CheckLog(t testing.TB, id string, events []Event, first uint64) {
	t.Helper()
	var before uint64
	for i, e := range events {
		millis, ordinal := e.Halves()
		switch {
		case e.TaskID != id:
			t.Errorf("event %s is of task %s, not %s", e.EventID, e.TaskID, id)
		case ordinal != first+uint64(i):
			t.Fatalf("event %s where ordinal %d should be: %s", e.EventID, first+uint64(i), IDs(events))
		case millis < before:
			t.Errorf("the milliseconds go back at %s", e.EventID)
		case e.Terminal() && i != len(events)-1:
			t.Fatalf("events after the terminal %s: %s", e.EventID, IDs(events))
		}
		before = millis
	}
}

// CheckEqual fails unless got is exactly want, event by event.
func CheckEqual(t testing.TB, got, want []Event) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if g.Type != w.Type || g.TaskID != w.TaskID || g.EventID != w.EventID || !g.CreatedAt.Equal(w.CreatedAt) || string(g.Payload) != string(w.Payload) {
			t.Fatalf("event %d is %+v, want %+v", i, g, w)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d\ngot  %s\nwant %s", len(got), len(want), IDs(got), IDs(want))
	}
}

// IDs lists the ids of events, for messages.
func IDs(events []Event) string {
	var b strings.Builder
	for i, e := range events {
		if i > 0 {
			b.WriteByte(' ')
		}
		if i == 40 {
			b.WriteString("…")
			break
		}
		b.WriteString(e.EventID)
	}
	return b.String()
}
