package client

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Page is the answer of a poll.
type Page struct {
	TaskID, Status   string
	Events           []Event
	NextAfterEventID *string
	HasMore          bool
	Gap              *Gap

	Took time.Duration `json:"-"`
}

// Poll is what a poll asks for; zero values are left out.
type Poll struct {
	After string
	Wait  time.Duration
	Max   int
}

// Poll asks for one page.
func (c *Client) Poll(id string, p Poll) Page {
	c.t.Helper()
	page, err := c.TryPoll(id, p)
	if err != nil {
		c.t.Fatal(err)
	}
	return page
}

// TryPoll is Poll for goroutines other than the test's.
func (c *Client) TryPoll(id string, p Poll) (Page, error) {
	q := []string{"afterEventId", p.After}
	if p.Wait > 0 {
		q = append(q, "waitTimeoutMs", strconv.FormatInt(p.Wait.Milliseconds(), 10))
	}
	if p.Max > 0 {
		q = append(q, "maxEvents", strconv.Itoa(p.Max))
	}
	a, err := c.Try(http.MethodGet, "/api/v1/tasks/"+id+"/events"+query(q...), nil, nil)
	if err != nil {
		return Page{}, err
	}
	if a.Status != http.StatusOK {
		return Page{}, fmt.Errorf("poll: %d %s", a.Status, a.Body)
	}
	var page Page
	a.Decode(c.t, &page)
	page.Took = a.Took
	switch n := len(page.Events); {
	case page.TaskID != id:
		c.t.Errorf("a page of %s for %s", page.TaskID, id)
	case n > 0 && (page.NextAfterEventID == nil || *page.NextAfterEventID != page.Events[n-1].EventID):
		c.t.Errorf("nextAfterEventId %s is not the last event's", a.Body)
	case n == 0 && p.After == "" && page.NextAfterEventID != nil:
		c.t.Errorf("nextAfterEventId %s out of nothing", *page.NextAfterEventID)
	case n > max(p.Max, 100):
		c.t.Errorf("%d events in a page", n)
	}
	return page, nil
}

// PollToEnd polls from the cursor to the terminal event and returns what it
// got. A gap fails the test.
func (c *Client) PollToEnd(id, after string) []Event {
	c.t.Helper()
	var log []Event
	for deadline := time.Now().Add(Patience); ; {
		page := c.Poll(id, Poll{After: after, Wait: time.Second})
		if page.Gap != nil {
			c.t.Fatalf("a gap: %+v", *page.Gap)
		}
		log = append(log, page.Events...)
		if n := len(log); n > 0 && log[n-1].Terminal() {
			if page.HasMore {
				c.t.Error("more behind the terminal event")
			}
			return log
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("no end in %v; status %s, events %s", Patience, page.Status, IDs(log))
		}
		if page.NextAfterEventID != nil {
			after = *page.NextAfterEventID
		}
	}
}
