package fanout

// pacer holds what has been flushed less than its interval ago and has
// something new, until the interval is over. It has 16 slots, each an eighth
// of the flush interval, so that what falls due at about the same time costs
// the loop one wake-up. What falls due beyond them is put in again when it
// comes up.
type pacer struct {
	quantum int64
	tick    int64
	n       int
	slots   [16]paceSlot
}

type paceSlot struct {
	groups  []*group
	outlets []*Outlet
}

func (p *pacer) slot(l *loop, due int64) *paceSlot {
	if p.n == 0 {
		p.tick = l.now / p.quantum
	}
	p.n++
	tick := (due + p.quantum - 1) / p.quantum
	tick = max(p.tick+1, min(tick, p.tick+int64(len(p.slots))-1))
	return &p.slots[tick%int64(len(p.slots))]
}

func (p *pacer) addGroup(l *loop, g *group) {
	s := p.slot(l, g.due)
	s.groups = append(s.groups, g)
}

func (p *pacer) addOutlet(l *loop, o *Outlet) {
	s := p.slot(l, o.many.last+int64(l.hub.cfg.FlushInterval))
	s.outlets = append(s.outlets, o)
}

// advance hands over what is due.
func (p *pacer) advance(l *loop) {
	for tick := l.now / p.quantum; p.n > 0 && p.tick < tick; {
		p.tick++
		s := &p.slots[p.tick%int64(len(p.slots))]
		p.n -= len(s.groups) + len(s.outlets)
		groups, outlets := s.groups, s.outlets
		s.groups, s.outlets = groups[:0], outlets[:0]
		for i, g := range groups {
			groups[i] = nil
			g.waiting = false
			l.schedule(g)
		}
		for i, o := range outlets {
			outlets[i] = nil
			o.many.deferred = false
			l.queue(o)
		}
	}
}

// next is when the first of what is held falls due.
func (p *pacer) next() int64 {
	if p.n == 0 {
		return never
	}
	for tick := p.tick + 1; ; tick++ {
		if s := &p.slots[tick%int64(len(p.slots))]; len(s.groups)+len(s.outlets) > 0 {
			return tick * p.quantum
		}
	}
}
