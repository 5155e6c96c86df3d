package fanout

// maxControl bounds the control bytes that wait for a full sink.
const maxControl = 64 << 10

// write gives p to a sink that is not full. What it does not take becomes the
// outlet's rest.
func (l *loop) write(o *Outlet, p []byte) {
	if l.put(o, p) {
		l.place(o)
	}
}

// aside is write for bytes that do not count as activity of the outlet.
func (l *loop) aside(o *Outlet, p []byte) {
	if l.put(o, p) && o.rest != nil {
		l.place(o)
	}
}

// put writes p, and leaves the outlet's deadlines alone. It reports whether some of p
// was written or became the rest.
func (l *loop) put(o *Outlet, p []byte) bool {
	if len(p) == 0 || o.state == outletEnded {
		return false
	}
	if o.rest != nil {
		l.wait(o, p)
		return false
	}
	n, err := o.sink.TryWrite(p)
	switch {
	case err != nil:
		l.end(o, EndGone)
		return false
	case n < len(p):
		o.setRest(&rest{tail: p[max(n, 0):]})
		o.rest.backlog, _ = o.backlog()
		l.abandon(o)
	}
	return true
}

// wait keeps control bytes for a sink that is full.
func (l *loop) wait(o *Outlet, p []byte) {
	r := o.rest
	if len(r.control)+len(p) > maxControl {
		l.end(o, EndSlow)
		return
	}
	r.control = append(r.control, p...)
}

// control writes bytes that belong to no entry.
func (l *loop) control(o *Outlet, p []byte) { l.write(o, p) }

// drain goes on with what a full sink did not take.
func (l *loop) drain(o *Outlet) {
	r := o.rest
	if r == nil {
		return
	}
	for {
		if len(r.tail) == 0 {
			if len(r.control) == 0 {
				break
			}
			r.tail, r.control = r.control, nil
		}
		n, err := o.sink.TryWrite(r.tail)
		if err != nil {
			l.end(o, EndGone)
			return
		}
		n = max(n, 0)
		r.tail = r.tail[min(n, len(r.tail)):]
		if n > 0 {
			l.place(o)
		}
		if len(r.tail) > 0 {
			r.backlog, _ = o.backlog()
			return
		}
	}
	o.setRest(nil)
	if o.state == outletEnding {
		l.end(o, EndAsked)
		return
	}
	l.place(o)
	l.queue(o)
}

// backlog asks the sink, if it is one that knows.
func (o *Outlet) backlog() (n int, ok bool) {
	if b, knows := o.sink.(Backlogged); knows {
		return b.Backlog()
	}
	return 0, false
}

// taking reports whether the peer of a parked outlet has taken something since
// that was last asked.
func (o *Outlet) taking() bool {
	n, ok := o.backlog()
	before := o.rest.backlog
	o.rest.backlog = n
	return ok && n < before
}

// farewell ends o when p is written.
func (l *loop) farewell(o *Outlet, p []byte) {
	o.state = outletEnding
	l.dropAll(o)
	if r := o.rest; r != nil {
		r.control = append(r.control, p...)
		return
	}
	l.write(o, p)
	if o.state == outletEnding && o.rest == nil {
		l.end(o, EndAsked)
	}
}

func (l *loop) dropAll(o *Outlet) {
	for s := o.first(); s != nil; s = o.first() {
		l.drop(s)
	}
}

// end is the end of o, for whatever reason.
func (l *loop) end(o *Outlet, reason EndReason) {
	if o.state == outletEnded {
		return
	}
	o.state = outletEnded
	l.dropAll(o)
	o.class.lists[o.where].remove(o)
	l.resign(o.class)
	l.load.Add(-1)
	l.hub.outlets.Add(-1)
	sink := o.sink
	o.sink = nil
	o.setRest(nil)
	sink.Ended(reason)
}
