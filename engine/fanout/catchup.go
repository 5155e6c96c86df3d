package fanout

import (
	"errors"
	"slices"
)

// catchUp is one subscription's way to the ring through pages of the Source.
// An outlet has one at a time: at most one page in memory, shared with those
// that stand at the same cursor.
type catchUp struct {
	sub *sub
	// trip is the read that is waited for, nil when page is there.
	trip *trip
	page *Page
	from *flight // that page is of
	// unsaid says that the page begins behind a gap that is to be announced
	// with its first entry. Until then the cursor stands before the gap: if the
	// page is given up, the next one tells of all that has gone by then.
	unsaid bool
}

// trip is one read of the loop, for all its outlets that want the same.
type trip struct {
	flight *flight // nil during the pause after a failure
	key    flightKey
	takers []*catchUp
	live   int // takers that have not turned away
	failed int
	due    int64 // when to try again
}

// startRead begins a read for s, or notes that one is wanted if another
// subscription of its outlet is being read.
func (l *loop) startRead(s *sub) {
	o := s.outlet
	if o.catch != nil {
		s.wants = o.catch.sub != s
		return
	}
	s.wants = false
	lg := s.group.log
	lg.mu.Lock()
	epoch := lg.epoch
	lg.mu.Unlock()
	if s.standing == stale {
		s.standing = unproven
	}
	key := flightKey{log: lg, epoch: epoch, after: s.cursor}
	t := l.trips[key]
	if t == nil {
		t = &trip{key: key}
		l.trips[key] = t
		t.flight = l.hub.reads.join(l, key)
	}
	o.setCatch(&catchUp{sub: s, trip: t})
	t.takers = append(t.takers, o.catch)
	t.live++
}

// startNext begins a read for the next subscription of o that wants one.
func (l *loop) startNext(o *Outlet, after *sub) {
	if o.catch != nil || o.rest != nil || o.state != outletOpen {
		return
	}
	for s := after; s != nil; s = s.next {
		if s.wants {
			l.startRead(s)
			return
		}
	}
	for s := o.first(); s != nil; s = s.next {
		if s.wants {
			l.startRead(s)
			return
		}
	}
}

// abandon lets go of what o was reading.
func (l *loop) abandon(o *Outlet) {
	c := o.catch
	o.setCatch(nil)
	switch {
	case c == nil:
		return
	case c.trip == nil:
		l.hub.reads.letGo(c.from)
		return
	}
	t := c.trip
	c.trip, c.sub = nil, nil
	t.live--
	if t.live > 0 {
		return
	}
	delete(l.trips, t.key)
	if t.flight != nil {
		l.hub.reads.leave(l, t.flight)
		t.flight = nil
	}
}

// landed takes the answer of a read.
func (l *loop) landed(f *flight) {
	defer l.hub.reads.letGo(f)
	t := l.trips[f.key]
	if t == nil || t.flight != f {
		return // nobody waits any more
	}
	t.flight = nil
	if f.err != nil && !errors.Is(f.err, ErrNotFound) {
		if t.failed == 0 {
			l.hub.cfg.Logger.Warn("fanout: reading failed, trying again", "key", f.key.log.key, "err", f.err)
		}
		l.pause(t)
		return
	}
	delete(l.trips, t.key)
	var stuck *trip
	for _, c := range t.takers {
		s := c.sub
		if s == nil || c.trip != t {
			continue // turned away meanwhile
		}
		o := s.outlet
		if f.err != nil {
			o.setCatch(nil)
			next := s.next
			l.drop(s)
			o.sink.Failed(f.key.log.key, f.err)
			l.startNext(o, next)
			continue
		}
		s.more = f.page.More
		if s.standing != stale {
			s.standing = trusted
		}
		if l.still(s, f) {
			// The Source has not got as far as the ring, or says that there is
			// more and does not give it: ask again, later.
			if stuck == nil {
				stuck = &trip{key: t.key, failed: t.failed}
			}
			c.trip = stuck
			stuck.takers = append(stuck.takers, c)
			stuck.live++
			continue
		}
		c.trip, c.page, c.from = nil, &f.page, f
		l.hub.reads.hold(f)
		c.unsaid = f.page.Gap != nil
		l.queue(o)
	}
	if stuck != nil {
		l.trips[stuck.key] = stuck
		l.pause(stuck)
	}
}

// still says that a read has not moved s and that it must read again all the
// same.
func (l *loop) still(s *sub, f *flight) bool {
	if s.standing == stale || f.page.Position != f.key.after || len(f.page.Entries) > 0 {
		return false
	}
	return l.locate(s) == before || f.page.More
}

// pause has a trip made again after a while.
func (l *loop) pause(t *trip) {
	t.failed++
	t.due = l.now + int64(backoff(t.failed))
	l.paused = append(l.paused, t)
	l.retryAt = min(l.retryAt, t.due)
}

// retry makes the trips whose pause is over.
func (l *loop) retry() {
	if l.now < l.retryAt {
		return
	}
	l.retryAt = never
	l.paused = slices.DeleteFunc(l.paused, func(t *trip) bool {
		if t.live == 0 {
			return true
		}
		if t.due > l.now {
			l.retryAt = min(l.retryAt, t.due)
			return false
		}
		t.flight = l.hub.reads.join(l, t.key)
		return true
	})
}
