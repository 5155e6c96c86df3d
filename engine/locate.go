package engine

// place says where a reader goes on in a log.
type place struct {
	// next is the ordinal of the event that delivery goes on with.
	next uint64
	// reason tells why events that the reader has not seen are gone; empty if
	// none is.
	reason GapReason
	// over says that the task has ended and nothing lies after the cursor.
	over bool
}

// locate decides what a cursor means in a log of which page, read after that
// cursor, tells. It is the only place that knows what a gap is. terminal is the
// event that ended the task, if it is known.
//
// What makes holes visible is that ordinals count without one: a reader that
// has seen event o misses something exactly if the log does not go on with
// o+1. The milliseconds tell further whether the log still is the one that the
// cursor came from: in one history they never go back, so an event o with other
// milliseconds is another event, and whatever was before it with milliseconds
// up to the cursor's is taken as common to both.
func locate(cursor EventID, page Page, terminal *Event) place {
	first, last := page.First, page.Last
	switch {
	case terminal != nil && cursor.Compare(terminal.ID) >= 0:
		return place{over: true}

	case page.Expired && terminal == nil: // a store that forgot how the task ended
		return place{next: 1, reason: GapTrimmed}

	case first.IsZero(): // no event yet, or none any more
		if cursor.IsZero() {
			return place{next: 1}
		}
		return place{next: 1, reason: GapAhead}

	case cursor.Ordinal == 0: // the beginning, or a position in time
		switch {
		case cursor.Millis > last.Millis:
			return place{next: last.Ordinal + 1, reason: GapAhead}
		case first.Ordinal > 1 && cursor.Millis <= first.Millis:
			return place{next: first.Ordinal, reason: GapTrimmed}
		case len(page.Events) == 0: // not reached: last lies after the cursor
			return place{next: last.Ordinal + 1}
		}
		return place{next: page.Events[0].ID.Ordinal}

	case page.Found:
		return place{next: cursor.Ordinal + 1}

	case cursor.Ordinal < first.Ordinal:
		switch {
		case cursor.Ordinal+1 < first.Ordinal:
			return place{next: first.Ordinal, reason: GapTrimmed}
		case cursor.Millis > first.Millis:
			return place{next: first.Ordinal, reason: GapAhead}
		}
		return place{next: first.Ordinal} // at the last trimmed event
	}

	// The log goes as far back as the cursor and does not hold its event. The
	// last common ordinal is the largest below the cursor's whose milliseconds
	// are not past it. Everything before page.Events has such milliseconds, and
	// its first one has not if its ordinal is not past the cursor's.
	if len(page.Events) > 0 && page.Events[0].ID.Ordinal <= cursor.Ordinal {
		return place{next: page.Events[0].ID.Ordinal, reason: GapAhead}
	}
	return place{next: min(cursor.Ordinal, last.Ordinal+1), reason: GapAhead}
}

// position returns the cursor of a reader that goes on with the event next, if
// page tells.
func (p place) position(cursor EventID, page Page) (EventID, bool) {
	switch {
	case p.over, p.reason == "" && cursor.Ordinal > 0:
		return cursor, true
	case p.next == 1:
		return EventID{}, true
	case p.next == page.First.Ordinal:
		return beforeFirst(page), true
	case p.next == page.Last.Ordinal+1:
		return page.Last, true
	}
	return EventID{}, false
}

// beforeFirst is the position of a reader that stands before everything
// retained of a log whose beginning is gone: the id that the last trimmed event
// may have had.
func beforeFirst(page Page) EventID {
	return EventID{Millis: page.First.Millis, Ordinal: page.First.Ordinal - 1}
}

// expiredPage stands for a log that is gone but for the terminal event, which
// is kept with the task.
func expiredPage(cursor EventID, terminal *Event) Page {
	p := Page{First: terminal.ID, Last: terminal.ID, Found: cursor == terminal.ID, Expired: true}
	if cursor.Compare(terminal.ID) < 0 {
		p.Events = []Event{*terminal}
	}
	return p
}
