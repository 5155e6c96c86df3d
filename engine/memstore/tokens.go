package memstore

import "github.com/taskbridge/taskbridge-fiber/engine"

// keptTokens is how many appends of a task can still be repeated. An emitter
// has one append of a task in flight at a time, so this allows for dozens of
// writers that repeat at once.
const keptTokens = 64

// tokens remembers the newest appends of a task.
type tokens struct {
	ring []appended
	next int
	size int64
}

type appended struct {
	token string
	first engine.EventID
	n     int
}

const tokenOverhead = 48

func (t *tokens) find(token string) ([]engine.EventID, bool) {
	for i := range t.ring {
		if a := &t.ring[i]; a.token == token {
			return idsFrom(a.first, a.n), true
		}
	}
	return nil, false
}

// add remembers an append and returns by how much the ring's size changed.
func (t *tokens) add(token string, first engine.EventID, n int) (grown int64) {
	a := appended{token, first, n}
	if len(t.ring) < keptTokens {
		t.ring = append(t.ring, a)
		grown = int64(len(token)) + tokenOverhead
	} else {
		grown = int64(len(token) - len(t.ring[t.next].token))
		t.ring[t.next] = a
		t.next = (t.next + 1) % keptTokens
	}
	t.size += grown
	return grown
}

// keepNewest forgets all but the newest append and returns by how much the
// ring's size changed.
func (t *tokens) keepNewest() (grown int64) {
	if len(t.ring) == 0 {
		return 0
	}
	newest := t.ring[(t.next+len(t.ring)-1)%len(t.ring)]
	before := t.size
	*t = tokens{}
	t.add(newest.token, newest.first, newest.n)
	return t.size - before
}

// idsFrom lists n dense IDs of one batch.
func idsFrom(first engine.EventID, n int) []engine.EventID {
	ids := make([]engine.EventID, n)
	for i := range ids {
		ids[i] = engine.EventID{Millis: first.Millis, Ordinal: first.Ordinal + uint64(i)}
	}
	return ids
}
