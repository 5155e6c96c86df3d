package conformance_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

// of picks the events of one task.
func of(id string, events []client.Event) []client.Event {
	var mine []client.Event
	for _, e := range events {
		if e.TaskID == id {
			mine = append(mine, e)
		}
	}
	return mine
}

func TestSocketFollowsManyTasks(t *testing.T) {
	t.Parallel()
	c := connect(t)
	// It keeps the socket open while the others are asked for, however long that
	// takes.
	open := c.Start("stall", `{}`)
	var ids []string
	for i := range 20 {
		ids = append(ids, c.Start("tokens", fmt.Sprintf(`{"count":%d,"intervalMs":4,"size":7,"startDelayMs":1000}`, 5+i)))
	}
	s := c.Dial(nil)
	s.Subscribe(open, "")
	s.Want("SUBSCRIPTION_CONFIRMED")
	s.Want("TASK_STARTED")
	for _, id := range ids {
		s.Subscribe(id, "")
	}
	told := s.Until(func(o client.Told) bool { return len(o.Ended) == len(ids) })
	if told.End != nil || len(told.Confirmed) != len(ids) || len(told.Rejected)+len(told.Gaps) > 0 {
		t.Fatalf("%d ended, %d confirmed: %+v", len(told.Ended), len(told.Confirmed), told.End)
	}
	for i, id := range ids {
		mine := of(id, told.Events)
		client.CheckLog(t, id, mine, 1)
		if len(mine) != 7+i || !mine[len(mine)-1].Terminal() {
			t.Errorf("task %d: %s", i, client.IDs(mine))
		}
	}
	for _, f := range told.Ended {
		if f.Reason != "terminal" {
			t.Errorf("%s", f.Text)
		}
	}
	// None left: 5 s later the socket closes.
	c.Cancel(open, "")
	s.Want("TASK_CANCELLED")
	s.Want("SUBSCRIPTION_ENDED")
	began := time.Now()
	rest := s.ToEnd()
	if took := time.Since(began); rest.Code != 1000 || took < 4*time.Second || took > busy(9*time.Second) {
		t.Errorf("closed with %d after %v: %+v", rest.Code, took, rest)
	}
}

// The order of one task's frames: confirmed, its events, ended.
func TestSocketFramesOfOneTaskAreInOrder(t *testing.T) {
	c := connect(t)
	open := c.Start("stall", `{}`)
	defer c.Cancel(open, "")
	over, log := c.Finished("greet", `{"name":"Ada"}`)
	s := c.Dial(nil)
	s.Subscribe(open, "")
	s.Want("SUBSCRIPTION_CONFIRMED")
	s.Want("TASK_STARTED")
	for _, k := range []int{0, 2, len(log)} {
		after := ""
		if k > 0 {
			after = log[k-1].EventID
		}
		s.Subscribe(over, after)
		if f := s.Want("SUBSCRIPTION_CONFIRMED"); f.TaskID != over || (after != "" && *f.ReplayStartedAfterEventID != after) {
			t.Errorf("%s", f.Text)
		}
		for _, want := range log[k:] {
			client.CheckEqual(t, []client.Event{*s.Want(want.Type).Event}, []client.Event{want})
		}
		if f := s.Want("SUBSCRIPTION_ENDED"); f.TaskID != over || f.Reason != "terminal" {
			t.Errorf("%s", f.Text)
		}
	}
	// The first subscription lives on.
	c.Cancel(open, "")
	s.Want("TASK_CANCELLED")
	s.Want("SUBSCRIPTION_ENDED")
}

// A client that asks for several tasks at once gets them all, also if the first
// one is over already: the socket does not close on what waits.
func TestSocketSubscribingToManyAtOnce(t *testing.T) {
	c := connect(t)
	var wire []byte
	want := map[string][]client.Event{}
	for range 8 {
		id, log := c.Finished("greet", `{"name":"Ada"}`)
		want[id] = log
		wire = append(wire, client.MaskedFrame(true, client.OpText, fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id))...)
	}
	s := c.DialRaw(t, nil, wire)
	got := map[string][]client.Event{}
	for ended := 0; ended < len(want); {
		opcode, payload, err := s.Read(client.Patience)
		if err != nil || opcode == client.OpClose {
			t.Fatalf("%d of %d ended, then opcode %d, %v", ended, len(want), opcode, err)
		}
		var e client.Event
		if err := json.Unmarshal(payload, &e); err != nil {
			continue // a ping
		}
		switch {
		case e.Type == "SUBSCRIPTION_ENDED":
			ended++
		case e.EventID != "":
			got[e.TaskID] = append(got[e.TaskID], e)
		}
	}
	for id, log := range want {
		client.CheckEqual(t, got[id], log)
	}
}

func TestSocketLaterSubscribeRefused(t *testing.T) {
	c := connect(t)
	open := c.Start("stall", `{}`)
	defer c.Cancel(open, "")
	other := c.As(subject())
	foreign := other.Start("stall", `{}`)
	defer other.Cancel(foreign, "")
	s := c.Dial(nil)
	s.Subscribe(open, "")
	s.Want("SUBSCRIPTION_CONFIRMED")
	s.Want("TASK_STARTED")
	for _, tc := range []struct{ id, after, code string }{
		{"aaaaaaaaaaaaaaaa", "", "TASK_NOT_FOUND"},
		{foreign, "", "TASK_NOT_FOUND"},
		{"no id", "", "TASK_NOT_FOUND"},
		{"\r\n\u2028<b>", "", "TASK_NOT_FOUND"},
		{open, "abc", "INVALID_REQUEST"},
		{open, "1-2-3", "INVALID_REQUEST"},
		{open, "99999999999999999999", "INVALID_REQUEST"},
	} {
		s.Subscribe(tc.id, tc.after)
		if f := s.Want("SUBSCRIPTION_REJECTED"); f.TaskID != tc.id || f.Code != tc.code {
			t.Errorf("%q after %q: %s", tc.id, tc.after, f.Text)
		}
	}
	// What was followed before still is.
	c.Cancel(open, `{"reason":"done"}`)
	s.Want("TASK_CANCELLED")
}

func TestSocketSubscribingAgainMovesTheCursor(t *testing.T) {
	c := connect(t)
	open := c.Start("approval", `{"question":"?"}`)
	defer c.Cancel(open, "")
	head := c.Follow(open, client.SSE{}).Events(2).Events

	s := c.Dial(nil)
	s.Subscribe(open, "")
	told := s.Events(2)
	client.CheckEqual(t, told.Events, head)
	// Back, to the middle, to the head, to the beginning.
	for _, k := range []int{1, 2, 0, 1} {
		after := ""
		if k > 0 {
			after = head[k-1].EventID
		}
		s.Subscribe(open, after)
		f := s.Want("SUBSCRIPTION_CONFIRMED")
		if after != "" && *f.ReplayStartedAfterEventID != after {
			t.Errorf("%s", f.Text)
		}
		for _, want := range head[k:] {
			client.CheckEqual(t, []client.Event{*s.Want(want.Type).Event}, []client.Event{want})
		}
	}
}

func TestSocketUnsubscribe(t *testing.T) {
	t.Parallel()
	c := connect(t)
	one, two, three := c.Start("stall", `{}`), c.Start("stall", `{}`), c.Start("stall", `{}`)
	s := c.Dial(nil)
	s.Subscribe(one, "")
	s.Want("SUBSCRIPTION_CONFIRMED")
	s.Want("TASK_STARTED")
	s.Subscribe(two, "")
	s.Want("SUBSCRIPTION_CONFIRMED")
	s.Want("TASK_STARTED")

	s.Unsubscribe("aaaaaaaaaaaaaaaa") // not followed: nothing happens
	s.Unsubscribe(one)
	if f := s.Want("SUBSCRIPTION_ENDED"); f.TaskID != one || f.Reason != "unsubscribed" {
		t.Errorf("%s", f.Text)
	}
	s.Unsubscribe(one) // again: nothing
	c.Cancel(one, "")
	c.PollToEnd(one, "")
	c.Cancel(two, "")
	if f := s.Want("TASK_CANCELLED"); f.Event.TaskID != two {
		t.Errorf("an event of what was dropped: %s", f.Text)
	}
	if f := s.Want("SUBSCRIPTION_ENDED"); f.TaskID != two || f.Reason != "terminal" {
		t.Errorf("%s", f.Text)
	}
	// Within the 5 s the socket may be used again.
	s.Subscribe(three, "")
	s.Want("SUBSCRIPTION_CONFIRMED")
	s.Want("TASK_STARTED")
	began := time.Now()
	if f, err := s.Next(7 * time.Second); err == nil && f.Type != "HEARTBEAT" {
		t.Errorf("%s", f.Text)
	} else if err != nil && time.Since(began) < 6*time.Second {
		t.Errorf("closed although it follows a task: %v", err)
	}
	c.Cancel(three, "")
}

// On a socket that dropped its only task there was an unsubscribe: it says so,
// and closes with 1000 after 5 s.
func TestSocketUnsubscribingTheOnlyTask(t *testing.T) {
	t.Parallel()
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	s := c.Dial(nil)
	s.Subscribe(id, "")
	s.Want("SUBSCRIPTION_CONFIRMED")
	s.Want("TASK_STARTED")
	s.Unsubscribe(id)
	s.Want("SUBSCRIPTION_ENDED")
	began := time.Now()
	if told, took := s.ToEnd(), time.Since(began); told.Code != 1000 || took < 4*time.Second || took > busy(9*time.Second) {
		t.Errorf("%+v after %v", told, took)
	}
}

func TestSocketSubscriptionLimit(t *testing.T) {
	c := connect(t)
	// Only open tasks keep their place. The demo host runs few at once, so most
	// of these wait in its queue.
	var open []string
	for range 65 {
		open = append(open, c.Start("stall", `{}`))
	}
	t.Cleanup(func() {
		for _, id := range open {
			c.Cancel(id, "")
		}
	})
	s := c.Dial(nil)
	for _, id := range open {
		s.Subscribe(id, "")
	}
	told := s.Until(func(o client.Told) bool { return len(o.Rejected) > 0 })
	if len(told.Confirmed) != 64 || len(told.Rejected) != 1 || told.Rejected[0].TaskID != open[64] {
		t.Fatalf("%d confirmed, rejected: %+v (%v)", len(told.Confirmed), told.Rejected, told.End)
	}
	// A place that becomes free can be taken.
	s.Unsubscribe(open[0])
	s.Subscribe(open[64], "")
	told = s.Until(func(o client.Told) bool { return len(o.Confirmed)+len(o.Rejected) > 0 })
	if len(told.Confirmed) != 1 {
		t.Errorf("%+v", told)
	}
}
