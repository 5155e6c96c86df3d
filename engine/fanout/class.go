package fanout

import (
	"sync"
	"time"
)

// class is the outlets of a loop that were opened with equal settings. Its
// lists are in the order of time, so that a deadline is found at their heads:
// idle outlets cost nothing, however many there are.
type class struct {
	loop  *loop
	cfg   OutletConfig
	lists [3]outletList
	// active is the class's place in loop.active, counted from 1; zero is none.
	active int

	n int // outlets; guarded by classes.mu
}

// classes are those of a loop that have outlets.
type classes struct {
	mu sync.Mutex
	of map[OutletConfig]*class
}

// enroll returns the class of a new outlet. Any goroutine may call it.
func (l *loop) enroll(cfg OutletConfig) *class {
	l.classes.mu.Lock()
	defer l.classes.mu.Unlock()
	c := l.classes.of[cfg]
	if c == nil {
		c = &class{loop: l, cfg: cfg}
		if l.classes.of == nil {
			l.classes.of = make(map[OutletConfig]*class)
		}
		l.classes.of[cfg] = c
	}
	c.n++
	return c
}

// strike takes an outlet out of its class, and reports whether it was the last.
func (c *class) strike() (last bool) {
	of := &c.loop.classes
	of.mu.Lock()
	defer of.mu.Unlock()
	c.n--
	if c.n == 0 {
		delete(of.of, c.cfg)
	}
	return c.n == 0
}

// resign takes an admitted outlet out of its class.
func (l *loop) resign(c *class) {
	if !c.strike() {
		return
	}
	last := len(l.active) - 1
	l.active[last].active = c.active
	l.active[c.active-1] = l.active[last]
	l.active[last] = nil
	l.active = l.active[:last]
	c.active = 0
}

// clockList says in which of its class's lists an outlet is.
type clockList uint8

const (
	clockStill  clockList = iota // in no particular order: nothing falls due
	clockQuiet                   // by last write: heartbeats
	clockParked                  // by last progress: write timeouts
)

type outletList struct{ first, last *Outlet }

func (t *outletList) append(o *Outlet) {
	o.prev, o.next = t.last, nil
	if t.last != nil {
		t.last.next = o
	} else {
		t.first = o
	}
	t.last = o
}

func (t *outletList) remove(o *Outlet) {
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		t.first = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		t.last = o.prev
	}
	o.prev, o.next = nil, nil
}

// deadline is when the first of the class's outlets needs something.
func (c *class) deadline() int64 {
	at := int64(never)
	if o := c.lists[clockQuiet].first; o != nil {
		at = o.at + int64(c.cfg.Heartbeat)
	}
	if o := c.lists[clockParked].first; o != nil && c.cfg.WriteTimeout > 0 {
		at = min(at, o.at+int64(c.cfg.WriteTimeout))
	}
	return at
}

// admit takes in a new outlet.
func (l *loop) admit(o *Outlet) {
	c := o.class
	if c.active == 0 {
		l.active = append(l.active, c)
		c.active = len(l.active)
	}
	o.where = clockStill
	c.lists[clockStill].append(o)
}

// place puts o at the end of the list where it belongs, as of now.
func (l *loop) place(o *Outlet) {
	where := clockStill
	switch {
	case o.rest != nil:
		where = clockParked
	case o.class.cfg.Heartbeat > 0 && o.first() != nil:
		where = clockQuiet
	}
	o.at = l.now
	list := &o.class.lists[where]
	if o.where == where && (where == clockStill || list.last == o) {
		return
	}
	o.class.lists[o.where].remove(o)
	o.where = where
	list.append(o)
}

// sweepVisits bounds what one sweep does, so that many heartbeats that fall
// due together do not hold up what is being delivered.
const sweepVisits = 256

// sweep sends heartbeats and ends outlets that take nothing.
func (l *loop) sweep() {
	l.spans.expire(l.now)
	for i := len(l.active) - 1; i >= 0; i-- { // one that ends takes the last one's place
		c := l.active[i]
		cfg := &c.cfg
		if cfg.WriteTimeout > 0 {
			for range sweepVisits {
				o := c.lists[clockParked].first
				if o == nil || o.at+int64(cfg.WriteTimeout) > l.now {
					break
				}
				if o.taking() {
					l.place(o)
				} else {
					l.end(o, EndSlow)
				}
			}
		}
		if cfg.Heartbeat > 0 {
			l.beat(c)
		}
	}
}

func (l *loop) beat(c *class) {
	var key string
	var bytes []byte
	var now time.Time
	for range sweepVisits {
		o := c.lists[clockQuiet].first
		if o == nil || o.at+int64(c.cfg.Heartbeat) > l.now {
			return
		}
		if now.IsZero() {
			now = time.Now()
		}
		if k := o.first().group.log.key; bytes == nil || k != key {
			key = k
			bytes = c.cfg.Framing.AppendHeartbeat([]byte{}, key, now)
		}
		if len(bytes) == 0 {
			l.place(o)
			continue
		}
		l.write(o, bytes)
	}
}
