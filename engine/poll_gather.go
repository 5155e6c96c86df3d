package engine

import (
	"context"
	"time"
)

// Each poll is a request, so a client would send one request for each event of a busy
// task. A poll that finds the first events of a busy task therefore waits a little for
// further ones. The event ids tell whether a task is busy: their times come from the
// store, so clocks of different machines are not compared. A task that was quiet before
// its event is not busy, and the event is answered at once.

const (
	// maxGather bounds PollRequest.Gather.
	maxGather = time.Second
	// gatherLooks is how many times a poll looks for further events while it gathers.
	// It notices a full page or the task's end at the next look.
	gatherLooks = 4
	// gatherFresh is how old the newest event may be that a poll found without
	// waiting. After older ones no further event is expected soon.
	gatherFresh = time.Second
)

// gathers reports whether a poll with these events waits for more. waited says
// that it waited for them already.
func (r PollRequest) gathers(v view, waited bool) bool {
	if r.Gather <= 0 || r.After.IsZero() || v.gap != nil || len(v.events) == 0 || r.full(v) {
		return false
	}
	last := v.events[len(v.events)-1].ID.Millis
	if last < r.After.Millis || last-r.After.Millis > uint64(r.Gather.Milliseconds()) {
		return false
	}
	return waited || uint64(time.Now().Add(-gatherFresh).UnixMilli()) < last
}

// full reports whether nothing can be added to the page.
func (r PollRequest) full(v view) bool {
	return v.more || len(v.events) >= r.Max || v.status().Terminal()
}

// gather returns the page with what comes within PollRequest.Gather. It ends with
// wait, too, and a look that fails leaves the page as it is.
func (e *Engine) gather(wait context.Context, v view, req PollRequest) view {
	tick := time.NewTicker(max(req.Gather/gatherLooks, time.Millisecond))
	defer tick.Stop()
	for range gatherLooks {
		select {
		case <-tick.C:
		case <-wait.Done():
			return v
		}
		next, err := e.lookAgain(wait, v.task, req)
		if err != nil || next.gap != nil || len(next.events) < len(v.events) {
			return v
		}
		if v = next; req.full(v) {
			return v
		}
	}
	return v
}
