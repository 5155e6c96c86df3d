package engine

import "context"

// BoundedReader is an optional power of an [EventStore]: it bounds the bytes of a page
// where it reads it. The pages of any other store are read whole and cut afterwards.
type BoundedReader interface {
	// ReadBytes is Read with one more bound: the page ends with the event whose
	// payload brings the sum to maxBytes, which is positive. It has at least one event if Read
	// would have one, and More says that the log goes on.
	ReadBytes(ctx context.Context, taskID string, after EventID, limit, maxBytes int) (Page, error)
}

// readPage reads a page of up to limit events and, unless maxBytes is zero, of up to
// maxBytes as clients see them. It has at least one event if there is one.
func (e *Engine) readPage(ctx context.Context, taskID string, after EventID, limit, maxBytes int) (page Page, err error) {
	if e.bounded != nil && maxBytes > 0 {
		page, err = e.bounded.ReadBytes(ctx, taskID, after, limit, maxBytes)
	} else {
		page, err = e.cfg.Store.Read(ctx, taskID, after, limit)
	}
	if err != nil {
		return Page{}, storeError("read the log", err)
	}
	if n := within(page.Events, maxBytes); n < len(page.Events) {
		page.Events, page.More = page.Events[:n:n], true
	}
	return page, nil
}

// within returns how many of the events fit into maxBytes: all if that is zero,
// otherwise at least one.
func within(events []Event, maxBytes int) int {
	if maxBytes <= 0 {
		return len(events)
	}
	for i := range events {
		if maxBytes -= events[i].jsonSize() + 1; maxBytes < 0 && i > 0 {
			return i
		}
	}
	return len(events)
}
