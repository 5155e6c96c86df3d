package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func golden(t testing.TB, pattern string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "..", "..", "protocol", "golden", pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden messages %s: %v", pattern, err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(path)] = b
	}
	return all
}

func TestGoldenEvents(t *testing.T) {
	for name, body := range golden(t, "event.*.json") {
		var want struct {
			Type, TaskID, EventID string
			CreatedAt             time.Time
			Payload               json.RawMessage
		}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(name, err)
		}
		var e wire.Event
		if err := wire.ParseEvent(body, &e); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := fmt.Sprintf("%s %s %d-%d %d %s", e.Type, e.TaskID, e.Millis, e.Ordinal, e.Created, e.Payload)
		if expected := fmt.Sprintf("%s %s %s %d %s", want.Type, want.TaskID, want.EventID, want.CreatedAt.UnixMicro(), want.Payload); got != expected {
			t.Errorf("%s: got %s, want %s", name, got, expected)
		}
	}
}

func TestGoldenNotices(t *testing.T) {
	gaps, closings := 0, 0
	for _, pattern := range []string{"sse-heartbeat.*.json", "ws-server-frame.*.json"} {
		for name, body := range golden(t, pattern) {
			if name == "ws-server-frame.event.json" {
				continue
			}
			n, err := wire.ParseNotice(body)
			if err != nil || n.Type == "" {
				t.Errorf("%s: %+v, %v", name, n, err)
			}
			if n.Gap != nil {
				gaps++
				if strings.Contains(name, "gap") && n.Gap.Reason == "" {
					t.Errorf("%s: %+v", name, n.Gap)
				}
			}
			if n.Closing != nil && n.Closing.RetryAfterMs > 0 {
				closings++
			}
		}
	}
	if gaps < 3 || closings < 2 {
		t.Errorf("%d gaps, %d closings", gaps, closings)
	}
}

func TestEventsThatAreNone(t *testing.T) {
	const good = `{"type":"TASK_MESSAGE","taskId":"t","eventId":"5-1","createdAt":"2026-01-01T00:00:00.000000Z","payload":{}}`
	var e wire.Event
	if err := wire.ParseEvent([]byte(good), &e); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`,"payload":{}`, ``},
		{`"payload":{}`, `"payload":{},"more":1`},
		{`"payload":{}`, `"payload":{},"type":"TASK_MESSAGE"`},
		{`"5-1"`, `"5"`}, {`"5-1"`, `"5-0"`}, {`"5-1"`, `"-1"`}, {`"5-1"`, `"5-1x"`}, {`"5-1"`, `5`},
		{`"5-1"`, `"5-99999999999999999999"`},
		{`00.000000Z`, `00Z`}, {`00.000000Z`, `00.000000+`}, {`-01-01T`, `-13-01T`}, {`T00:`, `T24:`},
		{`"t"`, `"t\"`}, {`"t"`, `"\u0074"`}, {`}}`, `}`}, {`}}`, `}} x`}, {`{}`, `{"a":"}`}, {`{"type"`, `["type"`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if err := wire.ParseEvent([]byte(bad), &e); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}

func TestText(t *testing.T) {
	for payload, want := range map[string]string{
		`{"message":"plain"}`:                  "plain true",
		`{"level":"info","message":"b\"c"}`:    `b\"c false`,
		`{ "message" : "" , "x":[{"a":"]"}] }`: " true",
	} {
		e := wire.Event{Payload: []byte(payload)}
		text, plain, err := e.Text()
		if got := fmt.Sprintf("%s %v", text, plain); got != want || err != nil {
			t.Errorf("%s: %q, %v", payload, got, err)
		}
	}
	for _, payload := range []string{`{}`, `{"message":5}`, `[]`, `{"message":"a"`} {
		e := wire.Event{Payload: []byte(payload)}
		if _, _, err := e.Text(); err == nil {
			t.Errorf("taken: %s", payload)
		}
	}
}

func TestTimesAreThoseOfTheStandardLibrary(t *testing.T) {
	const form = "2006-01-02T15:04:05.000000Z"
	for at := time.Date(1969, 12, 30, 1, 2, 3, 4000, time.UTC); at.Year() < 2110; at = at.Add(1717 * time.Hour) {
		got, err := wire.ParseTime([]byte(at.Format(form)))
		if err != nil || got != at.UnixMicro() {
			t.Fatalf("%v: %d, want %d: %v", at, got, at.UnixMicro(), err)
		}
	}
}

func TestHead(t *testing.T) {
	const text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\ntransfer-encoding: Chunked\r\nRetry-After: 7\r\n\r\nrest"
	for n := range len(text) - len("rest") {
		if _, size, err := wire.ParseHead([]byte(text[:n])); size != 0 || err != nil {
			t.Fatalf("%d bytes: %d, %v", n, size, err)
		}
	}
	h, n, err := wire.ParseHead([]byte(text))
	if err != nil || n != len(text)-4 || h.Status != 200 || !h.Chunked || h.ContentType != "text/event-stream" || h.RetryAfter != 7 {
		t.Errorf("%+v, %d, %v", h, n, err)
	}
	for _, bad := range []string{"nonsense\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200\r\nx\r\n\r\n", "HTTP/2 200\r\n\r\n", strings.Repeat("x", wire.MaxHead+1)} {
		if _, _, err := wire.ParseHead([]byte(bad)); err == nil {
			t.Errorf("taken: %.40q", bad)
		}
	}
}

// sseOf reads a body in pieces and writes down what it was given.
func sseOf(plain bool, pieces ...[]byte) (string, error) {
	var out strings.Builder
	s := wire.SSE{Plain: plain}
	for _, p := range pieces {
		// What is read must not depend on the buffer afterwards.
		p = bytes.Clone(p)
		err := s.Feed(p, func(b *wire.Block) bool {
			fmt.Fprintf(&out, "id=%q name=%q data=%q retry=%d comment=%v\n", b.ID, b.Name, b.Data, b.Retry, b.Comment)
			return true
		})
		if err != nil {
			return out.String(), err
		}
		for i := range p {
			p[i] = '#'
		}
	}
	fmt.Fprintf(&out, "ended=%v partial=%v\n", s.Ended(), s.Partial())
	return out.String(), nil
}

func chunks(texts ...string) []byte {
	var b []byte
	for _, text := range texts {
		b = fmt.Appendf(b, "%x\r\n%s\r\n", len(text), text)
	}
	return b
}

func TestGoldenStreams(t *testing.T) {
	for name, body := range golden(t, "*.sse") {
		got, err := sseOf(false, append(chunks(string(body)), "0\r\n\r\n"...))
		if err != nil || !strings.Contains(got, "ended=true partial=false") {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestSSE(t *testing.T) {
	body := append(chunks("retry: 20\n: hi\n\n", "id: 5-1\nda", "ta: one\n\nid: 5-2\r\ndata: two\r\n\r\n", ": c\n\n", "event: gap\ndata:a\ndata: b\n\n"), "0;x=y\r\nTrailer: z\r\n\r\n"...)
	want := `id="" name="" data="" retry=20 comment=false
id="5-1" name="" data="one" retry=-1 comment=false
id="5-2" name="" data="two" retry=-1 comment=false
id="" name="" data="" retry=-1 comment=true
id="" name="gap" data="a\nb" retry=-1 comment=false
ended=true partial=false
`
	got, err := sseOf(false, body)
	if err != nil || got != want {
		t.Errorf("got\n%swant\n%s%v", got, want, err)
	}
	// The same in pieces of every size.
	for n := 1; n < len(body); n++ {
		got, err := sseOf(false, slices.Collect(slices.Chunk(body, n))...)
		if err != nil || got != want {
			t.Fatalf("in pieces of %d: got\n%s%v", n, got, err)
		}
	}
}

func TestSSEBroken(t *testing.T) {
	for _, bad := range []string{"x\r\n", "\r\n", "5\n", "1\r\nab", "1\r\na\rx", "fffffffff\r\n", "0\r\n\rx", "0\r\n\r\nmore", "2 \rx"} {
		if got, err := sseOf(false, []byte(bad)); err == nil {
			t.Errorf("taken: %q: %s", bad, got)
		}
	}
	if _, err := sseOf(true, bytes.Repeat([]byte("x"), wire.MaxUnit+1)); err == nil {
		t.Error("an endless line is taken")
	}
}

// FuzzSSE holds the reader against itself: what it reads must not depend on
// how the bytes are cut.
func FuzzSSE(f *testing.F) {
	f.Add(append(chunks("id: 1\ndata: x\n\n", "data: y\n\n"), "0\r\n\r\n"...), uint8(3), uint8(9), false)
	f.Add([]byte("id: 1\r\ndata: x\r\n\r\n\n\ndata\n\n\r\n\r\n"), uint8(1), uint8(2), true)
	f.Add([]byte("\n\n\r\n"), uint8(1), uint8(1), true)
	f.Fuzz(func(t *testing.T, body []byte, a, b uint8, plain bool) {
		whole, wholeErr := sseOf(plain, body)
		i := min(int(a), len(body))
		j := min(i+int(b), len(body))
		for _, pieces := range [][][]byte{{body[:i], body[i:j], body[j:]}, slices.Collect(slices.Chunk(body, 1+int(a)%7))} {
			got, err := sseOf(plain, pieces...)
			if (err != nil) != (wholeErr != nil) || err == nil && got != whole {
				t.Errorf("%q: as a whole\n%s%v\nin pieces %q\n%s%v", body, whole, wholeErr, pieces, got, err)
			}
		}
	})
}

func wsOf(pieces ...[]byte) (string, error) {
	var out strings.Builder
	var w wire.WS
	for _, p := range pieces {
		p = bytes.Clone(p)
		err := w.Feed(p, func(op byte, payload []byte) bool {
			fmt.Fprintf(&out, "%d %q\n", op, payload)
			return true
		})
		if err != nil {
			return out.String(), err
		}
		for i := range p {
			p[i] = '#'
		}
	}
	fmt.Fprintf(&out, "partial=%v\n", w.Partial())
	return out.String(), nil
}

func TestWS(t *testing.T) {
	long := strings.Repeat("x", 300)
	var body []byte
	body = append(body, "\x81\x02hi"...)
	body = append(append(body, 0x81, 126, 1, 44), long...)
	body = append(append(body, 0x81, 127, 0, 0, 0, 0, 0, 0, 0, 3), "abc"...)
	body = append(body, "\x01\x01a\x89\x01p\x00\x01b\x80\x01c"...)
	body = append(body, "\x8a\x00\x88\x02\x03\xe8"...)
	want := "1 \"hi\"\n1 \"" + long + "\"\n1 \"abc\"\n9 \"p\"\n1 \"abc\"\n10 \"\"\n8 \"\\x03\\xe8\"\npartial=false\n"
	for n := 1; n <= len(body); n++ {
		got, err := wsOf(slices.Collect(slices.Chunk(body, n))...)
		if err != nil || got != want {
			t.Fatalf("in pieces of %d: got\n%s%v", n, got, err)
		}
	}
	for _, bad := range []string{"\x81\x80", "\xc1\x00", "\x82\x00", "\x00\x00", "\x01\x00\x81\x00", "\x09\x00", "\x89\x7e\x00\x80", "\x83\x00", "\x81\x7f\x7f\x00\x00\x00\x00\x00\x00\x00"} {
		if got, err := wsOf([]byte(bad)); err == nil {
			t.Errorf("taken: %q: %s", bad, got)
		}
	}
}

func FuzzWS(f *testing.F) {
	f.Add([]byte("\x81\x02hi\x89\x01p\x88\x02\x03\xe8"), uint8(3), uint8(2))
	f.Add([]byte("\x01\x01a\x00\x01b\x80\x00"), uint8(1), uint8(1))
	f.Fuzz(func(t *testing.T, body []byte, a, b uint8) {
		whole, wholeErr := wsOf(body)
		i := min(int(a), len(body))
		j := min(i+int(b), len(body))
		for _, pieces := range [][][]byte{{body[:i], body[i:j], body[j:]}, slices.Collect(slices.Chunk(body, 1+int(a)%7))} {
			got, err := wsOf(pieces...)
			if (err != nil) != (wholeErr != nil) || err == nil && got != whole {
				t.Errorf("%q: as a whole\n%s%v\nin pieces %q\n%s%v", body, whole, wholeErr, pieces, got, err)
			}
		}
	})
}

func TestClientFrames(t *testing.T) {
	for _, n := range []int{0, 5, 125, 126, 300} {
		payload := bytes.Repeat([]byte("y"), n)
		b := wire.AppendFrame(nil, wire.OpText, payload)
		if b[0] != 0x81 || b[1]&0x80 == 0 || !bytes.HasSuffix(b, payload) {
			t.Errorf("%d: % x", n, b[:min(len(b), 12)])
		}
	}
}

// FuzzEvent holds the event parser against encoding/json: what it takes is
// JSON with those values.
func FuzzEvent(f *testing.F) {
	for _, body := range golden(f, "event.*.json") {
		f.Add(body)
	}
	f.Add([]byte(`{"type":"TASK_MESSAGE","taskId":"t","eventId":"5-1","createdAt":"2026-01-01T00:00:00.000000Z","payload":{"message":"a\\\"b"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var e wire.Event
		if err := wire.ParseEvent(body, &e); err != nil {
			return
		}
		_, _, _ = e.Text()
		var want map[string]json.RawMessage
		if err := json.Unmarshal(body, &want); err != nil {
			return // brackets and strings are all it looks at inside a payload
		}
		var taskID string
		if err := json.Unmarshal(want["taskId"], &taskID); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if len(want) == 5 && taskID != strings.ToValidUTF8(string(e.TaskID), "\ufffd") && taskID == string(e.TaskID) {
			t.Errorf("%s: task %q", body, e.TaskID)
		}
	})
}

func TestParsingAllocatesNothing(t *testing.T) {
	event := []byte(`{"type":"TASK_MESSAGE","taskId":"t","eventId":"5-1","createdAt":"2026-01-01T00:00:00.000000Z","payload":{"message":"abc"}}`)
	stream := chunks("id: 5-1\ndata: " + string(event) + "\n\n")
	frames := append([]byte{0x81, byte(len(event))}, event...)
	var s wire.SSE
	var w wire.WS
	var e wire.Event
	seen := 0
	block := func(b *wire.Block) bool {
		seen++
		return wire.ParseEvent(b.Data, &e) == nil
	}
	frame := func(_ byte, payload []byte) bool {
		seen++
		return wire.ParseEvent(payload, &e) == nil
	}
	n := testing.AllocsPerRun(200, func() {
		_ = s.Feed(stream, block)
		_ = w.Feed(frames, frame)
		// Cut in two: what is kept has its buffer from the first time on.
		_ = s.Feed(stream[:40], block)
		_ = s.Feed(stream[40:], block)
		_ = w.Feed(frames[:40], frame)
		_ = w.Feed(frames[40:], frame)
	})
	if n > 0 || seen < 800 {
		t.Errorf("%v allocations, %d events", n, seen)
	}
}
