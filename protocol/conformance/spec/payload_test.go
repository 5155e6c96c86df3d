package spec_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/protocol"
)

// TestPayloadChecksAgreeWithSchemas gives payloads, right ones and damaged ones,
// to the engine's check and to the schema of their type. What one takes the
// other takes.
func TestPayloadChecksAgreeWithSchemas(t *testing.T) {
	p := load(t)
	seen := map[string]bool{}
	taken, refused := 0, 0
	judge := func(t *testing.T, eventType string, payload any) {
		t.Helper()
		text, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		_, byEngine := engine.CheckPayload(engine.EventType(eventType), text)
		schema := "payload-" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(eventType, "TASK_")), "_", "-")
		bySchema := p.Message(schema, text)
		// A schema cannot tell 1.0 from 1. Clients with typed decoders can, so the
		// engine is stricter there.
		stricter := byEngine != nil && wholeAsFraction.Match(text)
		if (byEngine == nil) != (bySchema == nil) && !stricter {
			t.Errorf("%s %s\nthe engine says %v\nthe schema says %v", eventType, text, byEngine, bySchema)
		}
		if byEngine == nil {
			taken++
		} else {
			refused++
		}
	}
	goldens(t, func(t *testing.T, schema string, text []byte) {
		if schema != "event" {
			return
		}
		var event struct {
			Type    string
			Payload map[string]any
		}
		if err := json.Unmarshal(text, &event); err != nil {
			t.Fatal(err)
		}
		seen[event.Type] = true
		judge(t, event.Type, event.Payload)
		for _, payload := range damaged(event.Payload) {
			judge(t, event.Type, payload)
		}
	})
	for _, eventType := range eventTypes(t) {
		if !seen[eventType] {
			t.Errorf("there is no golden message of type %s", eventType)
		}
		for _, payload := range []any{nil, 1, "x", []any{}, map[string]any{}} {
			judge(t, eventType, payload)
		}
	}
	if taken < 50 || refused < 200 {
		t.Errorf("only %d payloads were taken and %d refused", taken, refused)
	}
}

// wholeAsFraction finds a whole number that is not written as one, where the
// engine wants one.
var wholeAsFraction = regexp.MustCompile(`"(schemaVersion|restarts)":1(\.0|e2)`)

// values are what a member may be damaged to: some fit some types.
var values = []any{
	nil, true, false, 0, 1, 2, -1, 0.5, 100, 100.5, 1e300, json.Number("1.0"), json.Number("1e2"), json.Number("3000000000"),
	"", "x", "info", "INFO", "USER_ACTION_REQUIRED", strings.Repeat("x", 300), "\u2028", "cancelled_by_user",
	"2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+00:00",
	"2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01t00:00:00z", "2026-01-01 00:00:00Z",
	"2026-06-30T23:59:60Z", "2026-01-01T00:00:00.1234567890Z",
	[]any{}, []any{"x"}, []any{""}, []any{"x", "x"}, []any{1}, []any{nil}, map[string]any{}, map[string]any{"x": 1},
	"1767225600250-2", "0-0", "1767225600250",
}

// damaged returns payload with each member left out, and with each of values
// in its place; and with a member too many.
func damaged(payload map[string]any) (all []map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(payload)) {
		less := maps.Clone(payload)
		delete(less, key)
		all = append(all, less)
		for _, v := range values {
			other := maps.Clone(payload)
			other[key] = v
			all = append(all, other)
		}
	}
	more := maps.Clone(payload)
	more["extra"] = 1
	return append(all, more)
}

// eventTypes are those that the schema of events names.
func eventTypes(t *testing.T) []string {
	t.Helper()
	var schema struct {
		Properties struct{ Type struct{ Enum []string } }
	}
	text, err := protocol.Schema("event")
	if err == nil {
		err = json.Unmarshal(text, &schema)
	}
	if err != nil || len(schema.Properties.Type.Enum) == 0 {
		t.Fatal(schema, err)
	}
	return schema.Properties.Type.Enum
}
