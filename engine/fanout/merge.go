package fanout

import "time"

// mergeAfter is how long a subscriber has not come to the head of its log,
// since its sink was first full, when it is taken for one that cannot keep up.
// Whoever only has much to catch up with is through by then.
const mergeAfter = 250 * time.Millisecond

// Merger is a Source that can make one entry out of several. Subscribers that
// cannot keep up get what they lack that way, if they follow the log with
// FollowMerged; everyone else sees every entry.
type Merger interface {
	// Merge returns an entry that stands for the first n of entries, n >= 1,
	// with the ID of the last of them, and a body of at most room bytes if n >
	// 1. entries are of one log, at least one, without a hole; they are not
	// changed. It is called by delivery loops: it must not block.
	Merge(entries []Entry, room int) (merged Entry, n int)
}

// FollowMerged is Follow for a log whose entries may be merged while the
// subscriber cannot keep up. If the Source is no Merger it is Follow.
func (o *Outlet) FollowMerged(key string, after ID, opening []byte) {
	o.class.loop.box.post(command{op: opFollow, outlet: o, key: key, after: after, bytes: opening, merged: true})
}

// merging says that s is to get merged entries.
func (l *loop) merging(s *sub) bool {
	return s.group.merged && s.outlet.behind > 0 && l.now-s.outlet.behind >= int64(mergeAfter)
}

// note notes whether o keeps up, after a flush. all says that it has come to
// the end of what there is.
func (l *loop) note(o *Outlet, all bool) {
	switch {
	case o.state != outletOpen:
	case o.rest != nil && o.behind == 0 && o.mergeable():
		o.setBehind(max(l.now, 1))
	case o.rest == nil && o.behind > 0 && all:
		o.setBehind(0)
	}
}

// mergeable says that it matters whether o keeps up.
func (o *Outlet) mergeable() bool {
	for s := o.first(); s != nil; s = s.next {
		if s.group.merged {
			return true
		}
	}
	return false
}
