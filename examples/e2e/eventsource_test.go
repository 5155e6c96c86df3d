package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// A bare EventSource, without the page's own logic: what the server does must
// be enough for a browser to do the right thing.
const openEventSource = `(() => {
  const seen = window.seen = { opens: 0, errors: 0, ids: [], closing: [], gaps: 0, messages: [] };
  const source = window.source = new EventSource(%q);
  source.onopen = () => seen.opens++;
  source.onerror = () => seen.errors++;
  source.onmessage = (e) => {
    const event = JSON.parse(e.data);
    seen.messages.push(event.type);
    if (event.type !== "HEARTBEAT") seen.ids.push(event.eventId);
  };
  source.addEventListener("closing", (e) => seen.closing.push(JSON.parse(e.data).payload.closing));
  source.addEventListener("gap", () => seen.gaps++);
})()`

type seen struct {
	Opens, Errors, Gaps int
	IDs                 []string
	Messages            []string
	Closing             []struct {
		Reason       string
		RetryAfterMs int
	}
	State int
}

func (p *tab) seen() seen {
	p.t.Helper()
	var s seen
	p.eval(`({Opens: seen.opens, Errors: seen.errors, Gaps: seen.gaps, IDs: seen.ids, Messages: seen.messages, Closing: seen.closing.map(
		(c) => ({Reason: c.reason, RetryAfterMs: c.retryAfterMs})), State: source.readyState})`, &s)
	return s
}

func (s seen) wholeLog(t *testing.T, n int) {
	t.Helper()
	if len(s.IDs) != n {
		t.Fatalf("%d events, want %d", len(s.IDs), n)
	}
	for i, id := range s.IDs {
		if ordinal(id) != i+1 {
			t.Fatalf("event %d is %s", i+1, id)
		}
	}
}

const closed = 2 // EventSource.CLOSED

func TestEventSourceStaysAwayAfterTheEnd(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	g := startGate(t, host.url)
	task := create(t, host.url, "tokens", map[string]any{"count": 20, "intervalMs": 20})
	p := openTab(t, g.url)
	p.eval(fmt.Sprintf(openEventSource, streamURL("", task, "")), nil)
	p.wait(`source.readyState === 2`)
	p.seen().wholeLog(t, 22)

	// It came back once, by itself, with the last id, and heard that it is over.
	requests := g.exchanges("/stream")
	if len(requests) != 2 || requests[0].status != http.StatusOK || requests[1].status != http.StatusNoContent ||
		ordinal(requests[1].lastEventID) != 22 {
		t.Fatalf("requests: %+v", requests)
	}
	still(t, "no further request", 3*time.Second, func() bool { return len(g.exchanges("/stream")) == 2 })
}

func TestEventSourceResumesAfterEachCut(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	g := startGate(t, host.url)
	task := create(t, host.url, "tokens", endless)
	p := openTab(t, g.url)
	p.eval(fmt.Sprintf(openEventSource, streamURL("", task, "")), nil)
	for cut := range 2 {
		p.wait(fmt.Sprintf(`seen.opens > %d && seen.ids.length > %d`, cut, 20*(cut+1)))
		g.sever()
	}
	p.wait(`seen.opens === 3`)
	n := finish(t, host.url, task)
	p.wait(`source.readyState === 2`)
	s := p.seen()
	s.wholeLog(t, n)
	if s.Opens != 3 || s.Gaps != 0 {
		t.Errorf("%+v", s)
	}
}

// EventSource gives up for good on any status but 200. A refusal that will
// pass must not look like one.
func TestEventSourceComesBackWhenAPlaceIsFree(t *testing.T) {
	t.Parallel()
	host := startHost(t, "-max-streams", "1")
	g := startGate(t, host.url)
	task := create(t, host.url, "stall", nil)

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, streamURL(host.url, task, ""), nil)
	if err != nil {
		t.Fatal(err)
	}
	occupant, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer occupant.Body.Close()

	p := openTab(t, g.url)
	p.eval(fmt.Sprintf(openEventSource, streamURL("", task, "")), nil)
	eventually(t, "it is refused, and asks again", func() bool { return len(g.exchanges("/stream")) >= 2 })
	for _, e := range g.exchanges("/stream") {
		if e.status != http.StatusOK {
			t.Errorf("refused with %d, which ends an EventSource", e.status)
		}
	}
	s := p.seen()
	if s.State == closed || len(s.Closing) == 0 || s.Closing[0].RetryAfterMs <= 0 || len(s.IDs) != 0 {
		t.Fatalf("after the refusal: %+v", s)
	}

	leave()
	p.wait(`seen.ids.length === 1`)
	call(t, http.MethodPost, host.url+"/api/v1/tasks/"+task+"/cancel", nil, http.StatusAccepted, nil)
	p.wait(`source.readyState === 2`)
	p.seen().wholeLog(t, 2)
}

func TestEventSourceGoesOnAskingWhileTheHostDrains(t *testing.T) {
	t.Parallel()
	// It is told to come back after a time of the host's choice.
	intime.Try(t, 12*time.Second, func(drain time.Duration) bool { return drainEventSource(t, drain) })
}

// drainEventSource reports whether the browser came back while the host drained.
func drainEventSource(t *testing.T, drain time.Duration) bool {
	t.Helper()
	host := startHost(t, "-drain", drain.String())
	g := startGate(t, host.url)
	task := create(t, host.url, "stall", nil)
	p := openTab(t, g.url)
	p.eval(fmt.Sprintf(openEventSource, streamURL("", task, "")), nil)
	p.wait(`seen.ids.length === 1`)
	host.drain(t)
	p.wait(`seen.closing.length > 0`)
	if s := p.seen(); s.Closing[0].Reason != "server_draining" || s.Closing[0].RetryAfterMs <= 0 {
		t.Errorf("%+v", s)
	}
	host.waitExit(t)
	// While the host still refused it was never answered with what ends an
	// EventSource. (The gate's own 502, once the host is gone, is.)
	answered := g.exchanges("/stream")
	for _, e := range answered {
		if e.status != http.StatusOK {
			t.Errorf("answered with %d", e.status)
		}
	}
	return len(answered) >= 2
}

// A lasting refusal ends an EventSource, and rightly so.
func TestEventSourceGivesUpOnLastingRefusals(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	g := startGate(t, host.url)
	task := create(t, host.url, "stall", nil)
	p := openTab(t, g.url)
	for _, c := range []struct {
		name, url string
		status    int
	}{
		{"nobody", "/api/v1/tasks/" + task + "/events/stream", http.StatusUnauthorized},
		{"unknown task", streamURL("", "aaaaaaaaaaaaaaaaaaaaaaaaaa", ""), http.StatusNotFound},
		{"bad cursor", streamURL("", task, "x"), http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(g.exchanges("/stream"))
			p.eval(fmt.Sprintf(openEventSource, c.url), nil)
			p.wait(`source.readyState === 2`)
			if answered := g.exchanges("/stream")[before:]; len(answered) != 1 || answered[0].status != c.status {
				t.Errorf("answered %+v", answered)
			}
		})
	}
}
