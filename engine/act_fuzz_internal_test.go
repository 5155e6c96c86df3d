package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// What checkAction lets through has the form that it promises; of what it refuses
// every complaint names a field.
func FuzzCheckAction(f *testing.F) {
	f.Add("c", "s", "yes", `{"a":1}`, ``)
	f.Add("", "s", "yes", `[1]`, `{}`)
	f.Add(strings.Repeat("ü", 255), strings.Repeat("x", 256), "\xff", `{"a":"\ud800"}`, `{"a":{"b":{}}}`)
	f.Add("c", "s", "yes", `{"a":1} {"b":2}`, "{\n \"a\" : 1.50e+3 }")
	f.Add("c\x00", "s\n", "yes", `{"a":`+strings.Repeat(`[`, 300)+strings.Repeat(`]`, 300)+`}`, strings.Repeat(" ", 5000)+"{}")
	f.Add("c", "s", "yes", "{\"a\":\"\xff\"}", `null`)
	f.Add("c", "s", "yes", `{"a":"`+strings.Repeat("x", 5000)+`"}`, `{"a":1,"a":2}`)
	limits := Limits{PayloadBytes: 4096, InputBytes: 4096, Nesting: 20}
	f.Fuzz(func(t *testing.T, clientActionID, suspendID, actionType, payload, metadata string) {
		given, more := []byte(payload), []byte(metadata)
		req, err := limits.checkAction(ActionRequest{
			TaskID: "t", ClientActionID: clientActionID, SuspendID: suspendID, ActionType: actionType,
			Payload: given, Metadata: more,
		})
		if string(given) != payload || string(more) != metadata {
			t.Error("it wrote to what it was given")
		}
		if err != nil {
			wantFields(t, err)
			return
		}
		for _, name := range []string{req.ClientActionID, req.SuspendID, req.ActionType} {
			if n := utf8.RuneCountInString(name); n < 1 || n > 255 || !utf8.ValidString(name) {
				t.Errorf("%q passes as a name", name)
			}
		}
		clear(given) // the request's memory is another's now
		clear(more)
		for field, raw := range map[string]json.RawMessage{"payload": req.Payload, "metadata": req.Metadata} {
			var object map[string]any
			var compact bytes.Buffer
			if json.Unmarshal(raw, &object) != nil || object == nil || json.Compact(&compact, raw) != nil || compact.String() != string(raw) || !utf8.Valid(raw) {
				t.Errorf("%s is %q", field, raw)
			}
			if len(raw) > limits.PayloadBytes {
				t.Errorf("%s has %d bytes", field, len(raw))
			}
		}
		again, err := limits.checkAction(req)
		if err != nil || !reflect.DeepEqual(again, req) {
			t.Errorf("what passed becomes %+v, %v; it was %+v", again, err, req)
		}
	})
}

func wantFields(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeRequestValidation || len(e.Fields) == 0 {
		t.Fatalf("refused with %v", err)
	}
	for _, field := range e.Fields {
		switch field.Field {
		case "clientActionId", "suspendId", "actionType", "payload", "metadata":
		default:
			t.Errorf("%q is no field", field.Field)
		}
		if field.Message == "" {
			t.Errorf("%s is wrong without a reason", field.Field)
		}
	}
}

// Two answers have equal fingerprints exactly if suspension and type are the same
// and the payloads are JSON-equal.
func FuzzActionFingerprint(f *testing.F) {
	f.Add("s", "yes", `{"a":1,"b":[1,2]}`, "s", "yes", `{ "b":[1.0,2e0], "a":10e-1 }`)
	f.Add("s", "yes", `{}`, "sy", "es", `{}`)
	f.Add("s", "A", `{"a":"é"}`, "s", "A", `{"a":"\u00e9"}`)
	f.Add("s", "A", `{"a":-0}`, "s", "A", `{"a":0}`)
	f.Add("s", "A", `{"a":1e400}`, "s", "A", `{"a":1e401}`)
	f.Add("s", "A", `{"a":[]}`, "s", "A", `{"a":{}}`)
	f.Add("s", "A", `{"a":null}`, "s", "A", `{}`)
	limits := Limits{PayloadBytes: 4096, InputBytes: 4096, Nesting: 20}
	f.Fuzz(func(t *testing.T, s1, t1, p1, s2, t2, p2 string) {
		var prints, plain [2]string
		for i, a := range [][3]string{{s1, t1, p1}, {s2, t2, p2}} {
			req, err := limits.checkAction(ActionRequest{ClientActionID: "c", SuspendID: a[0], ActionType: a[1], Payload: []byte(a[2])})
			if err != nil {
				return
			}
			if prints[i], err = actionFingerprint(req.SuspendID, req.ActionType, req.Payload); err != nil {
				t.Fatalf("%s: %v", req.Payload, err)
			}
			// Through Go's own values: equal ones, with numbers as they are written.
			var value any
			dec := json.NewDecoder(bytes.NewReader(req.Payload))
			dec.UseNumber()
			if err := dec.Decode(&value); err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal([]any{req.SuspendID, req.ActionType, value})
			if err != nil {
				t.Fatal(err)
			}
			plain[i] = string(text)
		}
		if plain[0] == plain[1] && prints[0] != prints[1] {
			t.Errorf("%s has two fingerprints", plain[0])
		}
		if prints[0] == prints[1] && (s1 != s2 || t1 != t2) {
			t.Errorf("%q %q and %q %q have one fingerprint", s1, t1, s2, t2)
		}
		if prints[0] == prints[1] && plain[0] != plain[1] && !strings.ContainsAny(plain[0], "0123456789") {
			t.Errorf("%s and %s have one fingerprint", plain[0], plain[1]) // but for numbers, which have many forms
		}
	})
}
