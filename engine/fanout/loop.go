package fanout

import (
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

const never = math.MaxInt64

// loop delivers to its outlets. All that it holds belongs to its goroutine,
// except the mailbox and the load.
type loop struct {
	hub  *Hub
	box  mailbox
	load atomic.Int64 // outlets

	now     int64
	classes classes
	active  []*class // those with outlets that were admitted

	// What is to be done, oldest first.
	groups queue[*group]
	ready  queue[*Outlet]
	pacer  pacer

	spans spanCache
	work  scratch

	trips   map[flightKey]*trip
	paused  []*trip
	retryAt int64
}

func newLoop(h *Hub) *loop {
	l := &loop{
		hub:     h,
		trips:   make(map[flightKey]*trip),
		retryAt: never,
	}
	l.box.wake = make(chan struct{}, 1)
	l.pacer.quantum = max(1, int64(h.cfg.FlushInterval)/8)
	l.spans.init()
	return l
}

// run is the loop's goroutine.
func (l *loop) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var commands []command
	var moved []*group
	var closing bool
	for {
		l.now = l.hub.now()
		commands, moved, closing = l.box.take(commands, moved)
		for i := range commands {
			l.obey(&commands[i])
		}
		for _, g := range moved {
			l.schedule(g)
		}
		commands, moved = emptied(commands), emptied(moved)
		if closing {
			l.shutdown()
			return
		}
		l.pacer.advance(l)
		l.retry()
		l.sweep()
		if l.turn() {
			// Writes that never wait let nobody else run: on few cores those
			// who emit would stand still for as long as it takes to notice.
			runtime.Gosched()
			continue
		}
		if !l.box.sleep() {
			continue
		}
		timer.Reset(time.Duration(min(l.deadline(), l.now+int64(time.Hour)) - l.hub.now()))
		select {
		case <-l.box.wake:
		case <-timer.C:
		}
	}
}

// emptied makes a slice ready for use again, and forgets one that a burst made
// large.
func emptied[T any](s []T) []T {
	if cap(s) > 1<<12 {
		return nil
	}
	clear(s)
	return s[:0]
}

// deadline is when the loop has something to do even if nobody calls.
func (l *loop) deadline() int64 {
	at := min(l.retryAt, l.pacer.next(), l.spans.expiry)
	for _, c := range l.active {
		at = min(at, c.deadline())
	}
	return at
}

// A turn does this much before it looks at the mailbox and the clock again.
const (
	turnVisits = 256
	passVisits = 64
)

// turn works off some of what is to be done, groups and single outlets by
// turns. It reports whether there is more.
func (l *loop) turn() bool {
	for visits := turnVisits; visits > 0; {
		if l.groups.len() == 0 && l.ready.len() == 0 {
			return false
		}
		if l.groups.len() > 0 {
			visits -= 1 + l.pass(l.groups.pop())
		}
		for n := min(l.ready.len(), passVisits); n > 0; n-- {
			o := l.ready.pop()
			o.runnable = false
			l.flush(o)
			visits--
		}
	}
	return l.groups.len() > 0 || l.ready.len() > 0
}

// queue has o flushed soon.
func (l *loop) queue(o *Outlet) {
	if !o.runnable && o.state == outletOpen && o.rest == nil && o.first() != nil {
		o.runnable = true
		l.ready.push(o)
	}
}

func (l *loop) obey(c *command) {
	if c.op == opRead {
		l.landed(c.flight)
		return
	}
	o := c.outlet
	switch c.op {
	case opOpen:
		l.admit(o)
		return
	case opWritable:
		o.told.Store(false) // first, so that a signal from now on counts
	}
	switch {
	case o.state == outletEnded:
	case c.op == opGone:
		l.end(o, EndGone)
	case c.op == opWritable:
		l.drain(o)
	case o.state == outletEnding:
	case c.op == opFollow:
		l.follow(o, c)
	case c.op == opUnfollow:
		if s := o.find(c.key); s != nil {
			next := s.next
			l.drop(s)
			l.control(o, c.bytes)
			l.startNext(o, next)
		}
	case c.op == opSend && c.unseen:
		l.aside(o, c.bytes)
	case c.op == opSend:
		l.control(o, c.bytes)
	case c.op == opTell:
		c.tell()
	case c.op == opEnd:
		l.farewell(o, c.bytes)
	}
}

// follow adds a subscription, or moves the one that there is.
func (l *loop) follow(o *Outlet, c *command) {
	key, after := c.key, c.after
	l.control(o, c.bytes)
	if o.state != outletOpen {
		return
	}
	s := o.find(key)
	if s != nil {
		l.drop(s)
	}
	lg, err := l.hub.logs.acquire(key, after)
	if err != nil {
		return // the hub is being closed, and this outlet with it
	}
	g, fresh := lg.join(l)
	if !fresh {
		l.hub.logs.release(lg) // the group has a reference already
	}
	if s == nil {
		s = o.vacant()
	}
	*s = sub{outlet: o, group: g, cursor: after, index: uint32(len(g.members))}
	g.members = append(g.members, s)
	g.merged = g.merged || c.merged && l.hub.merger != nil
	o.link(s)
	l.hub.subscriptions.Add(1)
	if o.where == clockStill {
		l.place(o)
	}
	l.queue(o)
}

// drop removes a subscription.
func (l *loop) drop(s *sub) {
	o, g := s.outlet, s.group
	if c := o.catch; c != nil && c.sub == s {
		l.abandon(o)
	}
	o.unlink(s)
	g.remove(s)
	if len(g.members) == 0 {
		g.dead = true
		g.log.leave(g)
		l.hub.logs.release(g.log)
	}
	*s = sub{}
	l.hub.subscriptions.Add(-1)
	if o.first() == nil && o.rest == nil && o.state == outletOpen {
		l.place(o)
	}
}

// shutdown ends every outlet.
func (l *loop) shutdown() {
	for _, c := range slices.Clone(l.active) {
		for i := range c.lists {
			for c.lists[i].first != nil {
				l.end(c.lists[i].first, EndHub)
			}
		}
	}
}
