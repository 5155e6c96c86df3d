package fanout

// Recent is what the ring of a log has after a cursor.
type Recent struct {
	// Entries join on to the cursor; none means that there was nothing yet.
	Entries []Entry
	// More says that the ring has entries after these.
	More bool
}

// Recent returns up to limit entries that follow the cursor, if the log of key is
// followed already and its ring shows that the cursor is a position in it. It
// asks the Source nothing, and so does not know what has not been pushed yet.
//
// It is false if only the Source can tell, also for a cursor at the final entry.
// A log that is asked for so lingers on.
func (h *Hub) Recent(key string, after ID, limit int) (Recent, bool) {
	lg := h.logs.peek(key)
	if lg == nil {
		return Recent{}, false
	}
	lg.mu.Lock()
	defer lg.mu.Unlock()
	r := &lg.ring
	last := r.last()
	switch {
	case !lg.followed || lg.dropped || lg.err != nil || lg.adrift:
		return Recent{}, false
	case after.Ordinal < r.base.Ordinal || after.Ordinal > last.Ordinal:
		return Recent{}, false
	case r.id(after.Ordinal) != after || r.loose && after.Ordinal == r.base.Ordinal:
		return Recent{}, false // another entry than the cursor's
	case after == last:
		return Recent{}, !r.over()
	}
	first := int(after.Ordinal - r.base.Ordinal)
	n := min(r.n-first, max(limit, 1))
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = *r.at(first + i)
	}
	return Recent{Entries: entries, More: first+n < r.n}, true
}

// Expect has the log of key followed for as long as a log lingers, for somebody
// who will soon ask what comes after the cursor. The cursor must be a position
// that exists in the log, or zero.
func (h *Hub) Expect(key string, after ID) {
	if h.cfg.Linger <= 0 {
		return
	}
	if lg, err := h.logs.acquire(key, after); err == nil {
		h.logs.release(lg)
	}
}
