// Package check holds one subscriber's log against what the protocol promises:
// ordinals without a hole from the cursor on, nothing twice on a connection,
// nothing after the terminal event, every hole announced. It looks at every
// event; ordinals make that exact.
package check

// Counters add up what the logs of many subscribers showed.
type Counters struct {
	Events        uint64 `json:"events"`        // new to their subscriber
	AcrossRepeats uint64 `json:"acrossRepeats"` // seen on an earlier connection: allowed, counted apart
	Gaps          uint64 `json:"gaps"`          // announced
	GapEvents     uint64 `json:"gapEvents"`     // missing, as announced
	Ahead         uint64 `json:"ahead"`         // the log went back, as announced

	Lost          uint64 `json:"lost"`          // missing and not announced
	Repeated      uint64 `json:"repeated"`      // twice on one connection
	Reordered     uint64 `json:"reordered"`     // late, or its time went back
	AfterTerminal uint64 `json:"afterTerminal"` // after the end
	BadGaps       uint64 `json:"badGaps"`       // announced, and not so
	Corrupt       uint64 `json:"corrupt"`       // not what was emitted, or not an event
	BadEnds       uint64 `json:"badEnds"`       // ended cleanly without the terminal event, or the other way round
	Refused       uint64 `json:"refused"`       // a lasting refusal
	Incomplete    uint64 `json:"incomplete"`    // subscribers that did not see the end in time
}

// Add adds what other counted.
func (c *Counters) Add(other Counters) {
	c.Events += other.Events
	c.AcrossRepeats += other.AcrossRepeats
	c.Gaps += other.Gaps
	c.GapEvents += other.GapEvents
	c.Ahead += other.Ahead
	c.Lost += other.Lost
	c.Repeated += other.Repeated
	c.Reordered += other.Reordered
	c.AfterTerminal += other.AfterTerminal
	c.BadGaps += other.BadGaps
	c.Corrupt += other.Corrupt
	c.BadEnds += other.BadEnds
	c.Refused += other.Refused
	c.Incomplete += other.Incomplete
}

// Violations is how often a promise was broken.
func (c *Counters) Violations() uint64 {
	return c.Lost + c.Repeated + c.Reordered + c.AfterTerminal + c.BadGaps + c.Corrupt + c.BadEnds + c.Refused + c.Incomplete
}

// Finding is what one event was.
type Finding uint8

// What an event can be.
const (
	New Finding = iota
	AcrossRepeat
	Lost
	Repeated
	Reordered
	AfterTerminal
	BadGap
)

func (f Finding) String() string {
	return [...]string{"new", "repeated across a reconnect", "events before it are missing without a notice",
		"repeated on its connection", "out of order", "after the terminal event", "not what the gap notice announced"}[f]
}

// Log is what one subscriber has seen. The zero value has seen nothing.
type Log struct {
	last   uint64 // the highest ordinal seen
	millis uint64 // of the id of the event before this one
	next   uint64 // expected on this connection
	first  uint64 // announced by a gap as the next one; anyFirst: unknown
	holes  []hole // what is missing so far, nearly always nothing

	gap      bool // a notice waits for the event behind the hole
	any      bool // this connection has had an event
	terminal bool
}

// hole is a range of ordinals, both ends in it.
type hole struct{ from, to uint64 }

// anyFirst is a gap notice that names no first event.
const anyFirst = 0

// Last is the ordinal of the newest event seen.
func (l *Log) Last() uint64 { return l.last }

// Millis is the time in the id of the newest event seen.
func (l *Log) Millis() uint64 { return l.millis }

// Terminal reports whether the terminal event was seen.
func (l *Log) Terminal() bool { return l.terminal }

// Next is the ordinal that the connection's next event must have.
func (l *Log) Next() uint64 { return l.next }

// Connect begins a connection whose cursor is the newest event seen.
func (l *Log) Connect() {
	l.next, l.any, l.gap = l.last+1, false, false
}

// Step takes the event that was expected next, in the plainest of states; it
// reports false and does nothing if Event has to look at it.
func (l *Log) Step(millis uint64, c *Counters) bool {
	if l.next != l.last+1 || l.gap || l.terminal || millis < l.millis {
		return false
	}
	l.last = l.next
	l.next++
	l.millis, l.any = millis, true
	c.Events++
	return true
}

// Gap takes a gap notice. first is the ordinal it names, 0 if it names none.
func (l *Log) Gap(first uint64, ahead bool, c *Counters) {
	c.Gaps++
	if ahead {
		// What was seen beyond the common part is not part of the log.
		c.Ahead++
		if first > 0 {
			l.last = min(l.last, first-1)
		}
		l.next, l.millis = l.last+1, 0
		return
	}
	l.gap, l.first = true, first
}

// End takes a terminal event's type: nothing may follow.
func (l *Log) End() { l.terminal = true }

// Event takes an event and says what it is.
func (l *Log) Event(millis, ordinal uint64, c *Counters) Finding {
	found := l.event(millis, ordinal, c)
	l.any = true
	l.gap = false
	return found
}

func (l *Log) event(millis, ordinal uint64, c *Counters) Finding {
	if l.terminal && ordinal > l.last {
		c.AfterTerminal++
		return AfterTerminal
	}
	switch {
	case ordinal < l.next && !l.any:
		// A connection may begin before its cursor, and goes on from there.
		l.next = ordinal + 1
		c.AcrossRepeats++
		return AcrossRepeat
	case ordinal < l.next:
		if l.fill(ordinal) {
			c.Lost--
			c.Reordered++
			c.Events++
			return Reordered
		}
		c.Repeated++
		return Repeated
	}
	found := New
	missing := ordinal - l.next
	switch {
	case l.gap && (l.first != anyFirst && l.first != ordinal || missing == 0):
		c.BadGaps++
		found = BadGap
	case l.gap:
		c.GapEvents += missing
	case missing > 0:
		if from := max(l.next, l.last+1); from < ordinal {
			c.Lost += ordinal - from
			l.holes = append(l.holes, hole{from, ordinal - 1})
		}
		found = Lost
	}
	l.next = ordinal + 1
	if ordinal <= l.last {
		c.AcrossRepeats++
		return max(found, AcrossRepeat)
	}
	if found == New && millis < l.millis {
		c.Reordered++
		found = Reordered
	}
	l.last, l.millis = ordinal, millis
	c.Events++
	return found
}

// fill takes an ordinal out of the holes.
func (l *Log) fill(ordinal uint64) bool {
	for i, h := range l.holes {
		if ordinal < h.from || ordinal > h.to {
			continue
		}
		l.holes = append(l.holes[:i], l.holes[i+1:]...)
		if h.from < ordinal {
			l.holes = append(l.holes, hole{h.from, ordinal - 1})
		}
		if ordinal < h.to {
			l.holes = append(l.holes, hole{ordinal + 1, h.to})
		}
		return true
	}
	return false
}

// Finish ends the log of a subscriber that should have seen everything up to
// head, the newest ordinal there is.
func (l *Log) Finish(head uint64, c *Counters) {
	if l.terminal {
		return
	}
	c.Incomplete++
	if head > l.last {
		c.Lost += head - l.last
	}
}
