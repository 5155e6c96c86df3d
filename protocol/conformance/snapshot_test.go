package conformance_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

func TestSnapshotOfAFinishedTask(t *testing.T) {
	c := connect(t)
	before := time.Now().Add(-time.Minute)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	s := c.Snapshot(id)
	if s.TaskID != id || s.TaskType != "greet" || s.Status != "COMPLETED" || s.ClientRequestID == "" || s.CancellationRequested || len(s.Suspensions) != 0 {
		t.Errorf("%+v", s)
	}
	if s.LastEventID == nil || *s.LastEventID != log[len(log)-1].EventID {
		t.Errorf("lastEventId %v, the log ends with %s", s.LastEventID, log[len(log)-1].EventID)
	}
	if s.Waiting || s.Terminal == nil {
		t.Fatalf("waiting %v, terminal %v", s.Waiting, s.Terminal)
	}
	client.CheckEqual(t, []client.Event{*s.Terminal}, log[len(log)-1:])
	if s.CreatedAt.Before(before) || s.UpdatedAt.Before(s.CreatedAt) || s.UpdatedAt.After(time.Now().Add(time.Minute)) {
		t.Errorf("created %v, updated %v", s.CreatedAt, s.UpdatedAt)
	}
}

// A late joiner starts from a snapshot and misses nothing.
func TestFollowingFromASnapshotGivesExactlyTheRest(t *testing.T) {
	c := connect(t)
	id := c.Start("tokens", `{"count":1000000,"intervalMs":20,"size":4}`)
	cursors := map[string]bool{}
	eventually(t, "eight different snapshots", func() bool {
		if s := c.Snapshot(id); s.LastEventID != nil {
			cursors[*s.LastEventID] = true
		}
		return len(cursors) == 8
	})
	c.Cancel(id, "")
	log := c.PollToEnd(id, "")
	for i, e := range log {
		if cursors[e.EventID] {
			client.CheckEqual(t, c.PollToEnd(id, e.EventID), log[i+1:])
			delete(cursors, e.EventID)
		}
	}
	if len(cursors) != 0 {
		t.Errorf("snapshots named events that the log does not have: %v", cursors)
	}
}

func TestSnapshotShowsOpenSuspensions(t *testing.T) {
	c := connect(t)
	id := c.Start("approval", `{"question":"Publish?"}`)
	h := c.Follow(id, client.SSE{}).Events(2)
	if len(h.Events) != 2 || h.Events[1].Type != "TASK_SUSPENDED" {
		t.Fatalf("%+v", h)
	}
	s := c.Snapshot(id)
	if len(s.Suspensions) != 1 {
		t.Fatalf("%d open suspensions", len(s.Suspensions))
	}
	if !s.Waiting || s.Status != "RUNNING" || s.Terminal != nil {
		t.Errorf("while it waits: waiting %v, status %s, terminal %v", s.Waiting, s.Status, s.Terminal)
	}
	var inEvent, inSnapshot any
	for from, into := range map[*any][]byte{&inEvent: h.Events[1].Payload, &inSnapshot: s.Suspensions[0]} {
		if err := json.Unmarshal(into, from); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(inEvent, inSnapshot) {
		t.Errorf("snapshot %s, event %s", s.Suspensions[0], h.Events[1].Payload)
	}
	c.Cancel(id, `{}`)
	log := c.PollToEnd(id, "")
	if last := log[len(log)-1]; last.Type != "TASK_CANCELLED" {
		t.Errorf("the end is %s", last.Type)
	}
	s = c.Snapshot(id)
	if len(s.Suspensions) != 0 || s.Waiting || s.Status != "CANCELLED" || !s.CancellationRequested || s.Terminal == nil {
		t.Fatalf("after the end: %+v", s)
	}
	client.CheckEqual(t, []client.Event{*s.Terminal}, log[len(log)-1:])
}

// TestSnapshotOfAFailedTask: a client that polls the snapshot, and follows no
// stream, learns why a task failed.
func TestSnapshotOfAFailedTask(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("fail", `{"code":"NO_PAPER","message":"<out> of paper","retryable":true}`)
	s := c.Snapshot(id)
	if s.Status != "FAILED" || s.Terminal == nil {
		t.Fatalf("%+v", s)
	}
	client.CheckEqual(t, []client.Event{*s.Terminal}, log[len(log)-1:])
}

func TestSuspensionExpires(t *testing.T) {
	c := connect(t)
	_, log := c.Finished("approval", `{"question":"Publish?","expiresInMs":300}`)
	var p struct{ Code string }
	if err := json.Unmarshal(log[len(log)-1].Payload, &p); err != nil || log[len(log)-1].Type != "TASK_FAILED" || p.Code != "SUSPENSION_EXPIRED" {
		t.Errorf("%+v %s", log[len(log)-1], log[len(log)-1].Payload)
	}
	var s struct{ ExpiresAt *time.Time }
	if err := json.Unmarshal(log[1].Payload, &s); err != nil || s.ExpiresAt == nil {
		t.Errorf("suspended without its end: %s", log[1].Payload)
	}
}
