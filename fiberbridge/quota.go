package fiberbridge

// quota bounds what subjects hold of something together, and each of them.
// streams.mu guards it.
type quota struct {
	held           int64
	most, mostEach int64
}

// fits reports whether a subject that holds mine may take n more: all says that
// the bound of all subjects allows it, own that the subject's share does. A subject
// that holds something may hold at most half of what is left, so that a few do not
// take everything. One that holds nothing may take whatever is left, and if nobody
// holds anything n may have any size.
func (q *quota) fits(mine, n int64) (all, own bool) {
	left := q.most - q.held
	all = n <= left || q.held == 0
	own = mine == 0 || mine+n <= min(q.mostEach, left/2)
	return all, own
}
