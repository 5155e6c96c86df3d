package fiberbridge

// quota bounds what subjects hold of something together, and each of them.
// streams.mu guards it.
type quota struct {
	held           int64
	most, mostEach int64
}

// fits reports whether a subject that holds mine may take n more: all says that
// there is room in all, own that the subject has some of it. A subject may hold
// at most half of what is left to all, so that a few do not take everything;
// one that holds nothing has room as long as there is any, and so has the first
// of all, whatever its size.
func (q *quota) fits(mine, n int64) (all, own bool) {
	left := q.most - q.held
	all = n <= left || q.held == 0
	own = mine == 0 || mine+n <= min(q.mostEach, left/2)
	return all, own
}
