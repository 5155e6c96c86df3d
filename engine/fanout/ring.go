package fanout

// entryOverhead is what an entry costs beside its body.
const entryOverhead = 64

func cost(e *Entry) int64 { return int64(len(e.Body)) + entryOverhead }

// ring holds a contiguous run of entries, the newest ones of a log.
type ring struct {
	slots []Entry // a power of two
	first int     // the oldest one's slot
	n     int
	bytes int64
	// base is the position just before the oldest entry. If it is loose only
	// its ordinal is known.
	base  ID
	loose bool
}

// at returns the i-th oldest entry.
func (r *ring) at(i int) *Entry { return &r.slots[(r.first+i)&(len(r.slots)-1)] }

// last is the newest entry's id, or base.
func (r *ring) last() ID {
	if r.n == 0 {
		return r.base
	}
	return r.at(r.n - 1).ID
}

// over says that the newest entry is the last that there will be.
func (r *ring) over() bool { return r.n > 0 && r.at(r.n-1).Final }

// id returns the id at an ordinal between base and last.
func (r *ring) id(ordinal uint64) ID {
	if ordinal == r.base.Ordinal {
		return r.base
	}
	return r.at(int(ordinal-r.base.Ordinal) - 1).ID
}

// push adds an entry that joins on.
func (r *ring) push(e Entry) {
	if r.n == len(r.slots) {
		r.resize(max(4, 2*r.n))
	}
	r.n++
	*r.at(r.n - 1) = e
	r.bytes += cost(&e)
}

// evict drops the oldest entry and returns what that frees.
func (r *ring) evict() int64 {
	e := r.at(0)
	freed := cost(e)
	r.base, r.loose = e.ID, false
	*e = Entry{}
	r.first = (r.first + 1) & (len(r.slots) - 1)
	r.n--
	r.bytes -= freed
	if len(r.slots) > 64 && r.n < len(r.slots)/8 {
		r.resize(len(r.slots) / 4)
	}
	return freed
}

func (r *ring) resize(size int) {
	slots := make([]Entry, size)
	for i := range r.n {
		slots[i] = *r.at(i)
	}
	r.slots, r.first = slots, 0
}

// reset empties the ring.
func (r *ring) reset(base ID, loose bool) {
	*r = ring{base: base, loose: loose}
}
