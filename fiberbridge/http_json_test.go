package fiberbridge

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func fieldsOf(err error) []string {
	var e *engine.Error
	if !errors.As(err, &e) {
		return nil
	}
	var fields []string
	for _, f := range e.Fields {
		fields = append(fields, f.Field)
	}
	return fields
}

func TestParseCreate(t *testing.T) {
	const ok = `{"clientRequestId":"r","taskType":"t"}`
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	tests := []struct {
		name, body string
		code       engine.Code
		fields     []string
	}{
		{"least", ok, "", nil},
		{"full", ` { "taskType" : "t" , "input":{"a":[1,{"b":"}"}],"c":"\\\""} ,"metadata":{}, "clientRequestId":"r"}` + "\n", "", nil},
		{"escaped key", `{"client\u0052equestId":"r","taskType":"t"}`, "", nil},
		{"255 characters of two bytes", `{"clientRequestId":"` + strings.Repeat("ü", 255) + `","taskType":"t"}`, "", nil},
		{"surrogate pair", `{"clientRequestId":"\ud83d\ude00","taskType":"t"}`, "", nil},

		{"empty", "", engine.CodeInvalidRequest, nil},
		{"space", "  ", engine.CodeInvalidRequest, nil},
		{"cut off", `{"clientRequestId":"r"`, engine.CodeInvalidRequest, nil},
		{"trailing data", ok + "{}", engine.CodeInvalidRequest, nil},
		{"trailing comma", `{"clientRequestId":"r","taskType":"t",}`, engine.CodeInvalidRequest, nil},
		{"byte order mark", "\xef\xbb\xbf" + ok, engine.CodeInvalidRequest, nil},
		{"invalid UTF-8", `{"clientRequestId":"` + "\xff" + `","taskType":"t"}`, engine.CodeInvalidRequest, nil},
		{"invalid UTF-8 in input", `{"clientRequestId":"r","taskType":"t","input":{"a":"` + "\xc3" + `"}}`, engine.CodeInvalidRequest, nil},
		{"repeated key", `{"clientRequestId":"r","taskType":"t","taskType":"u"}`, engine.CodeInvalidRequest, nil},
		{"repeated key, escaped", `{"clientRequestId":"r","taskType":"t","task\u0054ype":"u"}`, engine.CodeInvalidRequest, nil},
		{"nested 10,001 deep", deep(10_001), engine.CodeInvalidRequest, nil},
		{"UTF-16", "\xff\xfe{\x00}\x00", engine.CodeInvalidRequest, nil},

		{"null", "null", engine.CodeRequestValidation, []string{""}},
		{"array", "[" + ok + "]", engine.CodeRequestValidation, []string{""}},
		{"string", `"x"`, engine.CodeRequestValidation, []string{""}},
		{"missing", "{}", engine.CodeRequestValidation, []string{"clientRequestId", "taskType"}},
		{"mistyped", `{"clientRequestId":1,"taskType":null,"input":[],"metadata":"{}"}`, engine.CodeRequestValidation,
			[]string{"clientRequestId", "taskType", "input", "metadata"}},
		{"null object", `{"clientRequestId":"r","taskType":"t","input":null}`, engine.CodeRequestValidation, []string{"input"}},
		{"other case", `{"clientrequestid":"r","taskType":"t"}`, engine.CodeRequestValidation, []string{"clientrequestid", "clientRequestId"}},
		{"unknown", `{"clientRequestId":"r","taskType":"t","x":1,"y":{}}`, engine.CodeRequestValidation, []string{"x", "y"}},
		{"empty text", `{"clientRequestId":"","taskType":""}`, engine.CodeRequestValidation, []string{"clientRequestId", "taskType"}},
		{"too long", `{"clientRequestId":"` + strings.Repeat("x", 256) + `","taskType":"` + strings.Repeat("x", 1<<20) + `"}`,
			engine.CodeRequestValidation, []string{"clientRequestId", "taskType"}},
		{"half a surrogate pair", `{"clientRequestId":"\ud83d","taskType":"\ude00"}`, engine.CodeRequestValidation, []string{"clientRequestId", "taskType"}},
		{"two high halves", `{"clientRequestId":"\ud83d\ud83d","taskType":"t"}`, engine.CodeRequestValidation, []string{"clientRequestId"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := parseCreate([]byte(tt.body))
			if got := engine.CodeOf(err); got != tt.code {
				t.Fatalf("code %q, want %q: %v", got, tt.code, err)
			}
			if got := fieldsOf(err); !reflect.DeepEqual(got, tt.fields) {
				t.Errorf("fields %q, want %q", got, tt.fields)
			}
			if err == nil && (req.ClientRequestID == "" || req.TaskType == "") {
				t.Errorf("lost a field: %+v", req)
			}
		})
	}
}

// A body with a great many wrong fields must not be answered with more than it
// was.
func TestParseCreateBoundsTheList(t *testing.T) {
	var body strings.Builder
	body.WriteString(`{"` + strings.Repeat("k", 1<<20) + `":1`)
	for i := range 20_000 {
		body.WriteString(`,"k` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26%50) + "-" + strings.Repeat("z", i/1300) + `":1`)
	}
	body.WriteByte('}')
	_, err := parseCreate([]byte(body.String()))
	var e *engine.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 || len(e.Fields) > maxFieldErrors || len(e.Fields[0].Field) > 100 {
		t.Fatalf("not bounded: %.200v", err)
	}
}

// What is kept must not be the request's memory.
func TestParseCreateKeepsNothing(t *testing.T) {
	body := []byte(`{"clientRequestId":"rrrr","taskType":"tttt","input":{"a":1},"metadata":{"b":2}}`)
	req, err := parseCreate(body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = '!'
	}
	if req.ClientRequestID != "rrrr" || req.TaskType != "tttt" || string(req.Input) != `{"a":1}` || string(req.Metadata) != `{"b":2}` {
		t.Errorf("changed with the body: %+v", req)
	}
}

func TestParseCancel(t *testing.T) {
	for body, want := range map[string]struct {
		reason string
		code   engine.Code
	}{
		`{}`:                     {"", ""},
		`{"reason":"no longer"}`: {"no longer", ""},
		`{"reason":""}`:          {"", ""},
		`{"reason":null}`:        {"", ""},
		` null `:                 {"", ""},
		`{"reason":5}`:           {"", engine.CodeRequestValidation},
		`{"Reason":"x"}`:         {"", engine.CodeRequestValidation},
		`{"reason":"x","y":1}`:   {"x", engine.CodeRequestValidation},
		`[]`:                     {"", engine.CodeRequestValidation},
		`{"reason":"x"`:          {"", engine.CodeInvalidRequest},
		`{"reason":"` + strings.Repeat("é", 1000) + `"}`: {strings.Repeat("é", 1000), ""},
		`{"reason":"` + strings.Repeat("é", 1001) + `"}`: {"", engine.CodeRequestValidation},
	} {
		reason, err := parseCancel([]byte(body))
		if engine.CodeOf(err) != want.code || err == nil && reason != want.reason {
			t.Errorf("%.40s: %q, %v", body, reason, err)
		}
	}
}

// FuzzObjectMembers compares with encoding/json: what one takes the other
// takes, and the members are the same.
func FuzzObjectMembers(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":{"b":[1,2,"]}"]},"c":"\\"}`, `{"a":-1.5e3,"b":true ,"c" : null}`, `[]`, `1`, `"x"`,
		`{"\u0061":1,"b":"\ud800"}`, "{\"a\":\"\xff\"}", "\xef\xbb\xbf{}", `{"a":1}x`, `{"a":1,"a":2}`, ``, ` `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		members, err := objectMembers(doc)
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal(doc, &want)
		if err != nil {
			if engine.CodeOf(err) != engine.CodeInvalidRequest && !errors.Is(err, errNotObject) {
				t.Fatalf("unexpected error: %v", err)
			}
			return
		}
		if wantErr != nil || !utf8.Valid(doc) || len(members) != len(want) {
			t.Fatalf("took %q: %v; %d members, want %d", doc, wantErr, len(members), len(want))
		}
		for _, m := range members {
			if string(want[m.name]) != string(m.value) {
				t.Fatalf("%q: %q is %q, want %q", doc, m.name, m.value, want[m.name])
			}
		}
	})
}

// FuzzParseCreate looks for anything but a clear answer.
func FuzzParseCreate(f *testing.F) {
	f.Add([]byte(`{"clientRequestId":"r","taskType":"t","input":{"a":1}}`))
	f.Add([]byte(`{"clientRequestId":"\ud800","taskType":5,"x":[]}`))
	f.Add([]byte(`{"clientRequestId":"r\u0000\r\nX: y","taskType":"t"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		req, err := parseCreate(doc)
		if err != nil {
			if s := httpStatus(engine.CodeOf(err)); s != 400 && s != 422 {
				t.Fatalf("status %d: %v", s, err)
			}
			return
		}
		for _, s := range []string{req.ClientRequestID, req.TaskType} {
			if n := utf8.RuneCountInString(s); !utf8.ValidString(s) || n < 1 || n > 255 {
				t.Fatalf("took %q", s)
			}
		}
		for _, raw := range []json.RawMessage{req.Input, req.Metadata} {
			if raw != nil && (!json.Valid(raw) || raw[0] != '{') {
				t.Fatalf("took %q", raw)
			}
		}
	})
}

func TestParseAction(t *testing.T) {
	for body, want := range map[string]struct {
		code   engine.Code
		fields string
	}{
		`{"clientActionId":"a","suspendId":"s","actionType":"t"}`:                                     {"", ""},
		`{ "payload":{"a":[1]},"metadata":{},"actionType":"t","suspendId":"s","clientActionId":"ä" }`: {"", ""},
		`{"clientActionId":"a","suspendId":"s","actionType":"t","actionType":"u"}`:                    {engine.CodeInvalidRequest, ""},
		`{"clientActionId":"a"`: {engine.CodeInvalidRequest, ""},
		`null`:                  {engine.CodeRequestValidation, ""},
		`{}`:                    {engine.CodeRequestValidation, "clientActionId suspendId actionType"},
		`{"clientActionId":"","suspendId":7,"actionType":null,"payload":"{}","metadata":1,"x":1}`: {
			engine.CodeRequestValidation, "clientActionId suspendId actionType payload metadata x"},
	} {
		req, err := parseAction([]byte(body))
		if engine.CodeOf(err) != want.code || strings.Join(fieldsOf(err), " ") != want.fields {
			t.Errorf("%s: %v %q", body, err, fieldsOf(err))
		}
		if err == nil && (req.SuspendID != "s" || req.ActionType != "t") {
			t.Errorf("%s: %+v", body, req)
		}
	}
}

func FuzzParseAction(f *testing.F) {
	f.Add([]byte(`{"clientActionId":"a","suspendId":"s","actionType":"t","payload":{"a":1},"metadata":{}}`))
	f.Add([]byte(`{"clientActionId":"\ud83d\ude00","suspendId":1}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		kept := string(doc)
		req, err := parseAction(doc)
		if err != nil {
			if s := httpStatus(engine.CodeOf(err)); s != 400 && s != 422 {
				t.Fatalf("%q: %v", doc, err)
			}
			return
		}
		clear(doc)
		for _, s := range []string{req.ClientActionID, req.SuspendID, req.ActionType} {
			if n := utf8.RuneCountInString(s); !utf8.ValidString(s) || n < 1 || n > 255 {
				t.Fatalf("took %q of %q", s, kept)
			}
		}
		for _, o := range []json.RawMessage{req.Payload, req.Metadata} {
			if o != nil && (!json.Valid(o) || o[0] != '{') {
				t.Fatalf("took %q of %q", o, kept)
			}
		}
	})
}
