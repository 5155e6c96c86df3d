package rueidisstore

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func sameEvent(got, want engine.Event) bool {
	return got.ID == want.ID && got.TaskID == want.TaskID && got.Type == want.Type &&
		got.CreatedAt.Equal(want.CreatedAt) && bytes.Equal(got.Payload, want.Payload)
}

func FuzzBatch(f *testing.F) {
	f.Add("TASK_MESSAGE", `{"message":"a"}`, "TASK_COMPLETED", `{"result":null}`, int64(1), uint64(2), uint8(3))
	f.Add("", "", "ANOTHER_TYPE", "\x00\xff", int64(math.MinInt64), uint64(math.MaxUint64), uint8(255))
	f.Add("TASK_STARTED", strings.Repeat("x", 300), "TASK_STARTED", "{}", int64(-62135596800000000), uint64(0), uint8(0))
	f.Fuzz(func(t *testing.T, type1, payload1, type2, payload2 string, micros int64, ordinal uint64, n uint8) {
		var drafts []engine.Draft
		for i := range int(n) {
			d := engine.Draft{Type: engine.EventType(type1), CreatedAt: time.UnixMicro(micros).UTC(), Payload: []byte(payload1)}
			if i%2 == 1 {
				d = engine.Draft{Type: engine.EventType(type2), CreatedAt: time.UnixMicro(-micros).UTC(), Payload: []byte(payload2)}
			}
			drafts = append(drafts, d)
		}
		if ordinal < uint64(n) {
			ordinal = uint64(n)
		}
		e := encodeBatch(drafts)
		id := engine.EventID{Millis: 7, Ordinal: ordinal}
		events, err := decodeBatch(nil, "task", id, string(e.bytes), engine.EventID{}, math.MaxInt)
		if err != nil || len(events) != len(drafts) {
			t.Fatalf("%d events, %v, want %d", len(events), err, len(drafts))
		}
		if count, err := countOf(string(e.bytes)); err != nil || count != uint64(n) {
			t.Errorf("countOf gave %d, %v", count, err)
		}
		for i, d := range drafts {
			want := engine.Event{
				ID: engine.EventID{Millis: 7, Ordinal: ordinal - uint64(n) + 1 + uint64(i)}, TaskID: "task",
				Type: d.Type, CreatedAt: time.UnixMicro(d.CreatedAt.UnixMicro()), Payload: d.Payload,
			}
			if !sameEvent(events[i], want) {
				t.Errorf("event %d is %+v, want %+v", i, events[i], want)
			}
			if at := e.payloads[i]; string(e.bytes[at.from:at.to]) != string(d.Payload) {
				t.Errorf("payload %d is said to be at %v", i, at)
			}
		}
		// Cursor and limit cut out a part.
		for _, cut := range []struct{ after, limit int }{{0, 1}, {1, 1}, {int(n) / 2, 2}, {int(n), 1}} {
			after := engine.EventID{Millis: 7, Ordinal: ordinal - uint64(n) + uint64(cut.after)}
			part, err := decodeBatch(nil, "task", id, string(e.bytes), after, cut.limit)
			from := min(cut.after, len(events))
			want := events[from:min(from+cut.limit, len(events))]
			if after.Ordinal > ordinal { // n is 0 and the ordinals went around
				continue
			}
			if err != nil || len(part) != len(want) {
				t.Fatalf("after %d, limit %d: %d events, %v", cut.after, cut.limit, len(part), err)
			}
			for i := range part {
				if !sameEvent(part[i], want[i]) {
					t.Errorf("after %d: %+v, want %+v", cut.after, part[i], want[i])
				}
			}
		}
		// What scripts cut out as the terminal event is a batch of one.
		if n > 0 {
			end := "\x01\x01" + string(e.bytes[e.last:])
			last, err := decodeEnd("task", id.String(), end)
			if err != nil || !sameEvent(*last, events[n-1]) {
				t.Errorf("the last event is %+v, %v", last, err)
			}
		}
		// Nothing of it can be missing.
		for _, cut := range []int{0, 1, len(e.bytes) / 2, len(e.bytes) - 1} {
			if _, err := decodeBatch(nil, "task", id, string(e.bytes[:cut]), engine.EventID{}, 1); err == nil {
				t.Errorf("the first %d of %d bytes were taken", cut, len(e.bytes))
			}
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add("", uint64(1))
	f.Add("\x01\x00", uint64(0))
	f.Add("\x02\x00", uint64(0))
	f.Add("\x01\x01\x03\x02\x02{}", uint64(1))
	f.Add("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", uint64(math.MaxUint64))
	f.Add("\x01\x01\x00\xff\xff\xff\xff\x0f", uint64(1))
	f.Fuzz(func(t *testing.T, b string, ordinal uint64) {
		events, err := decodeBatch(nil, "t", engine.EventID{Millis: 1, Ordinal: ordinal}, b, engine.EventID{}, math.MaxInt)
		if err != nil {
			return
		}
		if count, err := countOf(b); err != nil || count != uint64(len(events)) {
			t.Errorf("countOf gave %d, %v for %d events", count, err, len(events))
		}
	})
}

func TestBatchRefused(t *testing.T) {
	one := string(encodeBatch([]engine.Draft{{Type: engine.TypeStarted, Payload: []byte("{}")}}).bytes)
	for name, c := range map[string]struct {
		batch   string
		ordinal uint64
		want    string
	}{
		"another format":       {"\x02" + one[1:], 1, "format 2"},
		"an unknown kind":      {"\x01\x01\x63\x00\x00", 1, "kind 99"},
		"more than the id has": {one, 0, "more events"},
		"something behind it":  {one + "x", 1, "cut short or damaged"},
		"nothing":              {"", 1, "cut short or damaged"},
	} {
		_, err := decodeBatch(nil, "t", engine.EventID{Millis: 1, Ordinal: c.ordinal}, c.batch, engine.EventID{}, 10)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
