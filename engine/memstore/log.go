package memstore

import (
	"sort"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// eventLog is the retained part of a task's log, in the batches that appends
// made. A batch never changes once it is in: followers and readers share it.
type eventLog struct {
	batches [][]engine.Event
	count   int
	bytes   int64
	// last is the newest event ever, also after the log is cleared.
	last engine.EventID
}

func (l *eventLog) append(batch []engine.Event) (added int64) {
	for i := range batch {
		added += eventSize(&batch[i])
	}
	l.batches = append(l.batches, batch)
	l.count += len(batch)
	l.bytes += added
	l.last = batch[len(batch)-1].ID
	return added
}

// trim drops the oldest events until at most maxCount and maxBytes are left,
// but never the newest, and returns the bytes set free.
func (l *eventLog) trim(maxCount int, maxBytes int64) (freed int64) {
	for l.count > 1 && (l.count > maxCount || l.bytes > maxBytes) {
		head := l.batches[0]
		n := eventSize(&head[0])
		freed += n
		l.bytes -= n
		l.count--
		if len(head) > 1 {
			l.batches[0] = head[1:]
		} else {
			l.batches[0] = nil // the array lives on until append moves it
			l.batches = l.batches[1:]
		}
	}
	return freed
}

// clear drops everything and returns the bytes set free.
func (l *eventLog) clear() (freed int64) {
	freed = l.bytes
	l.batches, l.count, l.bytes = nil, 0, 0
	return freed
}

// first is the oldest retained event's ID, zero if there is none.
func (l *eventLog) first() engine.EventID {
	if l.count == 0 {
		return engine.EventID{}
	}
	return l.batches[0][0].ID
}

// newest is the newest retained event's ID, zero if there is none.
func (l *eventLog) newest() engine.EventID {
	if l.count == 0 {
		return engine.EventID{}
	}
	return l.last
}

// after returns the batches that hold events after the cursor, the first of
// them cut to begin there.
func (l *eventLog) after(cursor engine.EventID) (rest [][]engine.Event) {
	i := sort.Search(len(l.batches), func(i int) bool {
		b := l.batches[i]
		return b[len(b)-1].ID.Compare(cursor) > 0
	})
	if i == len(l.batches) {
		return nil
	}
	head := l.batches[i]
	j := sort.Search(len(head), func(j int) bool { return head[j].ID.Compare(cursor) > 0 })
	if j == 0 {
		return l.batches[i:]
	}
	rest = append(rest, head[j:])
	return append(rest, l.batches[i+1:]...)
}

// holds reports whether the very event id is retained.
func (l *eventLog) holds(id engine.EventID) bool {
	i := sort.Search(len(l.batches), func(i int) bool {
		b := l.batches[i]
		return b[len(b)-1].ID.Compare(id) >= 0
	})
	if i == len(l.batches) {
		return false
	}
	b := l.batches[i]
	j := sort.Search(len(b), func(j int) bool { return b[j].ID.Compare(id) >= 0 })
	return j < len(b) && b[j].ID == id
}
