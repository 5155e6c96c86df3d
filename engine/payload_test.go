package engine_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// field returns the field that err names, failing the test if it is not a
// refusal of a payload.
func field(t *testing.T, err error) string {
	t.Helper()
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.CodeRequestValidation || len(e.Fields) != 1 {
		t.Fatalf("not a refusal that names a field: %v", err)
	}
	return e.Fields[0].Field
}

const suspended = `"suspendId":"s","kind":"USER_ACTION_REQUIRED","reasonCode":"r","allowedActions":["a"],"schemaVersion":1`

func TestCheckPayloadAccepts(t *testing.T) {
	for _, c := range []struct {
		t  engine.EventType
		in string
	}{
		{engine.TypeStarted, `{}`},
		{engine.TypeStarted, `{"message":""}`},
		{engine.TypeProgress, `{"progress":0}`},
		{engine.TypeProgress, `{"progress":100.0,"stage":"s","message":"m"}`},
		{engine.TypeProgress, `{"progress":1e2}`},
		{engine.TypeProgress, `{"progress":-0}`},
		{engine.TypeProgress, `{"progr\u0065ss":3}`},
		{engine.TypeMessage, `{"message":"a\nb","level":"warning"}`},
		{engine.TypeSuspended, `{` + suspended + `}`},
		{engine.TypeSuspended, `{` + suspended + `,"expiresAt":"2026-01-02T03:04:05Z","uiHints":{"a":[1]},"interaction":{}}`},
		{engine.TypeSuspended, `{` + suspended + `,"expiresAt":"2026-01-02T03:04:05.123456789Z"}`},
		{engine.TypeActionAccepted, `{"suspendId":"s","clientActionId":"c","actionType":"t","acceptedAt":"2026-01-02T03:04:05Z"}`},
		{engine.TypeCompleted, `{"result":null}`},
		{engine.TypeCompleted, `{"result":{"a":[]},"more":1}`},
		{engine.TypeFailed, `{"code":"","message":"m","retryable":false}`},
		{engine.TypeCancelled, `{"reason":"r","message":"m"}`},
	} {
		out, err := engine.CheckPayload(c.t, json.RawMessage(c.in))
		if err != nil || string(out) != c.in {
			t.Errorf("%s %s: %s, %v", c.t, c.in, out, err)
		}
	}
	out, err := engine.CheckPayload(engine.TypeMessage, json.RawMessage(" {\r\n\t\"message\" : \"a b\"\n}\n"))
	if err != nil || string(out) != `{"message":"a b"}` {
		t.Errorf("white space: %s, %v", out, err)
	}
}

func TestCheckPayloadRefuses(t *testing.T) {
	without := func(member string) string { return strings.Replace("{"+suspended+"}", member, `"x":1`, 1) }
	replaced := func(old, replacement string) string { return strings.Replace("{"+suspended+"}", old, replacement, 1) }
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	for _, c := range []struct {
		t     engine.EventType
		in    string
		field string
	}{
		{"TASK_UNKNOWN", `{}`, "type"},
		{engine.TypeStarted, ``, "payload"},
		{engine.TypeStarted, `null`, "payload"},
		{engine.TypeStarted, `[]`, "payload"},
		{engine.TypeStarted, `{"message":"a`, "payload"},
		{engine.TypeStarted, `{} {}`, "payload"},
		{engine.TypeStarted, "{\"message\":\"a\nb\"}", "payload"},
		{engine.TypeStarted, "{\"message\":\"a\xffb\"}", "payload"},
		{engine.TypeStarted, "{\"message\":\"\xed\xa0\x80\"}", "payload"},
		{engine.TypeStarted, `{"message":null}`, "message"},
		{engine.TypeStarted, `{"message":1}`, "message"},
		{engine.TypeStarted, `{"other":1}`, "other"},
		{engine.TypeStarted, `{"message":"a","message":"b"}`, "message"},
		{engine.TypeStarted, `{"message":"a","m\u0065ssage":"b"}`, "message"},
		{engine.TypeStarted, `{"Message":"a"}`, "Message"},
		{engine.TypeProgress, `{}`, "progress"},
		{engine.TypeProgress, `{"progress":"1"}`, "progress"},
		{engine.TypeProgress, `{"progress":-0.0001}`, "progress"},
		{engine.TypeProgress, `{"progress":100.0001}`, "progress"},
		{engine.TypeProgress, `{"progress":1e999}`, "progress"},
		{engine.TypeProgress, `{"progress":null}`, "progress"},
		{engine.TypeProgress, `{"progress":true}`, "progress"},
		{engine.TypeProgress, `{"progress":{}}`, "progress"},
		{engine.TypeMessage, `{"level":"info"}`, "message"},
		{engine.TypeMessage, `{"message":"m","level":"INFO"}`, "level"},
		{engine.TypeMessage, `{"message":"m","level":""}`, "level"},
		{engine.TypeSuspended, without(`"suspendId":"s"`), "x"},
		{engine.TypeSuspended, replaced(`"suspendId":"s",`, ``), "suspendId"},
		{engine.TypeSuspended, replaced(`"suspendId":"s"`, `"suspendId":""`), "suspendId"},
		{engine.TypeSuspended, replaced(`USER_ACTION_REQUIRED`, `user`), "kind"},
		{engine.TypeSuspended, replaced(`["a"]`, `[]`), "allowedActions"},
		{engine.TypeSuspended, replaced(`["a"]`, `["a",""]`), "allowedActions"},
		{engine.TypeSuspended, replaced(`["a"]`, `["a",{"b":1}]`), "allowedActions"},
		{engine.TypeSuspended, replaced(`["a"]`, `"a"`), "allowedActions"},
		{engine.TypeSuspended, replaced(`Version":1`, `Version":0`), "schemaVersion"},
		{engine.TypeSuspended, replaced(`Version":1`, `Version":1.5`), "schemaVersion"},
		{engine.TypeSuspended, replaced(`Version":1`, `Version":4294967296`), "schemaVersion"},
		{engine.TypeSuspended, `{` + suspended + `,"expiresAt":null}`, "expiresAt"},
		{engine.TypeSuspended, `{` + suspended + `,"expiresAt":"2026-01-02T03:04:05+00:00"}`, "expiresAt"},
		{engine.TypeSuspended, `{` + suspended + `,"expiresAt":"2026-01-02T3:04:05Z"}`, "expiresAt"},
		{engine.TypeSuspended, `{` + suspended + `,"expiresAt":"2026-01-02T03:04:05,5Z"}`, "expiresAt"},
		{engine.TypeSuspended, `{` + suspended + `,"uiHints":[]}`, "uiHints"},
		{engine.TypeSuspended, `{` + suspended + `,"interaction":"x"}`, "interaction"},
		{engine.TypeActionAccepted, `{"suspendId":"s","clientActionId":"c","actionType":"t"}`, "acceptedAt"},
		{engine.TypeCompleted, `{}`, "result"},
		{engine.TypeCompleted, `{"result":1,"result":2}`, "result"},
		{engine.TypeCompleted, `{"result":` + deep + `}`, "payload"},
		{engine.TypeCompleted, `{"result":"` + strings.Repeat("x", 300<<10) + `"}`, "payload"},
		{engine.TypeFailed, `{"code":"c","message":"m"}`, "retryable"},
		{engine.TypeFailed, `{"code":"c","message":"m","retryable":"true"}`, "retryable"},
		{engine.TypeCancelled, `{"message":"m"}`, "reason"},
	} {
		out, err := engine.CheckPayload(c.t, json.RawMessage(c.in))
		if err == nil {
			t.Errorf("%s %.80s: accepted as %.80s", c.t, c.in, out)
			continue
		}
		if got := field(t, err); got != c.field {
			t.Errorf("%s %.80s: names %q, want %q (%v)", c.t, c.in, got, c.field, err)
		}
	}
}

func TestEncodePayload(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.FixedZone("", 3600))
	for _, c := range []struct {
		in   engine.Payload
		t    engine.EventType
		want string
	}{
		{engine.Started{}, engine.TypeStarted, `{}`},
		{&engine.Started{Message: "m"}, engine.TypeStarted, `{"message":"m"}`},
		{engine.Progress{}, engine.TypeProgress, `{"progress":0}`},
		{engine.Progress{Percent: 12.5, Stage: "s"}, engine.TypeProgress, `{"progress":12.5,"stage":"s"}`},
		{engine.Message{}, engine.TypeMessage, `{"message":""}`},
		{engine.Message{Text: "<a> & \"b\"\n", Level: engine.LevelDebug}, engine.TypeMessage, `{"message":"<a> & \"b\"\n","level":"debug"}`},
		{engine.Suspended{SuspendID: "s", Kind: engine.SystemPaused, ReasonCode: "r", AllowedActions: []string{"a"}}, engine.TypeSuspended,
			`{"suspendId":"s","kind":"SYSTEM_PAUSED","reasonCode":"r","allowedActions":["a"],"schemaVersion":1}`},
		{engine.Suspended{SuspendID: "s", Kind: engine.SystemPaused, ReasonCode: "r", AllowedActions: []string{"a"}, SchemaVersion: 2, ExpiresAt: &at, UIHints: json.RawMessage("{\n\"a\": 1}")}, engine.TypeSuspended,
			`{"suspendId":"s","kind":"SYSTEM_PAUSED","reasonCode":"r","allowedActions":["a"],"schemaVersion":2,"expiresAt":"2026-01-02T02:04:05.123456Z","uiHints":{"a":1}}`},
		{engine.ActionAccepted{SuspendID: "s", ClientActionID: "c", ActionType: "a", AcceptedAt: at}, engine.TypeActionAccepted,
			`{"suspendId":"s","clientActionId":"c","actionType":"a","acceptedAt":"2026-01-02T02:04:05.123456Z"}`},
		{engine.Completed{}, engine.TypeCompleted, `{"result":null}`},
		{engine.Completed{Result: map[string]any{"b": 1, "a": "<"}}, engine.TypeCompleted, `{"result":{"a":"<","b":1}}`},
		{engine.Completed{Result: json.RawMessage("[1,\n 2.50]")}, engine.TypeCompleted, `{"result":[1,2.50]}`},
		{engine.Failed{Code: "c", Message: "m"}, engine.TypeFailed, `{"code":"c","message":"m","retryable":false}`},
		{&engine.Cancelled{Reason: "r"}, engine.TypeCancelled, `{"reason":"r"}`},
	} {
		typ, out, err := engine.EncodePayload(c.in)
		if err != nil || typ != c.t || string(out) != c.want {
			t.Errorf("%+v: %s %s, %v; want %s", c.in, typ, out, err, c.want)
		}
		if _, err := engine.CheckPayload(typ, out); err != nil {
			t.Errorf("%+v: what was encoded is refused: %v", c.in, err)
		}
	}
}

type loop struct{ Next *loop }

// embedded has the method of a payload and is none: it would bring members of
// its own.
type embedded struct {
	engine.Message
	Extra int
}

func TestEncodePayloadRefuses(t *testing.T) {
	valid := engine.Suspended{SuspendID: "s", Kind: engine.SystemPaused, ReasonCode: "r", AllowedActions: []string{"a"}}
	with := func(change func(*engine.Suspended)) engine.Payload {
		s := valid
		change(&s)
		return s
	}
	round := &loop{}
	round.Next = round
	year := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		in    engine.Payload
		field string
	}{
		{engine.Started{Message: "\xff"}, "message"},
		{engine.Progress{Percent: math.NaN()}, "progress"},
		{engine.Progress{Percent: math.Inf(1)}, "progress"},
		{engine.Progress{Percent: math.Inf(-1)}, "progress"},
		{engine.Progress{Percent: 100.5}, "progress"},
		{engine.Progress{Stage: "a\xc3"}, "stage"},
		{engine.Message{Text: "\xed\xa0\x80"}, "message"},
		{engine.Message{Level: "loud"}, "level"},
		{engine.Message{Text: strings.Repeat("x", 256<<10)}, "payload"},
		{engine.Failed{Code: "\xff"}, "code"},
		{engine.Cancelled{Reason: "r", Message: "\xff"}, "message"},
		{with(func(s *engine.Suspended) { s.SuspendID = "" }), "suspendId"},
		{with(func(s *engine.Suspended) { s.Kind = "other" }), "kind"},
		{with(func(s *engine.Suspended) { s.AllowedActions = nil }), "allowedActions"},
		{with(func(s *engine.Suspended) { s.AllowedActions = []string{"a\xff"} }), "allowedActions"},
		{with(func(s *engine.Suspended) { s.SchemaVersion = -1 }), "schemaVersion"},
		{with(func(s *engine.Suspended) { s.UIHints = json.RawMessage(`[]`) }), "uiHints"},
		{with(func(s *engine.Suspended) { s.UIHints = json.RawMessage("{\"a\":\"\xff\"}") }), "uiHints"},
		{with(func(s *engine.Suspended) { s.Interaction = json.RawMessage(`{"a":}`) }), "interaction"},
		{with(func(s *engine.Suspended) { s.ExpiresAt = &year }), "payload"},
		{engine.ActionAccepted{SuspendID: "s", ClientActionID: "c", ActionType: "a\xff"}, "actionType"},
		{engine.Completed{Result: json.RawMessage("\"\xff\"")}, "payload"},
		{engine.Completed{Result: json.RawMessage(`{"a":1}}`)}, "result"},
		{engine.Completed{Result: json.RawMessage("\"a\nb\"")}, "result"},
		{engine.Completed{Result: math.NaN()}, "result"},
		{engine.Completed{Result: func() {}}, "result"},
		{engine.Completed{Result: round}, "result"},
		{engine.Completed{Result: strings.Repeat("x", 256<<10)}, "payload"},
	} {
		_, out, err := engine.EncodePayload(c.in)
		if err == nil {
			t.Errorf("%+v: accepted as %.80s", c.in, out)
			continue
		}
		if got := field(t, err); got != c.field {
			t.Errorf("%T %.60v: names %q, want %q (%v)", c.in, c.in, got, c.field, err)
		}
	}
	for _, p := range []engine.Payload{nil, (*engine.Message)(nil), embedded{}} {
		if _, _, err := engine.EncodePayload(p); engine.CodeOf(err) != engine.CodeRequestValidation {
			t.Errorf("%T: %v", p, err)
		}
	}
}

var allTypes = []engine.EventType{
	engine.TypeStarted, engine.TypeProgress, engine.TypeMessage, engine.TypeSuspended,
	engine.TypeActionAccepted, engine.TypeCompleted, engine.TypeFailed, engine.TypeCancelled,
}

// FuzzCheckPayload: what is accepted is one line of valid JSON and UTF-8, of the
// same value as what came in, and is accepted again as it is.
func FuzzCheckPayload(f *testing.F) {
	for i, s := range []string{
		`{}`, `{"progress":5e1}`, `{"message":"\ud83d\ude00\u0000","level":"info"}`, `{` + suspended + `,"uiHints":{"a":[{}]}}`,
		`{"suspendId":"s","clientActionId":"c","actionType":"t","acceptedAt":"2026-01-02T03:04:05Z"}`,
		`{"result":[1,{"a":"b\\"}],"x":{}}`, `{"code":"c","message":"m","retryable":true}`, "{\"reason\":\"\u2028\"}\n",
	} {
		f.Add(uint8(i), []byte(s))
	}
	f.Add(uint8(5), []byte("{\"result\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, which uint8, in []byte) {
		typ := allTypes[int(which)%len(allTypes)]
		out, err := engine.CheckPayload(typ, in)
		if err != nil {
			field(t, err)
			return
		}
		if !utf8.Valid(out) || bytes.ContainsAny(out, "\r\n") || !json.Valid(out) {
			t.Fatalf("%q gave %q", in, out)
		}
		var a, b map[string]any
		if json.Unmarshal(in, &a) != nil || json.Unmarshal(out, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%q became another value: %q", in, out)
		}
		again, err := engine.CheckPayload(typ, out)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%q is %q the second time, %v", out, again, err)
		}
	})
}

// FuzzEncodeMessage: the codec's strings are as encoding/json reads them back.
func FuzzEncodeMessage(f *testing.F) {
	for _, s := range []string{"", "a\r\nb", "\u2028\u2029\u0085", "</script>", "\x00\x1f\x7f", "😀\\\"", "\xff", "é\xed\xa0\x80"} {
		f.Add(s, 50.5)
	}
	f.Fuzz(func(t *testing.T, s string, percent float64) {
		for _, p := range []engine.Payload{
			engine.Message{Text: s}, engine.Progress{Percent: percent, Stage: s}, engine.Failed{Code: s, Message: s},
		} {
			typ, out, err := engine.EncodePayload(p)
			if err != nil {
				continue
			}
			if !utf8.ValidString(s) {
				t.Fatalf("%q was encoded", s)
			}
			if again, err := engine.CheckPayload(typ, out); err != nil || !bytes.Equal(again, out) {
				t.Fatalf("%q: %q, then %q, %v", s, out, again, err)
			}
			back := reflect.New(reflect.TypeOf(p))
			if err := json.Unmarshal(out, back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), p) {
				t.Fatalf("%+v came back as %+v, %v", p, back.Elem().Interface(), err)
			}
		}
	})
}
