package enginetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// collector is an engine.Follower that holds each call against the contract.
type collector struct {
	t      *testing.T
	taskID string
	busy   atomic.Int32 // calls under way

	mu      sync.Mutex
	last    engine.EventID // where the next push must join on
	adrift  bool           // after Lost the next push may be anywhere
	events  []engine.Event
	lost    int
	stopped bool
	changed chan struct{}
}

func newCollector(t *testing.T, taskID string, after engine.EventID) *collector {
	return &collector{t: t, taskID: taskID, last: after, changed: make(chan struct{})}
}

func (c *collector) enter() (leave func()) {
	if c.busy.Add(1) != 1 {
		c.t.Error("two calls to one follower at once")
	}
	c.mu.Lock()
	if c.stopped {
		c.t.Error("a follower was called after stop had returned")
	}
	return func() {
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		c.busy.Add(-1)
	}
}

func (c *collector) Push(events []engine.Event) {
	defer c.enter()()
	if len(events) == 0 {
		c.t.Error("an empty push")
		return
	}
	for _, ev := range events {
		if !c.adrift && ev.ID.Ordinal != c.last.Ordinal+1 {
			c.t.Errorf("pushed %s after %s", ev.ID, c.last)
		}
		if ev.ID.Millis < c.last.Millis && !c.adrift {
			c.t.Errorf("pushed %s after %s: the milliseconds go back", ev.ID, c.last)
		}
		if ev.TaskID != c.taskID {
			c.t.Errorf("pushed an event of %s to a follower of %s", ev.TaskID, c.taskID)
		}
		if n := len(c.events); n > 0 && c.events[n-1].Type.Terminal() {
			c.t.Errorf("pushed %s after the terminal event", ev.ID)
		}
		c.last, c.adrift = ev.ID, false
		c.events = append(c.events, ev)
	}
}

func (c *collector) Lost() {
	defer c.enter()()
	c.lost++
	c.adrift = true
}

// stop calls a Follow's stop and from then on accepts no call.
func (c *collector) stop(stop func()) {
	stop()
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
}

// over reports, inside waitFor, that the terminal event was pushed.
func (c *collector) over() bool {
	n := len(c.events)
	return n > 0 && c.events[n-1].Type.Terminal()
}

// has returns a condition for waitFor: that n events were pushed.
func (c *collector) has(n int) func() bool { return func() bool { return len(c.events) >= n } }

// waitFor waits until cond, which may look at what was collected, holds.
func (c *collector) waitFor(what string, cond func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		ok, changed, n, lost := cond(), c.changed, len(c.events), c.lost
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			c.t.Fatalf("not within %v: %s; %d events and %d losses so far", patience, what, n, lost)
		}
	}
}

// collected returns what was pushed so far.
func (c *collector) collected() ([]engine.Event, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.events[:len(c.events):len(c.events)], c.lost
}
