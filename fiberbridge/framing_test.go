package fiberbridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http/httputil"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/protocol"
)

const framingTask = "0123456789abcdef"

func TestFramingSSEBytes(t *testing.T) {
	plain := sseFraming{comment: true, data: true}
	chunked := sseFraming{chunked: true, comment: true, data: true}
	entry := fanout.Entry{ID: fanout.ID{Millis: 1700000000000, Ordinal: 7}, Body: []byte(`{"type":"X"}`)}
	const event = "id: 1700000000000-7\ndata: {\"type\":\"X\"}\n\n"

	if got := string(plain.AppendEntry([]byte("before"), framingTask, entry)); got != "before"+event {
		t.Errorf("event: %q", got)
	}
	if got := string(chunked.AppendEntry(nil, framingTask, entry)); got != "28\r\n"+event+"\r\n" {
		t.Errorf("chunked event: %q", got)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const beat = `data: {"type":"HEARTBEAT","taskId":"0123456789abcdef","eventId":"hb-1767323045000000",` +
		`"createdAt":"2026-01-02T03:04:05.000000Z","payload":{"live":true}}` + "\n\n"
	for _, tc := range []struct {
		f    sseFraming
		want string
	}{
		{sseFraming{comment: true, data: true}, ": heartbeat\n" + beat},
		{sseFraming{comment: true}, ": heartbeat\n"},
		{sseFraming{data: true}, beat},
		{sseFraming{chunked: true}, ""},
	} {
		if got := string(tc.f.AppendHeartbeat(nil, framingTask, now)); got != tc.want {
			t.Errorf("%+v: %q", tc.f, got)
		}
	}
	if got := string(plain.appendOpening(nil, 2*time.Second)); got != "retry: 2000\n: connected\n" {
		t.Errorf("opening: %q", got)
	}
	if got := string(chunked.end()); got != "0\r\n\r\n" {
		t.Errorf("end: %q", got)
	}
	if got := plain.end(); len(got) != 0 {
		t.Errorf("end of HTTP/1.0: %q", got)
	}
}

// TestFramingGolden holds what has no time in it against the published messages.
func TestFramingGolden(t *testing.T) {
	f := sseFraming{comment: true}
	for name, got := range map[string][]byte{
		"opening.sse":           f.appendOpening(nil, 2*time.Second),
		"heartbeat-comment.sse": f.AppendHeartbeat(nil, framingTask, time.Now()),
	} {
		want, err := fs.ReadFile(protocol.Golden(), name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the bridge sends %q, the published message is %q", name, got, want)
		}
	}
}

func TestFramingNotices(t *testing.T) {
	gap := fanout.Gap{Reason: fanout.GapTrimmed, First: fanout.ID{Millis: 5, Ordinal: 3}}
	const gapJSON = `"gap":{"reason":"trimmed","afterEventId":null,"firstEventId":"5-3"}`
	const closingJSON = `"closing":{"reason":"server_draining","retryAfterMs":1500}`

	f := sseFraming{}
	text := string(f.AppendGap(nil, framingTask, gap))
	if !strings.HasPrefix(text, "event: gap\ndata: {\"type\":\"HEARTBEAT\"") ||
		!strings.Contains(text, `"payload":{"live":true,`+gapJSON+`}}`) || strings.Contains(text, "\nid:") {
		t.Errorf("gap: %q", text)
	}
	text = string(f.appendClosing(nil, framingTask, closingDraining, 1500*time.Millisecond))
	if !strings.HasPrefix(text, "retry: 1500\nevent: closing\ndata: {") || !strings.Contains(text, `{"live":true,`+closingJSON+`}}`) {
		t.Errorf("closing: %q", text)
	}

	for want, frame := range map[string][]byte{
		`{"type":"HEARTBEAT","taskId":"0123456789abcdef","live":true}`:                  wsFraming{}.AppendHeartbeat(nil, framingTask, time.Time{}),
		`{"type":"HEARTBEAT","taskId":"0123456789abcdef","live":true,` + gapJSON + `}`:  wsFraming{}.AppendGap(nil, framingTask, gap),
		`{"type":"HEARTBEAT","live":true,` + closingJSON + `}`:                          wsFraming{}.appendClosing(nil, "", closingDraining, 1500*time.Millisecond),
		`{"type":"SUBSCRIPTION_ENDED","taskId":"0123456789abcdef","reason":"terminal"}`: appendEnded(nil, framingTask, endedTerminal),
		`{"type":"SUBSCRIPTION_REJECTED","taskId":"a\"b","code":"TASK_NOT_FOUND","message":"no"}`: appendRejected(nil, `a"b`,
			engine.NewError(engine.CodeTaskNotFound, "no")),
	} {
		if got := string(onlyTextFrame(t, frame)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	cursor := ""
	for _, tc := range []struct {
		cursor *string
		gap    *engine.Gap
		want   string
	}{
		{nil, nil, `null,"live":true}`},
		{&cursor, nil, `"","live":true}`},
		{nil, &engine.Gap{Reason: engine.GapAhead, After: engine.EventID{Millis: 9, Ordinal: 9}},
			`null,"live":true,"gap":{"reason":"ahead","afterEventId":"9-9","firstEventId":null}}`},
	} {
		want := `{"type":"SUBSCRIPTION_CONFIRMED","taskId":"0123456789abcdef","replayStartedAfterEventId":` + tc.want
		if got := string(onlyTextFrame(t, appendConfirmed(nil, framingTask, tc.cursor, tc.gap))); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// onlyTextFrame returns the payload of the one frame that b must be.
func onlyTextFrame(t testing.TB, b []byte) []byte {
	t.Helper()
	payloads := textFrames(t, b)
	if len(payloads) != 1 {
		t.Fatalf("%d frames in %q", len(payloads), b)
	}
	return payloads[0]
}

// textFrames takes unmasked, unfragmented text frames apart (RFC 6455, 5.2).
func textFrames(t testing.TB, b []byte) (payloads [][]byte) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 2 || b[0] != 0x81 || b[1]&0x80 != 0 {
			t.Fatalf("not a text frame: %q", b)
		}
		n, head := int(b[1]), 2
		switch n {
		case 126:
			n, head = int(b[2])<<8|int(b[3]), 4
		case 127:
			n, head = 0, 10
			for _, c := range b[2:10] {
				n = n<<8 | int(c)
			}
		}
		if len(b) < head+n {
			t.Fatalf("frame of %d bytes is cut: %q", n, b)
		}
		payloads, b = append(payloads, b[head:head+n]), b[head+n:]
	}
	return payloads
}

// sseBlock is one dispatched block as a client reads it.
type sseBlock struct {
	id, event, data string
	retry           string
	comments        []string
}

// String keeps what a failed test prints readable.
func (b sseBlock) String() string {
	return fmt.Sprintf("{id %s, event %q, retry %q, comments %.100q, data %.300s}", b.id, b.event, b.retry, b.comments, b.data)
}

// parseSSE reads a stream as WHATWG HTML section 9.2.6 does, line ends of all
// three kinds included.
func parseSSE(text string) (blocks []sseBlock) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	var b sseBlock
	var data []string
	filled := false
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			if filled {
				b.data = strings.Join(data, "\n")
				blocks = append(blocks, b)
			}
			b, data, filled = sseBlock{}, nil, false
			continue
		}
		filled = true
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "":
			b.comments = append(b.comments, value)
		case "id":
			b.id = value
		case "event":
			b.event = value
		case "data":
			data = append(data, value)
		case "retry":
			b.retry = value
		}
	}
	return blocks
}

// FuzzFramingSSE: whatever the body and the key hold, the stream has the blocks
// that were meant, with the ids that were meant, and each a whole chunk.
func FuzzFramingSSE(f *testing.F) {
	f.Add([]byte(`{"a":1}`), "0123456789abcdef", uint64(1), uint64(2))
	f.Add([]byte("{\"a\":\n1}\r\n\r\nid: 9-9\ndata: forged\n\n"), "x\n\nevent: forged\n\n", uint64(1<<63), uint64(0))
	f.Add([]byte("\r\r0\r\n\r\n"), "\xff\"\\", uint64(0), uint64(1<<64-1))
	f.Fuzz(func(t *testing.T, body []byte, key string, millis, ordinal uint64) {
		id := fanout.ID{Millis: millis, Ordinal: ordinal}
		write := func(fr sseFraming) []byte {
			out := fr.appendOpening(nil, time.Second)
			out = fr.AppendGap(out, key, fanout.Gap{Reason: fanout.GapReason(key), After: id})
			out = fr.AppendEntry(out, key, fanout.Entry{ID: id, Body: body})
			out = fr.AppendHeartbeat(out, key, time.Unix(1, 0))
			return fr.appendClosing(out, key, closingReason(key), time.Second)
		}
		raw := write(sseFraming{comment: true, data: true})
		cr := sseFraming{chunked: true, comment: true, data: true}
		joined, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(append(write(cr), cr.end()...))))
		if err != nil {
			t.Fatalf("chunks: %v", err)
		}
		// The two were written at different microseconds: compare shapes.
		if len(joined) != len(raw) {
			t.Fatalf("chunked %q\nplain   %q", joined, raw)
		}
		blocks := parseSSE(string(raw))
		if len(blocks) != 4 { // comments and retry lines are none of their own
			t.Fatalf("%d blocks in %q", len(blocks), raw)
		}
		for i, b := range blocks {
			wantEvent, wantID := "", ""
			switch i {
			case 0:
				wantEvent = "gap"
			case 1:
				wantID = string(appendID(nil, id))
			case 3:
				wantEvent = "closing"
			}
			if b.event != wantEvent || b.id != wantID {
				t.Fatalf("block %d of %q: %+v", i, raw, b)
			}
			if i != 1 && !json.Valid([]byte(b.data)) {
				t.Fatalf("block %d is no JSON: %q", i, b.data)
			}
		}
		if json.Valid(body) && !sameJSON(t, body, []byte(blocks[1].data)) {
			t.Fatalf("body %q became %q", body, blocks[1].data)
		}
	})
}

// FuzzFramingWebSocket: whatever goes in, the frames are those that were meant,
// and text is UTF-8.
func FuzzFramingWebSocket(f *testing.F) {
	f.Add([]byte(`{"a":1}`), "0123456789abcdef", "5-1")
	f.Add([]byte("\xff\x81\x00"), "\x88\x00\"", "\xff")
	f.Add(bytes.Repeat([]byte("x"), 70000), strings.Repeat("y", 126), "")
	f.Fuzz(func(t *testing.T, body []byte, key, cursor string) {
		out := wsFraming{}.AppendEntry(nil, key, fanout.Entry{Body: body})
		out = wsFraming{}.AppendGap(out, key, fanout.Gap{Reason: fanout.GapReason(cursor)})
		out = wsFraming{}.AppendHeartbeat(out, key, time.Time{})
		out = append(out, wsFraming{}.appendClosing(nil, key, closingReason(cursor), time.Second)...)
		out = append(out, appendConfirmed(nil, key, &cursor, nil)...)
		out = append(out, appendRejected(nil, key, engine.NewError(engine.Code(cursor), cursor))...)
		out = append(out, appendEnded(nil, key, cursor)...)
		frames := textFrames(t, out)
		if len(frames) != 7 {
			t.Fatalf("%d frames", len(frames))
		}
		for i, p := range frames {
			if !utf8.Valid(p) {
				t.Fatalf("frame %d is not UTF-8: %q", i, p)
			}
			if i > 0 && !json.Valid(p) {
				t.Fatalf("frame %d is no JSON: %q", i, p)
			}
		}
		if utf8.Valid(body) && !bytes.Equal(frames[0], body) {
			t.Fatalf("body %q became %q", body, frames[0])
		}
	})
}

func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
