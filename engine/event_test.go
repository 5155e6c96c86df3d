package engine_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var sample = engine.Event{
	ID:        engine.EventID{Millis: 1767225600000, Ordinal: 7},
	TaskID:    "0123456789abcdef",
	Type:      engine.TypeMessage,
	CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", -3600)),
	Payload:   json.RawMessage(`{"message":"hello"}`),
}

func TestEventJSON(t *testing.T) {
	const want = `{"type":"TASK_MESSAGE","taskId":"0123456789abcdef","eventId":"1767225600000-7",` +
		`"createdAt":"2026-01-02T04:04:05.000006Z","payload":{"message":"hello"}}`
	if got := string(sample.AppendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if b, err := json.Marshal(sample); err != nil || string(b) != want {
		t.Errorf("json.Marshal: %s, %v", b, err)
	}
}

func TestEventJSONAllocations(t *testing.T) {
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = sample.AppendJSON(buf[:0]) }); n != 0 {
		t.Errorf("AppendJSON into a buffer with room allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = sample.MarshalJSON() }); n != 1 {
		t.Errorf("MarshalJSON allocates %v times, want 1", n)
	}
}

// FuzzEventJSON: whatever payload passes the check, the event is one line of
// valid JSON with the same payload.
func FuzzEventJSON(f *testing.F) {
	f.Add(uint64(0), uint64(1), int64(0), []byte(`{"result":"a\nb"}`))
	f.Add(uint64(1767225600000), uint64(7), int64(1767225600123456), []byte("{\"result\": [\n1, \"\u2028\"]}"))
	f.Fuzz(func(t *testing.T, millis, ordinal uint64, micros int64, payload []byte) {
		checked, err := engine.CheckPayload(engine.TypeCompleted, payload)
		if err != nil {
			return
		}
		at := time.UnixMicro(micros % 253402300800000000) // to the year 9999
		if at.UTC().Year() < 0 {
			return
		}
		ev := engine.Event{
			ID: engine.EventID{Millis: millis, Ordinal: ordinal}, TaskID: sample.TaskID,
			Type: engine.TypeCompleted, CreatedAt: at, Payload: checked,
		}
		line := ev.AppendJSON(nil)
		if bytes.ContainsAny(line, "\r\n") || !utf8.Valid(line) {
			t.Fatalf("not one line of text: %q", line)
		}
		var got struct {
			Type, TaskID, EventID string
			CreatedAt             time.Time
			Payload               json.RawMessage
		}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&got); err != nil || dec.More() {
			t.Fatalf("%q: %v", line, err)
		}
		id, err := engine.ParseCursor(got.EventID)
		if err != nil || id != ev.ID || got.TaskID != ev.TaskID || !got.CreatedAt.Equal(at) || !bytes.Equal(got.Payload, checked) {
			t.Fatalf("%q is not %+v (%v)", line, ev, err)
		}
	})
}

func TestParseCursor(t *testing.T) {
	const biggest = "18446744073709551615"
	for in, want := range map[string]engine.EventID{
		"":                      {},
		"0":                     {},
		"0-0":                   {},
		"5":                     {Millis: 5},
		"5-7":                   {Millis: 5, Ordinal: 7},
		"005-007":               {Millis: 5, Ordinal: 7},
		biggest + "-" + biggest: {Millis: 1<<64 - 1, Ordinal: 1<<64 - 1},
	} {
		if got, err := engine.ParseCursor(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"-", "5-", "-5", "+5", "5-+6", "5-6-7", " 5", "5 ", "5_0", "0x5", "5.0", "a", "٣", "5\n", "5-\x00", "$", ">",
		"18446744073709551616", "5-18446744073709551616", strings.Repeat("0", 21), "5-" + strings.Repeat("0", 21),
		"hb-1", strings.Repeat("9", 1<<20),
	} {
		if got, err := engine.ParseCursor(in); engine.CodeOf(err) != engine.CodeInvalidRequest {
			t.Errorf("%.40q: %v, %v", in, got, err)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"", "5", "1767225600000-7", "-", "5-", "99999999999999999999-1", "05-0", "5-5-5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := engine.ParseCursor(s)
		if err != nil {
			if engine.CodeOf(err) != engine.CodeInvalidRequest {
				t.Fatal(err)
			}
			return
		}
		if s != "" && (s[0] < '0' || s[0] > '9' || len(s) > 41 || strings.Trim(s, "0123456789-") != "") {
			t.Fatalf("%q was taken as %v", s, id)
		}
		if again, err := engine.ParseCursor(id.String()); err != nil || again != id {
			t.Fatalf("%q: %v comes back as %v, %v", s, id, again, err)
		}
	})
}
