package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// logOf makes a log whose events have the given milliseconds, numbered from 1,
// of which the first trimmed ones are gone.
func logOf(trimmed int, millis ...uint64) []Event {
	events := make([]Event, 0, len(millis))
	for i, ms := range millis {
		events = append(events, Event{ID: EventID{ms, uint64(i + 1)}, Type: TypeMessage})
	}
	return events[trimmed:]
}

// readPage is what a store answers: the rules of EventStore.Read, written down
// as plainly as possible.
func readPage(log []Event, after EventID, limit int) Page {
	var p Page
	for _, ev := range log {
		p.Found = p.Found || ev.ID == after
		if ev.ID.Compare(after) <= 0 {
			continue
		}
		if len(p.Events) < limit {
			p.Events = append(p.Events, ev)
		} else {
			p.More = true
		}
	}
	if len(log) > 0 {
		p.First, p.Last = log[0].ID, log[len(log)-1].ID
	}
	return p
}

func TestLocate(t *testing.T) {
	const none = GapReason("")
	whole := logOf(0, 10, 10, 20, 30, 30)   // 10-1 10-2 20-3 30-4 30-5
	trimmed := logOf(2, 10, 10, 20, 30, 30) // 20-3 30-4 30-5
	empty := logOf(0)
	id := func(ms, o uint64) EventID { return EventID{ms, o} }
	for _, c := range []struct {
		name     string
		log      []Event
		cursor   EventID
		finished bool
		want     place
	}{
		{"beginning", whole, id(0, 0), false, place{1, none, false}},
		{"beginning of nothing", empty, id(0, 0), false, place{1, none, false}},
		{"beginning, trimmed", trimmed, id(0, 0), false, place{3, GapTrimmed, false}},
		{"beginning, finished", whole, id(0, 0), true, place{1, none, false}},

		{"first event", whole, id(10, 1), false, place{2, none, false}},
		{"within a millisecond", whole, id(30, 4), false, place{5, none, false}},
		{"newest, open", whole, id(30, 5), false, place{6, none, false}},
		{"newest, finished", whole, id(30, 5), true, place{0, none, true}},
		{"one before the end, finished", whole, id(30, 4), true, place{5, none, false}},

		{"last trimmed event", trimmed, id(10, 2), false, place{3, none, false}},
		{"last trimmed event, same millisecond as the first left", trimmed, id(20, 2), false, place{3, none, false}},
		{"a trimmed event", trimmed, id(10, 1), false, place{3, GapTrimmed, false}},
		{"a trimmed ordinal of another history", trimmed, id(99, 1), false, place{3, GapTrimmed, false}},
		{"the last trimmed ordinal of another history", trimmed, id(25, 2), false, place{3, GapAhead, false}},

		{"another history's event, later in time", whole, id(15, 2), false, place{2, GapAhead, false}},
		{"another history's event, earlier in time", whole, id(5, 2), false, place{1, GapAhead, false}},
		{"another history's event, just after a common one", whole, id(15, 3), false, place{3, GapAhead, false}},
		{"another history's event, of the first retained ordinal", trimmed, id(15, 3), false, place{3, GapAhead, false}},
		{"past the end by ordinal", whole, id(30, 9), false, place{6, GapAhead, false}},
		{"past the end by ordinal, earlier in time", whole, id(10, 9), false, place{3, GapAhead, false}},
		{"past the end in both", whole, id(99, 9), false, place{6, GapAhead, false}},
		{"later in time, ordinal within", whole, id(99, 3), false, place{3, GapAhead, false}},
		{"of an empty log", empty, id(10, 2), false, place{1, GapAhead, false}},
		{"the largest cursor", whole, id(math.MaxUint64, math.MaxUint64), false, place{6, GapAhead, false}},
		{"the largest ordinal of the first millisecond", whole, id(1, math.MaxUint64), false, place{1, GapAhead, false}},

		{"past the end in both, finished", whole, id(99, 9), true, place{0, none, true}},
		{"later in time, finished", whole, id(99, 0), true, place{0, none, true}},
		{"the end's millisecond, later ordinal, finished", whole, id(30, 6), true, place{0, none, true}},
		{"the end's ordinal, earlier, finished", whole, id(29, 5), true, place{4, GapAhead, false}},

		{"a time before everything", whole, id(5, 0), false, place{1, none, false}},
		{"a time within", whole, id(20, 0), false, place{3, none, false}},
		{"a time between", whole, id(25, 0), false, place{4, none, false}},
		{"the newest event's time", whole, id(30, 0), false, place{4, none, false}},
		{"a time after everything, open", whole, id(31, 0), false, place{6, GapAhead, false}},
		{"a time before everything left", trimmed, id(5, 0), false, place{3, GapTrimmed, false}},
		{"the time of the first left", trimmed, id(20, 0), false, place{3, GapTrimmed, false}},
		{"a time after the first left", trimmed, id(21, 0), false, place{4, none, false}},
		{"a time, nothing there", empty, id(5, 0), false, place{1, GapAhead, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var terminal *Event
			if c.finished {
				terminal = &c.log[len(c.log)-1]
			}
			for limit := 1; limit <= 6; limit++ {
				if got := locate(c.cursor, readPage(c.log, c.cursor, limit), terminal); got != c.want {
					t.Errorf("limit %d: %+v, want %+v", limit, got, c.want)
				}
			}
		})
	}
}

func TestLocateExpired(t *testing.T) {
	terminal := Event{ID: EventID{50, 7}, Type: TypeCompleted}
	for _, c := range []struct {
		cursor EventID
		want   place
	}{
		{EventID{}, place{7, GapTrimmed, false}},
		{EventID{40, 6}, place{7, "", false}},
		{EventID{40, 5}, place{7, GapTrimmed, false}},
		{EventID{50, 7}, place{over: true}},
		{EventID{51, 1}, place{over: true}},
		{EventID{51, 0}, place{over: true}},
		{EventID{50, 0}, place{7, GapTrimmed, false}},
		{EventID{40, 7}, place{7, GapAhead, false}},
		{EventID{40, 9}, place{7, GapAhead, false}},
	} {
		page := expiredPage(c.cursor, &terminal)
		if got := locate(c.cursor, page, &terminal); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.cursor, got, c.want)
		}
	}
	if got := locate(EventID{}, Page{Expired: true}, nil); got != (place{1, GapTrimmed, false}) {
		t.Errorf("expired and no terminal event: %+v", got)
	}
}

// TestLocateNeverSilent holds locate against what a gap is by definition, on
// random histories: a reader has seen a prefix of one history; the log may be
// another one that has a prefix in common with it, and may have been trimmed.
func TestLocateNeverSilent(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	grow := func(log []Event, n int) []Event {
		for range n {
			last := EventID{}
			if len(log) > 0 {
				last = log[len(log)-1].ID
			}
			log = append(log[:len(log):len(log)],
				Event{ID: EventID{max(last.Millis, 1) + rnd.Uint64N(3), last.Ordinal + 1}, Type: TypeMessage})
		}
		return log
	}
	for round := range 200_000 {
		read := grow(nil, rnd.IntN(7)) // the history that the reader knows
		log := grow(read[:rnd.IntN(len(read)+1)], rnd.IntN(5))
		if rnd.IntN(2) == 0 {
			log = grow(read, rnd.IntN(5)) // nothing was lost
		}
		common := 0
		for common < len(read) && common < len(log) && read[common].ID == log[common].ID {
			common++
		}
		seen := rnd.IntN(len(read) + 1) // how many events the reader has had
		var cursor EventID
		if seen > 0 {
			cursor = read[seen-1].ID
		}
		var terminal *Event
		if len(log) > 0 && rnd.IntN(2) == 0 {
			log[len(log)-1].Type = TypeCompleted
			terminal = &log[len(log)-1]
		}
		gone := rnd.IntN(len(log) + 1)
		if gone == len(log) && gone > 0 {
			gone-- // a store keeps the newest event
		}
		page := readPage(log[gone:], cursor, 1+rnd.IntN(4))
		at := locate(cursor, page, terminal)

		fail := func(what string) {
			t.Fatalf("round %d: %s\nread %v of %v\nlog %v, of which the first %d are gone, terminal %v\nlocate: %+v",
				round, what, seen, ids(read), ids(log), gone, terminal != nil, at)
		}
		switch {
		case at.over:
			if terminal == nil || cursor.Compare(terminal.ID) < 0 {
				fail("over, and it is not")
			}
		case at.reason == "":
			// No notice: what follows must be exactly what the reader has not
			// seen, which ordinals and milliseconds alone can tell.
			if at.next != uint64(seen)+1 {
				fail("a hole without a notice")
			}
			if seen > gone && log[seen-1].ID != cursor {
				fail("an event of another history taken for the one that was read")
			}
		case at.reason == GapTrimmed:
			if seen >= gone {
				fail("nothing that was not seen is gone")
			}
			if at.next != uint64(gone)+1 {
				fail("delivery does not go on with the first event left")
			}
		case at.reason == GapAhead:
			if page.Found || seen <= common && seen >= gone {
				fail("the reader's event is in the log")
			}
			if at.next > uint64(len(log))+1 || at.next <= uint64(gone) {
				fail("delivery goes on where nothing is")
			}
			// Whatever differs from what was read is delivered, except where
			// milliseconds cannot tell the histories apart.
			if at.next > uint64(common)+1 && at.next > uint64(gone)+1 {
				for o := uint64(common) + 1; o < at.next; o++ {
					if log[o-1].ID.Millis > cursor.Millis {
						fail("an event of the new history is left out")
					}
				}
			}
		}
	}
}

func ids(log []Event) (out []string) {
	for _, ev := range log {
		out = append(out, fmt.Sprint(ev.ID))
	}
	return out
}
