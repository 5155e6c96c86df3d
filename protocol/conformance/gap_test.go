package conformance_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

// view is what a client learns on one transport after a cursor: the gaps it
// was told of, and the events, to the end of a finished task.
type view struct {
	gaps   []client.Gap
	events []client.Event
}

// views asks on every transport.
func views(t *testing.T, c *client.Client, id, after string) map[string]view {
	t.Helper()
	all := map[string]view{}

	var poll view
	cursor := after
	for more := true; more; {
		page := c.Poll(id, client.Poll{After: cursor, Max: 7})
		if page.Gap != nil {
			poll.gaps = append(poll.gaps, *page.Gap)
		}
		poll.events = append(poll.events, page.Events...)
		if page.NextAfterEventID != nil {
			cursor = *page.NextAfterEventID
		}
		more = page.HasMore
	}
	all["poll"] = poll

	s := c.OpenSSE(id, client.SSE{After: after})
	if s.Status == 204 {
		all["SSE"] = view{}
	} else {
		h := s.ToEnd()
		if !errors.Is(h.End, io.EOF) {
			t.Errorf("SSE after %q: %v", after, h.End)
		}
		all["SSE"] = view{h.Gaps, h.Events}
	}

	told := c.SocketToEnd(id, after)
	ws := view{told.Gaps, told.Events}
	if len(told.Confirmed) == 1 && told.Confirmed[0].Gap != nil {
		ws.gaps = append([]client.Gap{*told.Confirmed[0].Gap}, ws.gaps...)
	}
	all["WebSocket"] = ws
	return all
}

func str(p *string) string {
	if p == nil {
		return "null"
	}
	return *p
}

// wantGap wants exactly one gap, before the first event.
func wantGap(t *testing.T, what string, gaps []client.Gap, reason, after, first string) {
	t.Helper()
	if after == "" {
		after = "null"
	}
	if len(gaps) != 1 {
		t.Errorf("%s: %d gaps, want one: %+v", what, len(gaps), gaps)
		return
	}
	if g := gaps[0]; g.Reason != reason || str(g.AfterEventID) != after || str(g.FirstEventID) != first {
		t.Errorf("%s: gap %s after %s, first %s; want %s after %s, first %s", what, g.Reason, str(g.AfterEventID), str(g.FirstEventID), reason, after, first)
	}
}

// recorded runs a task under a host that keeps few events, with a live
// follower that sees them all.
func recorded(t *testing.T, c *client.Client, count int) (string, []client.Event) {
	t.Helper()
	var id string
	var events []client.Event
	intime.Try(t, 300*time.Millisecond, func(delay time.Duration) bool {
		id = c.Start("tokens", fmt.Sprintf(`{"count":%d,"intervalMs":8,"size":5,"startDelayMs":%d}`, count, delay.Milliseconds()))
		s := c.Follow(id, client.SSE{})
		h := s.Events(1)
		arrived := time.Now()
		rest := s.ToEnd()
		if len(h.Events) != 1 || len(rest.Events) == 0 {
			t.Fatalf("%v, %v", h.End, rest.End)
		}
		if !arrived.Before(rest.Events[0].CreatedAt) {
			return false // no live follower: it came when the task was under way
		}
		events = append(h.Events, rest.Events...)
		client.CheckLog(t, id, events, 1)
		if len(h.Gaps)+len(rest.Gaps) > 0 {
			t.Fatalf("a live follower was told of gaps: %+v", rest.Gaps)
		}
		if !errors.Is(rest.End, io.EOF) {
			t.Fatal(rest.End)
		}
		return true
	})
	return id, events
}

func TestTrimmedLogs(t *testing.T) {
	t.Parallel()
	_, c := start(t, "-max-stream-length", "10")
	id, whole := recorded(t, c, 50)
	retained := c.Poll(id, client.Poll{Max: 500}).Events
	if len(retained) < 10 || len(retained) == len(whole) {
		t.Fatalf("%d of %d events are retained, want at least 10 and fewer than all", len(retained), len(whole))
	}
	client.CheckEqual(t, retained, whole[len(whole)-len(retained):])
	first := retained[0]
	for k := range len(whole) + 1 {
		after := ""
		if k > 0 {
			after = whole[k-1].EventID
		}
		for transport, v := range views(t, c, id, after) {
			what := fmt.Sprintf("%s after %q (event %d)", transport, after, k)
			// A cursor at the last trimmed event has missed nothing.
			if uint64(k)+1 >= first.Ordinal() {
				client.CheckEqual(t, v.events, whole[k:])
				if len(v.gaps) > 0 {
					t.Errorf("%s: %+v where nothing is missing", what, v.gaps)
				}
				continue
			}
			client.CheckEqual(t, v.events, retained)
			wantGap(t, what, v.gaps, "trimmed", after, first.EventID)
		}
	}
}

// A log that is trimmed while the task runs: whoever comes late is told at
// once, and then gets everything that follows.
func TestTrimmedLogOfARunningTask(t *testing.T) {
	_, c := start(t, "-max-stream-length", "10")
	// It ends when all have been seen to follow it.
	id := c.Start("tokens", `{"count":1000000,"intervalMs":10,"size":5}`)
	head := c.Follow(id, client.SSE{}).Events(60).Events
	sse := c.Follow(id, client.SSE{After: head[2].EventID})
	ws := c.Dial(nil)
	ws.Subscribe(id, head[2].EventID)
	began := time.Now()
	page := c.Poll(id, client.Poll{After: head[2].EventID, Wait: 30 * time.Second})
	switch {
	case len(page.Events) == 0 || time.Since(began) > busy(10*time.Second):
		t.Errorf("after %v: %+v", time.Since(began), page)
	case page.Gap == nil && page.Events[0].Ordinal() == head[2].Ordinal()+1:
		// A host that still has them from who followed just now may give them.
	case page.Gap == nil || page.Gap.Reason != "trimmed" || str(page.Gap.FirstEventID) != page.Events[0].EventID:
		t.Errorf("%+v", page)
	}
	heard, told := sse.Events(20), ws.Events(20)
	c.Cancel(id, "")
	restHeard, restTold := sse.ToEnd(), ws.ToEnd()
	heard.Gaps, heard.Events = append(heard.Gaps, restHeard.Gaps...), append(heard.Events, restHeard.Events...)
	told.Gaps, told.Events = append(told.Gaps, restTold.Gaps...), append(told.Events, restTold.Events...)
	for transport, v := range map[string]view{"SSE": {heard.Gaps, heard.Events}, "WebSocket": {told.Gaps, told.Events}} {
		if transport == "WebSocket" && len(told.Confirmed) == 1 && told.Confirmed[0].Gap != nil {
			v.gaps = append([]client.Gap{*told.Confirmed[0].Gap}, v.gaps...)
		}
		if len(v.gaps) != 1 || len(v.events) == 0 {
			t.Fatalf("%s: %d gaps, %d events", transport, len(v.gaps), len(v.events))
		}
		wantGap(t, transport, v.gaps, "trimmed", head[2].EventID, v.events[0].EventID)
		client.CheckLog(t, id, v.events, v.events[0].Ordinal())
		if !v.events[len(v.events)-1].Terminal() {
			t.Errorf("%s: the end is missing", transport)
		}
	}
}

func TestExpiredLogs(t *testing.T) {
	t.Parallel()
	_, c := start(t, "-stream-ttl", "5s") // the log is read before
	id, whole := c.Finished("tokens", `{"count":4,"intervalMs":0,"size":3}`)
	terminal := whole[len(whole)-1]
	eventually(t, "the log expires", func() bool {
		page := c.Poll(id, client.Poll{})
		return page.Gap != nil
	})
	for k := range len(whole) + 1 {
		after := ""
		if k > 0 {
			after = whole[k-1].EventID
		}
		for transport, v := range views(t, c, id, after) {
			what := fmt.Sprintf("%s after %q (event %d of %d)", transport, after, k, len(whole))
			switch k {
			case len(whole):
				if len(v.events)+len(v.gaps) > 0 {
					t.Errorf("%s: %+v", what, v)
				}
			case len(whole) - 1:
				// Nothing is missing: the terminal event is kept.
				client.CheckEqual(t, v.events, whole[k:])
				if len(v.gaps) > 0 {
					t.Errorf("%s: %+v where nothing is missing", what, v.gaps)
				}
			default:
				client.CheckEqual(t, v.events, []client.Event{terminal})
				wantGap(t, what, v.gaps, "expired", after, terminal.EventID)
			}
		}
	}
	s := c.Snapshot(id)
	if s.Status != "COMPLETED" || s.Terminal == nil {
		t.Fatalf("%+v", s)
	}
	client.CheckEqual(t, []client.Event{*s.Terminal}, []client.Event{terminal})
}

// What is open does not expire under anyone.
func TestOpenTasksDoNotExpire(t *testing.T) {
	t.Parallel()
	_, c := start(t, "-stream-ttl", "3s") // its end is read before
	id := c.Start("tokens", `{"count":3,"intervalMs":2700,"size":3}`)
	log := c.PollToEnd(id, "")
	client.CheckLog(t, id, log, 1)
	if len(log) != 5 {
		t.Errorf("%d events", len(log))
	}
}

// A cursor that the log does not reach: a failover lost what it names.
func TestCursorAheadOfAnOpenTask(t *testing.T) {
	c := connect(t)
	for _, ahead := range []string{"99999999999999-50", "99999999999999-2", "18446744073709551615-18446744073709551615"} {
		t.Run(ahead, func(t *testing.T) {
			c := c.For(t)
			id := c.Start("stall", `{}`)
			c.Poll(id, client.Poll{Wait: 10 * time.Second})

			page := c.Poll(id, client.Poll{After: ahead, Wait: 20 * time.Second})
			if page.Took > 10*time.Second || page.Gap == nil {
				t.Fatalf("a poll that waits in silence: %+v", page)
			}
			wantGap(t, "poll", []client.Gap{*page.Gap}, "ahead", ahead, "null")

			sse := c.Follow(id, client.SSE{After: ahead})
			ws := c.Dial(nil)
			ws.Subscribe(id, ahead)
			f := ws.Want("SUBSCRIPTION_CONFIRMED")
			var gaps []client.Gap
			for len(gaps) == 0 { // before anything else happens to the task
				m, err := sse.Next(client.Patience)
				if err != nil {
					t.Fatal(err)
				}
				if m.Gap != nil {
					gaps = append(gaps, *m.Gap)
				}
			}
			wantGap(t, "SSE", gaps, "ahead", ahead, "null")
			if f.Gap == nil {
				t.Fatalf("%s", f.Text)
			}
			wantGap(t, "WebSocket", []client.Gap{*f.Gap}, "ahead", ahead, "null")

			// Delivery goes on from what the log has after the last common ordinal.
			c.Cancel(id, "")
			heard, told := sse.ToEnd(), ws.ToEnd()
			client.CheckLog(t, id, heard.Events, 2)
			client.CheckLog(t, id, told.Events, 2)
			if len(heard.Events) != 1 || len(told.Events) != 1 || len(heard.Gaps)+len(told.Gaps) > 0 {
				t.Errorf("%+v, %+v", heard, told)
			}
		})
	}
}

// The next cursor after a gap with nothing behind it must lead on: a client
// that polls with what it was given must neither loop in gaps nor lose the next
// event.
func TestPollingOnAfterAnAheadGap(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	first := c.Poll(id, client.Poll{Wait: 10 * time.Second})
	page := c.Poll(id, client.Poll{After: "99999999999999-50"})
	if page.Gap == nil || page.NextAfterEventID == nil {
		t.Fatalf("%+v", page)
	}
	c.Cancel(id, "")
	eventually(t, "it is over", func() bool { return c.Snapshot(id).Status == "CANCELLED" })
	next := c.Poll(id, client.Poll{After: *page.NextAfterEventID})
	if len(next.Events) != 1 || next.Events[0].Type != "TASK_CANCELLED" {
		t.Errorf("after %s: %+v; the log began with %s", *page.NextAfterEventID, next, client.IDs(first.Events))
	}
}

// A cursor of another failed-over log: its ordinal exists, its milliseconds do
// not. Whatever it is taken for, there is no silence and no hole.
func TestCursorThatNamesNoEvent(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("tokens", `{"count":8,"intervalMs":3,"size":3}`)
	end := log[len(log)-1]
	for _, k := range []int{1, 4, 8} {
		millis, ordinal := log[k].Halves()
		for _, at := range [][2]uint64{{millis + 1, ordinal}, {millis - 1, ordinal}, {millis, ordinal + 100}, {millis, 0}} {
			cursor := fmt.Sprintf("%d-%d", at[0], at[1])
			if lastMillis, last := end.Halves(); at[0] > lastMillis || at[0] == lastMillis && at[1] >= last {
				continue // past the end of a finished task
			}
			for transport, v := range views(t, c, id, cursor) {
				if len(v.events) == 0 {
					t.Errorf("%s after %s: nothing, although the log goes on", transport, cursor)
					continue
				}
				from := v.events[0].Ordinal()
				client.CheckEqual(t, v.events, log[from-1:])
				// A client that trusts ordinals has seen up to its own; whoever skips
				// more must say so.
				if from > ordinal+1 && len(v.gaps) == 0 {
					t.Errorf("%s after %s: goes on with %s in silence", transport, cursor, v.events[0].EventID)
				}
			}
		}
	}
}
