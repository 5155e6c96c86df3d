package conformance_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

func reason(t *testing.T, e client.Event) string {
	t.Helper()
	var p struct{ Reason string }
	if err := json.Unmarshal(e.Payload, &p); err != nil || e.Type != "TASK_CANCELLED" {
		t.Fatalf("%s %s %v", e.Type, e.Payload, err)
	}
	return p.Reason
}

func TestCancel(t *testing.T) {
	for name, tc := range map[string]struct{ body, want string }{
		"a reason":    {`{"reason":"no longer needed"}`, "no longer needed"},
		"no reason":   {`{}`, "cancelled_by_user"},
		"no body":     {``, "cancelled_by_user"},
		"null":        {`null`, "cancelled_by_user"},
		"a null":      {`{"reason":null}`, "cancelled_by_user"},
		"characters":  {`{"reason":"zu spät\n猫"}`, "zu spät\n猫"},
		"the longest": {`{"reason":"` + strings.Repeat("ä", 1000) + `"}`, strings.Repeat("ä", 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t)
			id := c.Start("stall", `{}`)
			stream := c.Follow(id, client.SSE{})
			stream.Events(1)
			if got := c.Cancel(id, tc.body); got != "CANCELLATION_REQUESTED" {
				t.Errorf("%s", got)
			}
			h := stream.ToEnd()
			if len(h.Events) != 1 {
				t.Fatalf("%+v", h)
			}
			if got := reason(t, h.Events[0]); got != tc.want {
				t.Errorf("reason %q, want %q", got, tc.want)
			}
			if got := c.Cancel(id, tc.body); got != "ALREADY_TERMINAL" {
				t.Errorf("afterwards: %s", got)
			}
			if s := c.Snapshot(id); s.Status != "CANCELLED" || !s.CancellationRequested {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestCancelWithoutAContentType(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	c.Do(http.MethodPost, tasks+"/"+id+"/cancel", nil, nil).Want(t, http.StatusAccepted)
	c.PollToEnd(id, "")
}

func TestCancelOfAFinishedTaskChangesNothing(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	if got := c.Cancel(id, `{"reason":"late"}`); got != "ALREADY_TERMINAL" {
		t.Errorf("%s", got)
	}
	client.CheckEqual(t, c.PollToEnd(id, ""), log)
	if s := c.Snapshot(id); s.CancellationRequested || s.Status != "COMPLETED" {
		t.Errorf("%+v", s)
	}
}

// Of many cancels at once each is answered, one event tells of it.
func TestManyCancelsAtOnce(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			a, err := c.Try(http.MethodPost, tasks+"/"+id+"/cancel", http.Header{"Content-Type": {"application/json"}}, []byte(`{"reason":"together"}`))
			if err != nil || a.Status != http.StatusAccepted {
				t.Errorf("%d %s %v", a.Status, a.Body, err)
			}
		})
	}
	wg.Wait()
	log := c.PollToEnd(id, "")
	client.CheckLog(t, id, log, 1)
	if got := reason(t, log[len(log)-1]); got != "together" {
		t.Errorf("reason %q", got)
	}
}

// The first request's reason stays, also when the second comes while the task
// waits to be run.
func TestCancelKeepsTheFirstReason(t *testing.T) {
	c := connect(t)
	for range 5 {
		id := c.Start("stall", `{}`)
		c.Cancel(id, `{"reason":"first"}`)
		c.Cancel(id, `{"reason":"second"}`)
		log := c.PollToEnd(id, "")
		if got := reason(t, log[len(log)-1]); got != "first" {
			t.Errorf("reason %q", got)
		}
	}
}

func TestCancelOfARunningTaskStopsIt(t *testing.T) {
	c := connect(t)
	id := c.Start("tokens", `{"count":100000,"intervalMs":5,"size":4}`)
	s := c.Follow(id, client.SSE{})
	s.Events(5)
	c.Cancel(id, "")
	h := s.ToEnd()
	if n := len(h.Events); n == 0 || n > 2000 {
		t.Fatalf("%d events after the cancel, %v", n, h.End)
	}
	reason(t, h.Events[len(h.Events)-1])
}

func TestCancelRefusals(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	for body, want := range map[string]struct {
		status int
		code   string
	}{
		`{`:                     {400, "INVALID_REQUEST"},
		`{}{}`:                  {400, "INVALID_REQUEST"},
		"{\"reason\":\"\xff\"}": {400, "INVALID_REQUEST"},
		`[]`:                    {422, "REQUEST_VALIDATION_ERROR"},
		`{"reason":1}`:          {422, "REQUEST_VALIDATION_ERROR"},
		`{"why":"x"}`:           {422, "REQUEST_VALIDATION_ERROR"},
		`{"Reason":"x"}`:        {422, "REQUEST_VALIDATION_ERROR"},
		`{"reason":"` + strings.Repeat("x", 1001) + `"}`: {422, "REQUEST_VALIDATION_ERROR"},
	} {
		a := c.Post(tasks+"/"+id+"/cancel", body)
		if a.Status != want.status || a.Error(t).Code != want.code {
			t.Errorf("%.80q: %d %s", body, a.Status, a.Body)
		}
	}
	if s := c.Snapshot(id); s.CancellationRequested {
		t.Error("a refused request cancelled the task")
	}
	c.Cancel(id, "")
}
