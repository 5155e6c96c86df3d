package fanout

import "bytes"

// whereabouts is where a cursor stands.
type whereabouts uint8

const (
	inside  whereabouts = iota // the ring has what comes next
	current                    // nothing comes next, for now
	past                       // nothing comes next, ever
	before                     // the Source must be asked
)

// locate finds out where s stands.
func (l *loop) locate(s *sub) whereabouts {
	lg := s.group.log
	lg.mu.Lock()
	defer lg.mu.Unlock()
	return l.stand(s)
}

// stand is locate with the log's mutex held.
func (l *loop) stand(s *sub) whereabouts {
	g, lg := s.group, s.group.log
	switch {
	case lg.err != nil || lg.epoch != g.epoch:
		return current // a pass is on its way and will tell
	case s.standing == stale:
		return before
	case lg.adrift && s.standing == trusted && !s.more:
		return current
	case lg.adrift:
		return before
	}
	r, c := &lg.ring, s.cursor
	last := r.last()
	g.head, g.over = last, r.over()
	switch {
	case c.Ordinal < r.base.Ordinal:
		return before
	case c.Ordinal > last.Ordinal:
		switch {
		case s.standing != trusted && (lg.followed || r.over()):
			return before // ask whether it exists
		case r.over():
			return past
		}
		return current
	}
	// Ordinals are used again after a lost tail, and reads may know of it before
	// the ring does: a cursor must name the very entry that the ring has.
	same := r.id(c.Ordinal) == c && !s.loose && (!r.loose || c.Ordinal != r.base.Ordinal)
	switch {
	case c.Ordinal == 0 && !s.loose && !r.over() && last.Ordinal == 0:
		return current
	case c.Ordinal < last.Ordinal && (same || c.Ordinal == 0 && !s.loose):
		return inside
	case c.Ordinal < last.Ordinal || !same && s.standing != trusted:
		return before
	case r.over():
		return past
	}
	return current
}

// ringSpan returns what the ring has for s.
func (l *loop) ringSpan(s *sub) (span, whereabouts) {
	g, lg := s.group, s.group.log
	framing := s.outlet.class.cfg.Framing
	k := spanKey{log: lg, framing: framing, epoch: g.epoch, after: s.cursor, merged: l.merging(s)}
	if s.standing != stale && !s.loose {
		if sp, ok := l.spans.get(&k, g.head); ok {
			return sp, inside
		}
	}
	lg.mu.Lock()
	where := l.stand(s)
	if where != inside {
		lg.mu.Unlock()
		return span{}, where
	}
	r := &lg.ring
	entries := l.work.entries[:0]
	limit := l.hub.cfg.FlushBytes
	if k.merged {
		limit *= 4 // most of an entry that holds a word is what is around it
	}
	first := int(s.cursor.Ordinal - r.base.Ordinal)
	for i, bytes := first, 0; i < r.n && bytes <= limit; i++ {
		e := r.at(i)
		entries = append(entries, *e)
		bytes += len(e.Body)
	}
	more := first+len(entries) < r.n
	lg.mu.Unlock()

	sp := l.frame(framing, lg.key, entries, k.merged)
	sp.full = sp.full || more
	clear(entries)
	l.work.entries = entries
	if len(g.members) > 1 {
		l.spans.put(k, sp, l.now)
	}
	return sp, inside
}

// pageSpan returns what the page in s's hand has for it: the gap before it, if
// that was not announced yet, and entries.
func (l *loop) pageSpan(s *sub, c *catchUp) (span, bool) {
	page, after := c.page, s.cursor
	var gap []byte
	if c.unsaid {
		after = page.Position
		gap = s.outlet.class.cfg.Framing.AppendGap([]byte{}, s.group.log.key, *page.Gap)
	}
	taken := int(after.Ordinal - page.Position.Ordinal)
	if taken >= len(page.Entries) {
		return span{bytes: gap, end: after, full: true, gap: true}, c.unsaid
	}
	g := s.group
	k := spanKey{log: g.log, page: c.from.number, framing: s.outlet.class.cfg.Framing, after: after, merged: l.merging(s)}
	sp, ok := l.spans.get(&k, g.head)
	if !ok {
		sp = l.frame(k.framing, g.log.key, page.Entries[taken:], k.merged)
		sp.full = true
		if len(g.members) > 1 {
			l.spans.put(k, sp, l.now)
		}
	}
	if c.unsaid {
		sp.bytes, sp.gap = append(gap, sp.bytes...), true
	}
	return sp, true
}

// next returns what s gets next. If it must be read, that is begun.
func (l *loop) next(s *sub) (span, whereabouts) {
	o := s.outlet
	paged := false
	if c := o.catch; c != nil && c.sub == s {
		if c.page == nil {
			return span{}, current // being read
		}
		if sp, ok := l.pageSpan(s, c); ok {
			return sp, inside
		}
		l.abandon(o) // it is used up
		paged = true
	}
	if s.cursor == s.group.head && s.standing != stale && !s.group.over {
		return span{}, current
	}
	sp, where := l.ringSpan(s)
	switch {
	case where == before && paged:
		s.wants = true
		l.startNext(o, s.next) // the others' turn first
	case where == before:
		l.startRead(s)
	}
	return sp, where
}

// advance moves the cursor over what is being written.
func (s *sub) advance(sp *span) {
	s.cursor, s.loose = sp.end, false
	if sp.gap {
		c := s.outlet.catch
		c.unsaid = false
		s.loose = sp.end == c.page.Position // the notice alone
	}
}

// flush gives an outlet what lies between its cursors and the heads, in one
// write, and has it come again if that was too much for one.
func (l *loop) flush(o *Outlet) {
	if o.state != outletOpen || o.rest != nil {
		return
	}
	if o.many != nil {
		l.flushMany(o)
		return
	}
	s := &o.one
	if s.outlet == nil {
		return
	}
	sp, where := l.next(s)
	switch where {
	case current:
		l.note(o, o.catch == nil)
	case past:
		l.finish(s)
	case inside:
		s.advance(&sp)
		l.write(o, sp.bytes)
		l.giveBack(o, s, &sp)
		l.note(o, !sp.full)
		if sp.over {
			l.finish(s)
		} else if sp.full {
			l.queue(o)
		}
	}
}

// giveBack moves the cursor of a subscriber whose sink is full back to the entry
// that it got part of.
func (l *loop) giveBack(o *Outlet, s *sub, sp *span) {
	if o.rest == nil {
		return
	}
	if rest, ok := sp.shorten(len(sp.bytes) - len(o.rest.tail)); ok {
		o.rest.tail = rest
		s.cursor = sp.end
	}
}

// flushMany is flush for several cursors: each gets its turn to be first.
func (l *loop) flushMany(o *Outlet) {
	w := &l.work
	w.parts, w.finals = w.parts[:0], w.finals[:0]
	m := o.many
	m.last = l.now
	total, again := 0, false
	begin := m.turn
	if begin == nil {
		begin = m.subs
	}
	if begin == nil {
		return
	}
	for s, first := begin, true; first || s != begin; first = false {
		following := s.next
		if following == nil {
			following = m.subs
		}
		sp, where := l.next(s)
		if where == inside && total > 0 && total+len(sp.bytes) > l.hub.cfg.FlushBytes {
			again = true
			break
		}
		switch where {
		case inside:
			w.parts = append(w.parts, part{span: sp, sub: s, before: s.cursor, loose: s.loose})
			s.advance(&sp)
			total += len(sp.bytes)
			again = again || sp.full
			m.turn = following
		case past:
			w.finals = append(w.finals, s)
		}
		s = following
	}
	l.write(o, w.join(total))
	w.giveBack(o, total)
	for i := range w.parts {
		if p := &w.parts[i]; p.over {
			w.finals = append(w.finals, p.sub)
		}
	}
	clear(w.parts)
	l.note(o, !again && o.catch == nil)
	for i, s := range w.finals {
		w.finals[i] = nil
		if o.state != outletEnded && s.outlet == o {
			l.finish(s)
		}
	}
	if again {
		l.queue(o)
	}
	l.startNext(o, m.subs)
}

// part is what one subscription gives to a flush of several.
type part struct {
	span
	sub *sub
	// before and loose are what the cursor was.
	before ID
	loose  bool
}

// giveBack moves the cursors of a subscriber whose sink is full back: that of the
// part that was cut to the entry that some was taken of, those of the parts behind
// it to where they were.
func (w *scratch) giveBack(o *Outlet, total int) {
	if o.rest == nil {
		return
	}
	taken := total - len(o.rest.tail)
	o.rest.tail = nil
	for i := range w.parts {
		p := &w.parts[i]
		n := len(p.bytes)
		switch {
		case taken >= n: // all of it
		case taken == 0:
			p.sub.cursor, p.sub.loose, p.over = p.before, p.loose, false
		default:
			left := p.bytes[taken:]
			if rest, ok := p.shorten(taken); ok {
				o.rest.tail, p.sub.cursor = rest, p.end
			} else {
				o.rest.tail = bytes.Clone(left)
			}
		}
		taken = max(taken-n, 0)
	}
}

// join makes one buffer of the parts: a copy costs less than a further system
// call. A single part stays shared.
func (w *scratch) join(total int) []byte {
	switch len(w.parts) {
	case 0:
		return nil
	case 1:
		return w.parts[0].bytes
	}
	all := make([]byte, 0, total)
	for i := range w.parts {
		all = append(all, w.parts[i].bytes...)
	}
	return all
}

// finish is the end of a subscription whose final entry is written, or the
// next thing to be.
func (l *loop) finish(s *sub) {
	o := s.outlet
	if o == nil || o.state != outletOpen {
		return
	}
	key, next := s.group.log.key, s.next
	l.drop(s)
	o.sink.Finished(key)
	l.startNext(o, next)
}
