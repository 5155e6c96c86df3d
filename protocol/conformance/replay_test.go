package conformance_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

// Replay from every position of a finished log gives exactly the suffix, on
// each transport.
func TestReplayFromEveryPosition(t *testing.T) {
	c := connect(t)
	for _, input := range []string{`{"count":0}`, `{"count":28,"intervalMs":0,"size":40}`} {
		id, log := c.Finished("tokens", input)
		for k := range log {
			after := ""
			if k > 0 {
				after = log[k-1].EventID
			}
			client.CheckEqual(t, c.PollToEnd(id, after), log[k:])

			sse := c.FollowToEnd(id, after)
			client.CheckEqual(t, sse.Events, log[k:])

			ws := c.SocketToEnd(id, after)
			client.CheckEqual(t, ws.Events, log[k:])
			checkConfirmed(t, ws, id, after)
			if len(sse.Gaps)+len(ws.Gaps) > 0 || ws.Confirmed[0].Gap != nil {
				t.Errorf("a gap after %q", after)
			}
		}
	}
}

// The same while the task is running: part is replayed, part is live.
func TestReplayFromEveryPositionOfARunningTask(t *testing.T) {
	c := connect(t)
	id := c.Start("tokens", `{"count":150,"intervalMs":8,"size":10}`)
	head := c.Follow(id, client.SSE{}).Events(30).Events
	client.CheckLog(t, id, head, 1)
	var wg sync.WaitGroup
	heard := make([]client.Heard, len(head))
	told := make([]client.Told, len(head))
	for k := range head {
		wg.Go(func() {
			s, err := c.TrySSE(id, client.SSE{After: head[k].EventID})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			heard[k] = s.ToEnd()
		})
		wg.Go(func() {
			s, err := c.TryDial(nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Cut()
			s.Subscribe(id, head[k].EventID)
			told[k] = s.ToEnd()
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	log := c.PollToEnd(id, "")
	client.CheckLog(t, id, log, 1)
	for k := range head {
		client.CheckEqual(t, heard[k].Events, log[k+1:])
		client.CheckEqual(t, told[k].Events, log[k+1:])
		if !errors.Is(heard[k].End, io.EOF) || told[k].Code != 1000 || len(heard[k].Gaps)+len(told[k].Gaps) > 0 {
			t.Errorf("after %s: %v, %v", head[k].EventID, heard[k].End, told[k].End)
		}
	}
}

// k events by SSE, the next by WebSocket, the rest by poll are the whole log.
func TestTransportsJoinOn(t *testing.T) {
	c := connect(t)
	_, want := c.Finished("tokens", `{"count":18,"intervalMs":0,"size":6}`)
	for k := 1; k < len(want); k++ {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			c := c.For(t)
			id := c.Start("tokens", `{"count":18,"intervalMs":10,"size":6}`)
			s := c.Follow(id, client.SSE{})
			log := s.Events(k).Events[:k]
			s.Close()
			if k+1 < len(want) {
				ws := c.Dial(nil)
				ws.Subscribe(id, log[k-1].EventID)
				log = append(log, ws.Events(1).Events...)
				ws.Cut()
			}
			if !log[len(log)-1].Terminal() {
				log = append(log, c.PollToEnd(id, log[len(log)-1].EventID)...)
			}
			client.CheckLog(t, id, log, 1)
			if len(log) != len(want) {
				t.Errorf("%d events, want %d", len(log), len(want))
			}
		})
	}
}

// Clients that lose their connection again and again, by any transport, see
// the whole log once.
func TestManyReconnects(t *testing.T) {
	c := connect(t)
	id := c.Start("tokens", `{"count":400,"intervalMs":3,"size":20}`)
	var wg sync.WaitGroup
	logs := make([][]client.Event, 12)
	for i := range logs {
		wg.Go(func() {
			logs[i] = wander(t, c, id, rand.New(rand.NewPCG(uint64(i), 1)))
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	log := c.PollToEnd(id, "")
	for _, got := range logs {
		client.CheckEqual(t, got, log)
	}
}

// wander follows a task to its end with a random transport for a random number
// of events at a time.
func wander(t *testing.T, c *client.Client, id string, rnd *rand.Rand) []client.Event {
	var log []client.Event
	for deadline := time.Now().Add(client.Patience); time.Now().Before(deadline); {
		after := ""
		if n := len(log); n > 0 {
			if log[n-1].Terminal() {
				return log
			}
			after = log[n-1].EventID
		}
		n := 1 + rnd.IntN(40)
		switch rnd.IntN(3) {
		case 0:
			s, err := c.TrySSE(id, client.SSE{After: after})
			if err != nil {
				t.Error(err)
				return log
			}
			h := s.Events(n)
			log = append(log, h.Events...)
			if rnd.IntN(2) == 0 {
				s.Reset()
			}
			s.Close()
			if len(h.Gaps) > 0 {
				t.Errorf("gaps: %+v", h.Gaps)
			}
		case 1:
			s, err := c.TryDial(nil)
			if err != nil {
				t.Error(err)
				return log
			}
			s.Subscribe(id, after)
			log = append(log, s.Events(n).Events...)
			s.Cut()
		case 2:
			page, err := c.TryPoll(id, client.Poll{After: after, Max: n, Wait: 100 * time.Millisecond})
			if err != nil {
				t.Error(err)
				return log
			}
			log = append(log, page.Events...)
		}
	}
	t.Error("no end")
	return log
}

// A late reconnect ends at once.
func TestNothingLeft(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	last := log[len(log)-1].EventID
	for _, after := range []string{last, "9999999999999-7", "18446744073709551615-18446744073709551615"} {
		s := c.OpenSSE(id, client.SSE{After: after})
		if s.Status != 204 || len(s.Header["Transfer-Encoding"]) > 0 {
			t.Errorf("SSE after %s: %d %v", after, s.Status, s.Header)
		}
		ws := c.SocketToEnd(id, after)
		if len(ws.Events) != 0 || len(ws.Gaps) != 0 || ws.Confirmed[0].Gap != nil {
			t.Errorf("WebSocket after %s: %+v", after, ws)
		}
		checkConfirmed(t, ws, id, after)
		if page := c.Poll(id, client.Poll{After: after}); len(page.Events) != 0 || page.Gap != nil {
			t.Errorf("poll after %s: %+v", after, page)
		}
	}
}

// checkConfirmed wants one confirmation that repeats the cursor as it was sent.
func checkConfirmed(t *testing.T, told client.Told, id, after string) {
	t.Helper()
	if len(told.Confirmed) != 1 || len(told.Ended)+len(told.Rejected) > 0 {
		t.Fatalf("%+v", told)
	}
	f := told.Confirmed[0]
	switch got := f.ReplayStartedAfterEventID; {
	case f.TaskID != id:
		t.Errorf("confirmed %s, asked for %s", f.TaskID, id)
	case after == "" && got != nil && *got != "", after != "" && (got == nil || *got != after):
		t.Errorf("replayStartedAfterEventId of %s, sent %q", f.Text, after)
	}
}
