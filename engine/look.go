package engine

import "context"

// view is what a reader at a cursor gets.
type view struct {
	// task is the record, taken before the events or so that it fits them.
	task Task
	// position is the cursor to go on from, before events.
	position EventID
	gap      *Gap
	// events join on to position without a hole.
	events []Event
	more   bool
	// over says that the task has ended and the reader has seen all of it.
	over bool
}

// status is the task's status after view's events.
func (v view) status() Status {
	s := v.task.Status
	for _, ev := range v.events {
		if after := ev.Type.StatusAfter(); after != "" && !s.Terminal() {
			s = after
		}
	}
	return s
}

// scanEvents and scanBytes bound the pages of the search for a position.
const (
	scanEvents = 500
	scanBytes  = 1 << 20
)

// lookKey says which looks are equal.
type lookKey struct {
	taskID string
	after  EventID
	limit  int
	// bytes bounds the page as well; zero does not.
	bytes int
	// status says that the task's status of now is wanted too. A record of a
	// task that was not running may be from before TASK_STARTED, which the
	// cursor may have passed; later statuses come with an event of the page.
	status bool
}

// lookNow is look, shared with all who ask the same now. It sees everything that
// was there when it was called. Nothing in the answer may be changed.
func (e *Engine) lookNow(ctx context.Context, task Task, key lookKey) (view, error) {
	v, err := e.looks.do(ctx, key, func(ctx context.Context) (view, error) {
		known := task
		if key.status && known.Status == StatusAccepted {
			var err error
			if known, err = e.fresh(ctx, key.taskID); err != nil {
				return view{}, err
			}
		}
		return e.look(ctx, known, key.after, key.limit, key.bytes)
	})
	if v.task.Status == StatusAccepted && task.Status != StatusAccepted {
		v.task = task // of two records, both from a cache, ours is the newer one
	}
	return v, err
}

// look reads the log of a task after a cursor: poll, subscribe and the hub's
// source all see a log through it. task is the record, which may be from a
// cache.
//
// The record is read again, uncached, only where the answer depends on it: when
// there is nothing after the cursor (the task may have ended), and when the log
// does not tell by itself.
func (e *Engine) look(ctx context.Context, task Task, after EventID, limit, maxBytes int) (view, error) {
	page, err := e.readPage(ctx, task.ID, after, limit, maxBytes)
	if err != nil {
		return view{}, err
	}
	if task.Terminal == nil && (page.Expired || len(page.Events) == 0) {
		if task, err = e.fresh(ctx, task.ID); err != nil {
			return view{}, err
		}
		// The record is newer than the page: if the task ended in between, its
		// last events are not in the page.
		if t := task.Terminal; t != nil && t.ID.Compare(page.Last) > 0 && !page.Expired {
			if page, err = e.readPage(ctx, task.ID, after, limit, maxBytes); err != nil {
				return view{}, err
			}
		}
	}
	trimmed := GapTrimmed
	if task.Terminal != nil && (page.Expired || page.First.IsZero()) {
		page, trimmed = expiredPage(after, task.Terminal), GapExpired
	} else if page.Expired {
		trimmed = GapExpired
	}

	at := locate(after, page, task.Terminal)
	position, ok := at.position(after, page)
	if !ok || !at.over && len(page.Events) > 0 && page.Events[0].ID.Ordinal != at.next ||
		!at.over && len(page.Events) == 0 && at.next <= page.Last.Ordinal {
		// Rare: the cursor is of another history or a position in time, and
		// page, which lies after it, does not show where delivery goes on.
		if position, page, err = e.seek(ctx, task, at.next, limit, maxBytes); err != nil {
			return view{}, err
		}
		switch joins := position.Ordinal + 1; {
		case at.reason != "" || joins == at.next:
		case joins > at.next: // trimmed meanwhile
			at.reason = GapTrimmed
		default: // lost its tail meanwhile
			at.reason = GapAhead
		}
	}
	v := view{task: task, position: position, over: at.over}
	if !at.over {
		v.events, v.more = page.Events, page.More
	}
	switch at.reason {
	case "":
		return v, nil
	case GapTrimmed:
		at.reason = trimmed
	}
	v.gap = &Gap{Reason: at.reason, After: after}
	if len(v.events) > 0 {
		v.gap.First = v.events[0].ID
	}
	return v, nil
}

// seek finds the position before the event with ordinal next and reads on from
// there. It walks the log from its beginning, since a log is found by cursor
// and not by ordinal.
func (e *Engine) seek(ctx context.Context, task Task, next uint64, limit, maxBytes int) (EventID, Page, error) {
	var at EventID
	for {
		page, err := e.readPage(ctx, task.ID, at, scanEvents, scanBytes)
		if err != nil {
			return EventID{}, Page{}, err
		}
		if page.Expired && task.Terminal != nil {
			page = expiredPage(at, task.Terminal)
		}
		if page.First.Ordinal > at.Ordinal+1 {
			// Before everything retained, or overtaken by trimming.
			at = beforeFirst(page)
		}
		for _, ev := range page.Events {
			if ev.ID.Ordinal >= next {
				break
			}
			at = ev.ID
		}
		if at.Ordinal+1 >= next || !page.More {
			break
		}
	}
	page, err := e.readPage(ctx, task.ID, at, limit, maxBytes)
	if err != nil {
		return EventID{}, Page{}, err
	}
	if page.Expired && task.Terminal != nil {
		page = expiredPage(at, task.Terminal)
	}
	if len(page.Events) > 0 && page.Events[0].ID.Ordinal != at.Ordinal+1 {
		at = beforeFirst(page)
	}
	return at, page, nil
}

// fresh reads a task's record uncached.
func (e *Engine) fresh(ctx context.Context, taskID string) (Task, error) {
	task, err := e.cfg.Store.Get(ctx, taskID, Fresh)
	if err != nil {
		return Task{}, storeError("read the task", err)
	}
	return task, nil
}
