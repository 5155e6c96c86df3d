package engine

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// mergeable encodes payloads as a source would, with ordinals from 1.
func mergeable(tb testing.TB, payloads ...Payload) []fanout.Entry {
	tb.Helper()
	var events []Event
	for i, p := range payloads {
		typ, raw, err := EncodePayload(p)
		if err != nil {
			tb.Fatal(err)
		}
		events = append(events, Event{
			ID: EventID{Millis: 1000, Ordinal: uint64(i + 1)}, TaskID: "abcdefghij0123456789", Type: typ,
			CreatedAt: time.UnixMicro(int64(1000+i) * 1e6), Payload: raw,
		})
	}
	return entries(events)
}

func mergingSource(limits Limits) source {
	return source{&Engine{cfg: Config{Limits: limits.withDefaults()}}}
}

func decodeMessage(tb testing.TB, body []byte) (m Message, createdAt string, id string) {
	tb.Helper()
	var ev struct {
		Type, TaskID, EventID, CreatedAt string
		Payload                          Message
	}
	if err := json.Unmarshal(body, &ev); err != nil || ev.Type != string(TypeMessage) {
		tb.Fatalf("%s: %v", body, err)
	}
	return ev.Payload, ev.CreatedAt, ev.EventID
}

func TestMerge(t *testing.T) {
	const room = 64 << 10
	plain := func(texts ...string) (all []Payload) {
		for _, s := range texts {
			all = append(all, Message{Text: s})
		}
		return all
	}
	for name, c := range map[string]struct {
		payloads []Payload
		room     int
		n        int
		text     string
	}{
		"one":                {plain("a"), room, 1, "a"},
		"all":                {plain("a", "", "b c", `"quoted\`, "é\n\u2028</script>", "🙂"), room, 6, "ab c\"quoted\\é\n\u2028</script>🙂"},
		"up to another type": {append(plain("a", "b"), Progress{Percent: 1}, Message{Text: "c"}), room, 2, "ab"},
		"up to another level": {
			[]Payload{Message{Text: "a", Level: LevelInfo}, Message{Text: "b", Level: LevelInfo}, Message{Text: "c", Level: LevelDebug}},
			room, 2, "ab",
		},
		"looks like the end": {plain(`a"}}`, `","payload":{"message":"`, `b`), room, 3, `a"}}","payload":{"message":"b`},
		"as much as fits":    {plain(strings.Repeat("a", 400), strings.Repeat("b", 400), strings.Repeat("c", 400)), 1000, 2, strings.Repeat("a", 400) + strings.Repeat("b", 400)},
		"nothing fits":       {plain(strings.Repeat("a", 400), "b"), 100, 1, strings.Repeat("a", 400)},
	} {
		t.Run(name, func(t *testing.T) {
			all := mergeable(t, c.payloads...)
			e, n := mergingSource(Limits{}).Merge(all, c.room)
			if n != c.n || e.ID != all[n-1].ID || e.Final {
				t.Fatalf("%d entries, id %v, final %v; want %d", n, e.ID, e.Final, c.n)
			}
			m, created, id := decodeMessage(t, e.Body)
			_, wantCreated, wantID := decodeMessage(t, all[n-1].Body)
			if m.Text != c.text || m.Level != c.payloads[0].(Message).Level || created != wantCreated || id != wantID {
				t.Errorf("got %s", e.Body)
			}
		})
	}
}

// TestMergeLeavesAloneWhatItDoesNotKnow: payloads that a host wrote itself.
func TestMergeLeavesAloneWhatItDoesNotKnow(t *testing.T) {
	var events []Event
	for i, raw := range []string{
		`{"level":"info","message":"a"}`, `{"message":"a","level":"info","level":"info"}`, `{"message":"\ud83d"}`, `{"message":"\ude42"}`,
	} {
		events = append(events, Event{ID: EventID{Millis: 1, Ordinal: uint64(i + 1)}, TaskID: "abcdefghij0123456789", Type: TypeMessage, Payload: json.RawMessage(raw)})
	}
	all := entries(events)
	for i := range all {
		if e, n := mergingSource(Limits{}).Merge(all[i:], 1<<20); n != 1 || string(e.Body) != string(all[i].Body) {
			t.Errorf("%s became %s", all[i].Body, e.Body)
		}
	}
}

func TestMergeKeepsThePayloadLimit(t *testing.T) {
	text := strings.Repeat("x", 700)
	all := mergeable(t, Message{Text: text}, Message{Text: text}, Message{Text: text})
	e, n := mergingSource(Limits{PayloadBytes: 1500}).Merge(all, 1<<20)
	m, _, _ := decodeMessage(t, e.Body)
	if n != 2 || m.Text != text+text {
		t.Errorf("%d entries, %d bytes of text", n, len(m.Text))
	}
}

// FuzzMerge: the merged text is the texts in a row, whatever is in them.
func FuzzMerge(f *testing.F) {
	f.Add("a", "b", "c", uint8(0), 1000)
	f.Add(`"`, `\`, `\\"}}`, uint8(1), 1000)
	f.Add("\u2028", "\x00\x7f", `\ud83d`, uint8(7), 300)
	f.Add("🙂", "", `","level":"info"}}`, uint8(2), 10)
	f.Fuzz(func(t *testing.T, a, b, c string, levels uint8, room int) {
		var payloads []Payload
		for i, text := range []string{a, b, c} {
			m := Message{Text: strings.ToValidUTF8(text, "?")}
			if levels>>i&1 == 1 {
				m.Level = LevelInfo
			}
			if len(m.Text) > 10_000 {
				t.Skip("larger than a payload may be")
			}
			payloads = append(payloads, m)
		}
		all := mergeable(t, payloads...)
		e, n := mergingSource(Limits{}).Merge(all, room)
		if n < 1 || n > 3 || e.ID != all[n-1].ID || n > 1 && len(e.Body) > room {
			t.Fatalf("%d entries with %d bytes as %v", n, len(e.Body), e.ID)
		}
		want := Message{Level: payloads[0].(Message).Level}
		for _, p := range payloads[:n] {
			if p.(Message).Level != want.Level {
				t.Fatal("of different levels")
			}
			want.Text += p.(Message).Text
		}
		if got, _, _ := decodeMessage(t, e.Body); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}
