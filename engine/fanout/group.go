package fanout

// remove takes s out of the members, keeping those that had their turn in the
// pass under way before those that have not.
func (g *group) remove(s *sub) {
	i, last := int(s.index), len(g.members)-1
	if i < g.visited {
		g.visited--
		g.move(g.visited, i)
		i = g.visited
	}
	if i != last { // else last is s, or was moved just now
		g.move(last, i)
	}
	g.members[last] = nil
	g.members = g.members[:last]
	if n := cap(g.members); n > 64 && last < n/4 {
		g.members = append(make([]*sub, 0, n/2), g.members...)
	}
}

func (g *group) move(from, to int) {
	g.members[to] = g.members[from]
	g.members[to].index = uint32(to)
}

// schedule has a group whose log has moved gone through: at once if the last
// pass began a flush interval ago, else when the interval is over.
func (l *loop) schedule(g *group) {
	switch {
	case g.dead || g.waiting:
	case g.passing:
		g.again = true
	case l.now < g.due:
		g.waiting = true
		l.pacer.addGroup(l, g)
	default:
		g.passing = true
		g.visited = -1
		g.asked = l.now
		l.groups.push(g)
	}
}

// restFactor is how long a busy log's period is, in passes over its subscribers:
// writing to them takes a third of a loop's time.
const restFactor = 3

// rest has a group whose log moved during a pass wait, the longer the longer
// that took. A pass counts from when it was asked for: if many groups wait for
// their turn, each of them rests longer.
func (l *loop) rest(g *group) {
	if l.hub.cfg.FlushInterval <= 0 {
		return
	}
	l.now = l.hub.now()
	took := l.now - g.asked
	g.due = max(g.due, g.asked+min(restFactor*took, int64(l.hub.cfg.MaxFlushInterval)))
}

// moved reports that the log has moved since it was looked at, and that the
// loop will be told; over, that its final entry is there.
func (g *group) moved() (moved, over bool) {
	g.log.mu.Lock()
	defer g.log.mu.Unlock()
	return g.told, g.log.ring.over()
}

// pass visits some of the members; it puts the group back in the queue if
// there are more.
func (l *loop) pass(g *group) (visits int) {
	if g.dead {
		return 0
	}
	l.now = l.hub.now()
	if g.visited < 0 {
		g.visited, g.again = 0, false
		g.due = l.now + max(0, int64(l.hub.cfg.FlushInterval))
	}
	// Before each part anew, so that those who come late in a long pass get
	// what has come since it began.
	if !l.look(g) {
		return 0
	}
	for visits < passVisits && g.visited < len(g.members) {
		s := g.members[g.visited]
		g.visited++
		visits++
		l.visit(s)
	}
	if g.dead {
		return visits
	}
	if g.visited < len(g.members) {
		l.groups.push(g)
		return visits
	}
	g.passing, g.visited = false, 0
	again := g.again
	g.again = false
	// A rest gathers what comes next; behind the final entry nothing does.
	if moved, over := g.moved(); (again || moved) && !over {
		l.rest(g)
	}
	if again {
		l.schedule(g)
	}
	return visits
}

// look takes over what happened to the log. It reports false if the log has
// failed, and the group with it.
func (l *loop) look(g *group) bool {
	lg := g.log
	lg.mu.Lock()
	g.told = false
	err, epoch := lg.err, lg.epoch
	head, over := lg.ring.last(), lg.ring.over()
	lg.mu.Unlock()
	if err != nil {
		for len(g.members) > 0 {
			s := g.members[len(g.members)-1]
			o, next := s.outlet, s.next
			l.drop(s)
			o.sink.Failed(lg.key, err)
			l.startNext(o, next)
		}
		return false
	}
	if epoch != g.epoch {
		g.epoch = epoch
		for _, s := range g.members {
			s.standing = stale
			if c := s.outlet.catch; c != nil && c.sub == s && c.trip != nil && c.trip.flight == nil {
				l.abandon(s.outlet) // no use in waiting to ask an old question
			}
		}
	}
	g.head, g.over = head, over
	return true
}

// visit gives a member what there is, if it can take it now.
func (l *loop) visit(s *sub) {
	o := s.outlet
	if o.rest != nil || o.state != outletOpen || o.runnable {
		return // it comes by itself
	}
	if s.cursor == s.group.head && s.standing != stale && !s.group.over {
		return
	}
	m := o.many
	switch {
	case m == nil:
		l.flush(o)
	case m.deferred:
	case l.hub.cfg.FlushInterval > 0 && m.last != 0 && l.now-m.last < int64(l.hub.cfg.FlushInterval):
		m.deferred = true
		l.pacer.addOutlet(l, o)
	default:
		l.queue(o)
	}
}
