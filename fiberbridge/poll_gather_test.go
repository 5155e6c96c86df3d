package fiberbridge

import (
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A client that polls a task of many events makes far fewer requests, and gets
// each once. The time to gather is the longest there is, so that a machine with
// much else to do finds the task busy, too.
func TestLongPollGathers(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.Poll.Gather = time.Second }})
	run := h.task(t)
	const events = 200
	go func() {
		for range events - 1 {
			run.Stream(engine.Message{Text: "x"})
			time.Sleep(5 * time.Millisecond)
		}
		run.Stream(engine.Completed{Result: "done"})
	}()
	var ids []string
	requests, cursor := 0, ""
	for over := false; !over; requests++ {
		c := h.get(t, pollPath(run.Task().ID)+"&afterEventId="+cursor, "Connection: close")
		var page pollPage
		body, err := io.ReadAll(c.body)
		if err == nil {
			err = json.Unmarshal(body, &page)
		}
		if err != nil || c.status != 200 {
			t.Fatalf("%d, %v: %.300s", c.status, err, body)
		}
		for _, ev := range page.Events {
			ids = append(ids, ev.EventID)
			over = over || ev.Type == "TASK_COMPLETED"
		}
		cursor = *page.NextAfterEventID
	}
	if want := h.ids(t, run.Task().ID); len(ids) != events || ids[0] != want[0] || ids[events-1] != want[events-1] {
		t.Errorf("%d events, %s to %s", len(ids), ids[0], ids[len(ids)-1])
	}
	if requests > events/10 {
		t.Errorf("%d requests for %d events", requests, events)
	}
}
