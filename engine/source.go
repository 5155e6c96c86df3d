package engine

import (
	"context"
	"errors"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// source shows the hub a Store as entries: every event encoded as clients see
// it, exactly once for all who get it from the ring.
type source struct{ e *Engine }

// Read implements fanout.Source. What a gap is, look decides.
func (s source) Read(ctx context.Context, key string, after fanout.ID, limit int) (fanout.Page, error) {
	v, err := s.e.look(ctx, Task{ID: key}, EventID(after), limit, 0)
	if err != nil {
		return fanout.Page{}, sourceError(err)
	}
	page := fanout.Page{Position: fanoutID(v.position), Entries: entries(v.events), More: v.more}
	if v.gap != nil {
		page.Gap = &fanout.Gap{
			Reason: v.gap.Reason, After: fanoutID(v.gap.After), First: fanoutID(v.gap.First),
		}
		s.e.cfg.Metrics.Add(MetricGaps, 1, "")
	}
	return page, nil
}

// Follow implements fanout.Source. A store pushes nothing of a log that has
// expired; the terminal event, which is all that is left of it, comes from the
// record, as it does in Read.
func (s source) Follow(ctx context.Context, key string, after fanout.ID, feed fanout.Feed) (func(), error) {
	f := &follower{feed: feed}
	stop, err := s.e.cfg.Store.Follow(ctx, key, EventID(after), f)
	if err != nil {
		return nil, sourceError(storeError("follow the log", err))
	}
	terminal, err := s.leftOver(ctx, key)
	if err != nil || terminal != nil {
		stop() // an expired log has nothing more to say; and feed takes one call at a time
		stop = func() {}
	}
	if err != nil {
		return nil, sourceError(err)
	}
	if terminal != nil && !f.pushed && EventID(after).Compare(terminal.ID) < 0 {
		if after.Ordinal+1 != terminal.ID.Ordinal {
			feed.Lost()
		}
		feed.Push(entries([]Event{*terminal}))
	}
	return stop, nil
}

// leftOver returns the terminal event of a task whose log has expired, nil for
// any other. It is asked after the log is followed: what expires later has been
// pushed by then.
func (s source) leftOver(ctx context.Context, key string) (*Event, error) {
	task, err := s.e.cfg.Store.Get(ctx, key, Cached)
	if CodeOf(err) == CodeTaskNotFound { // a no is never answered from the cache
		task, err = s.e.cfg.Store.Get(ctx, key, Fresh)
	}
	if err != nil {
		return nil, storeError("read the task", err)
	}
	if task.Terminal == nil {
		return nil, nil // a log that has expired did so long after any cache
	}
	page, err := s.e.cfg.Store.Read(ctx, key, EventID{}, 1)
	if err != nil {
		return nil, storeError("read the log", err)
	}
	if !page.Expired && !page.First.IsZero() {
		return nil, nil
	}
	return task.Terminal, nil
}

// sourceError tells the hub which error is not worth another try.
func sourceError(err error) error {
	if CodeOf(err) == CodeTaskNotFound {
		return errors.Join(fanout.ErrNotFound, err)
	}
	return err
}

// follower hands a store's pushes on. It holds nothing back and asks nothing.
type follower struct {
	feed   fanout.Feed
	pushed bool // read after stop only
}

func (f *follower) Push(events []Event) {
	f.pushed = true
	f.feed.Push(entries(events))
}

func (f *follower) Lost() { f.feed.Lost() }

// fanoutID is the same position in the hub's words.
func fanoutID(id EventID) fanout.ID { return fanout.ID(id) }

// entries encodes events. Each body has a block of its own, so that a ring
// gives back what it drops.
func entries(events []Event) []fanout.Entry {
	if len(events) == 0 {
		return nil
	}
	out := make([]fanout.Entry, len(events))
	for i, ev := range events {
		out[i] = fanout.Entry{
			ID:    fanoutID(ev.ID),
			Body:  ev.AppendJSON(make([]byte, 0, ev.jsonSize())),
			Final: ev.Type.Terminal(),
		}
	}
	return out
}
