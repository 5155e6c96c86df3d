package engine

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

// What AppendJSON writes is read back.
func FuzzDecodeEvent(f *testing.F) {
	f.Add("TASK_PROGRESS", "0123456789abcdef", int64(0), `{"progress":1}`)
	f.Add("TASK_MESSAGE", "t", int64(1767225600123456), `{"message":"\",\"payload\":{}"}`)
	f.Add("TASK_COMPLETED", "t", int64(-1), `{"result":{"type":"x","payload":[]}}`)
	f.Fuzz(func(t *testing.T, kind, task string, micros int64, payload string) {
		at := time.UnixMicro(micros).UTC()
		if !json.Valid([]byte(payload)) || at.Year() < 0 || at.Year() > 9999 ||
			bytes.ContainsAny([]byte(kind+task), "\"\\") {
			return // no event has them
		}
		want := Event{ID: EventID{Millis: 5, Ordinal: 7}, TaskID: task, Type: EventType(kind), CreatedAt: at, Payload: []byte(payload)}
		body := want.AppendJSON(nil)
		got, ok := decodeEvent(body)
		got.ID = want.ID
		if !ok || !bytes.Equal(got.AppendJSON(nil), body) || !got.CreatedAt.Equal(at) || string(got.Payload) != payload {
			t.Fatalf("%s\n%+v %v", body, got, ok)
		}
	})
}

// What it did not write is not taken for an event, and harms nobody.
func FuzzDecodeAnything(f *testing.F) {
	whole := Event{TaskID: "t", Type: TypeStarted, Payload: []byte(`{}`)}.AppendJSON(nil)
	for n := range whole {
		f.Add(whole[:n])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if ev, ok := decodeEvent(body); ok && len(ev.Payload) > len(body) {
			t.Fatalf("%+v", ev)
		}
	})
}
