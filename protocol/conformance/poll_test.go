package conformance_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

// badCursors have neither of the two forms, or do not fit 64 bits.
var badCursors = []string{
	"abc", "-", "1-", "-1", "1-2-3", "1--2", "+1", "+1-1", "1-+1", " 1", "1 ", "1 -1", "0x1", "1_000", "1e3", "1.0", "1,2",
	"$", "0-*", "*", "hb-1", "null", "٣", "１", "1-٣", "\x00", "1\x00", "1\n", "1\r\nX: y", "\xff",
	"123456789012345678901", "0-123456789012345678901", "000000000000000000000",
	"18446744073709551616", "1-18446744073709551616", "99999999999999999999-1",
}

func TestPollPages(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("tokens", `{"count":23,"intervalMs":0,"size":5}`)
	for _, size := range []int{1, 2, 7, 24, 25, 26, 500} {
		var got []client.Event
		after := ""
		for {
			page := c.Poll(id, client.Poll{After: after, Max: size})
			got = append(got, page.Events...)
			if page.Status != "COMPLETED" {
				t.Errorf("status %s", page.Status)
			}
			if page.HasMore != (len(got) < len(log)) {
				t.Fatalf("hasMore %v after %d of %d", page.HasMore, len(got), len(log))
			}
			if len(page.Events) != min(size, len(log)-len(got)+len(page.Events)) {
				t.Fatalf("%d events of %d asked for, %d left", len(page.Events), size, len(log)-len(got))
			}
			if !page.HasMore {
				break
			}
			after = *page.NextAfterEventID
		}
		client.CheckEqual(t, got, log)
	}
}

func TestPollDefaults(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("tokens", `{"count":120,"intervalMs":0,"size":1}`)
	page := c.Poll(id, client.Poll{})
	if len(page.Events) != 100 || !page.HasMore {
		t.Errorf("%d events, more %v", len(page.Events), page.HasMore)
	}
	// At the end there is nothing to wait for, and nobody asked to.
	last := log[len(log)-1].EventID
	page = c.Poll(id, client.Poll{After: last})
	if len(page.Events) != 0 || page.HasMore || page.NextAfterEventID == nil || *page.NextAfterEventID != last || page.Gap != nil {
		t.Errorf("at the end: %+v", page)
	}
	if page.Took > busy(2*time.Second) {
		t.Errorf("a poll without a wait took %v", page.Took)
	}
}

func TestPollCursorForms(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	for _, after := range []string{"", "0", "0-0", "5", "5-0", "00000000000000000005", "1-1"} {
		a := c.Get(tasks+"/"+id+"/events?afterEventId="+after).Want(t, http.StatusOK)
		var page client.Page
		a.Decode(t, &page)
		client.CheckEqual(t, page.Events, log)
	}
	for _, after := range []string{"18446744073709551615", "18446744073709551615-18446744073709551615", "9999999999999-1"} {
		page := c.Poll(id, client.Poll{After: after})
		if len(page.Events) != 0 || page.HasMore || page.Gap != nil {
			t.Errorf("past the end of a finished task: %+v", page)
		}
		if page.NextAfterEventID == nil || *page.NextAfterEventID != after {
			t.Errorf("nextAfterEventId %v, sent %s", page.NextAfterEventID, after)
		}
	}
	for _, after := range badCursors {
		a := c.Get(tasks + "/" + id + "/events?afterEventId=" + url.QueryEscape(after))
		if a.Status != http.StatusBadRequest || a.Error(t).Code != "INVALID_REQUEST" {
			t.Errorf("cursor %q: %d %s", after, a.Status, a.Body)
		}
	}
}

func TestPollParameters(t *testing.T) {
	c := connect(t)
	id, _ := c.Finished("greet", `{"name":"Ada"}`)
	for _, q := range []string{"maxEvents=1", "maxEvents=500", "waitTimeoutMs=0", "waitTimeoutMs=60000", "unknown=1"} {
		c.Get(tasks+"/"+id+"/events?"+q).Want(t, http.StatusOK)
	}
	for _, q := range []string{
		"maxEvents=0", "maxEvents=501", "maxEvents=-1", "maxEvents=x", "maxEvents=1.5", "maxEvents=1e2", "maxEvents=99999999999999999999",
		"waitTimeoutMs=-1", "waitTimeoutMs=60001", "waitTimeoutMs=x", "waitTimeoutMs=0.5", "waitTimeoutMs=99999999999999999999", "waitTimeoutMs=1s",
	} {
		a := c.Get(tasks + "/" + id + "/events?" + q)
		if a.Status != http.StatusUnprocessableEntity || a.Error(t).Code != "REQUEST_VALIDATION_ERROR" {
			t.Errorf("%s: %d %s", q, a.Status, a.Body)
		}
	}
}

func TestPollWaitEndsWithTheFirstEvent(t *testing.T) {
	c := connect(t)
	id := c.Start("tokens", `{"count":1,"intervalMs":0,"size":3,"startDelayMs":900}`)
	// One event: on a slow machine the next may be there already.
	started := c.Poll(id, client.Poll{Wait: 10 * time.Second, Max: 1})
	if len(started.Events) == 0 || started.Took > busy(5*time.Second) {
		t.Fatalf("%+v", started)
	}
	page := c.Poll(id, client.Poll{After: *started.NextAfterEventID, Wait: 30 * time.Second})
	if len(page.Events) == 0 || page.Events[0].Type != "TASK_MESSAGE" {
		t.Fatalf("%+v", page)
	}
	if page.Took > busy(5*time.Second) {
		t.Errorf("the event took %v through a waiting poll", page.Took)
	}
}

func TestPollWaitLastsAsLongAsAsked(t *testing.T) {
	c := connect(t)
	open := c.Start("stall", `{}`)
	t.Cleanup(func() { c.Cancel(open, "") })
	over, log := c.Finished("greet", `{"name":"Ada"}`)
	first := c.Poll(open, client.Poll{Wait: 10 * time.Second})
	for name, p := range map[string]struct{ id, after string }{
		"open":                        {open, *first.NextAfterEventID},
		"at the terminal event":       {over, log[len(log)-1].EventID},
		"far past the terminal event": {over, "18446744073709551615-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := c.For(t).Poll(p.id, client.Poll{After: p.after, Wait: 700 * time.Millisecond})
			if len(page.Events) != 0 || page.HasMore || page.Gap != nil || *page.NextAfterEventID != p.after {
				t.Errorf("%+v", page)
			}
			if page.Took < 690*time.Millisecond || page.Took > busy(5*time.Second) {
				t.Errorf("a wait of 700ms took %v", page.Took)
			}
		})
	}
}

// Many waits on one log all end with the same event.
func TestManyPollsWaitTogether(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	first := c.Poll(id, client.Poll{Wait: 10 * time.Second})
	type result struct {
		page client.Page
		err  error
	}
	results := make(chan result, 40)
	for range cap(results) {
		go func() {
			page, err := c.TryPoll(id, client.Poll{After: *first.NextAfterEventID, Wait: 30 * time.Second})
			results <- result{page, err}
		}()
	}
	c.Cancel(id, `{"reason":"enough"}`)
	for range cap(results) {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		if len(r.page.Events) != 1 || r.page.Events[0].Type != "TASK_CANCELLED" || r.page.Took > 15*time.Second {
			t.Errorf("%+v", r.page)
		}
	}
}

func TestPollStatusIsNeverOlderThanTheEvents(t *testing.T) {
	c := connect(t)
	for range 10 {
		id := c.Start("greet", `{"name":"Ada"}`)
		after := ""
		for deadline := time.Now().Add(client.Patience); ; {
			page := c.Poll(id, client.Poll{After: after, Wait: time.Second, Max: 1})
			if len(page.Events) > 0 {
				after = page.Events[0].EventID
				switch {
				case page.Status == "ACCEPTED":
					t.Errorf("ACCEPTED beside %s", page.Events[0].Type)
				case page.Events[0].Terminal():
					if page.Status != "COMPLETED" {
						t.Errorf("%s beside the terminal event", page.Status)
					}
				}
				if page.Events[0].Terminal() {
					break
				}
			}
			if time.Now().After(deadline) {
				t.Fatal("no end")
			}
		}
	}
}
