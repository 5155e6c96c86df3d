package fanout

import "sync/atomic"

// Outlet is one subscriber's connection: a Sink and any number of cursors.
// Its methods may be called from any goroutine, also from within a Sink's
// methods; none blocks. What they write never lands inside an entry's bytes.
// Byte slices handed to them must not be changed afterwards. After the
// outlet's end they do nothing.
//
// Control bytes (openings, farewells, Send) wait while the sink is full; an
// outlet for which more than 64 KiB of them wait ends with EndSlow.
//
// There are very many: what few of them need is set apart, see errand.
type Outlet struct {
	// class is for life, and with it the loop.
	class *class
	// told dedupes Writable: a signal is in the loop's mailbox.
	told atomic.Bool

	// Everything below belongs to the loop's goroutine.

	state outletState
	where clockList
	// runnable says that the outlet is in the loop's run queue.
	runnable bool

	sink       Sink
	prev, next *Outlet // neighbours in one of the class's lists
	at         int64   // last write, or while parked the last progress
	*errand            // read only: see the methods that set its fields
	one        sub     // the first subscription, so that it costs no allocation
}

// errand is what an outlet needs that does not simply take what comes.
type errand struct {
	rest  *rest // not nil while parked: what the sink has not taken
	catch *catchUp
	many  *many // not nil since there were two subscriptions at once
	// behind is since when it has not kept up, zero if it does or if nobody
	// wants to know.
	behind int64
}

// noErrand is that of nearly all outlets. It is never written to.
var noErrand errand

func (o *Outlet) setRest(r *rest)     { o.setErrand(errand{r, o.catch, o.many, o.behind}) }
func (o *Outlet) setCatch(c *catchUp) { o.setErrand(errand{o.rest, c, o.many, o.behind}) }
func (o *Outlet) setMany(m *many)     { o.setErrand(errand{o.rest, o.catch, m, o.behind}) }
func (o *Outlet) setBehind(at int64)  { o.setErrand(errand{o.rest, o.catch, o.many, at}) }

func (o *Outlet) setErrand(e errand) {
	switch {
	case e == errand{}:
		o.errand = &noErrand
	case o.errand == &noErrand:
		o.errand = &e
	default:
		*o.errand = e
	}
}

type outletState uint8

const (
	outletOpen   outletState = iota
	outletEnding             // End was called, bytes are still on their way
	outletEnded
)

// standing is how far a cursor is known to be in its log.
type standing uint8

const (
	// unproven: as the subscriber said.
	unproven standing = iota
	// trusted: a read has confirmed the cursor since the log was last lost, what
	// comes next will be pushed.
	trusted
	// stale: the log was lost under the cursor, it must be read.
	stale
)

// sub is one cursor of an outlet on one log.
type sub struct {
	outlet   *Outlet // nil while the place is free
	group    *group
	cursor   ID
	next     *sub   // the outlet's next subscription
	index    uint32 // in group.members
	standing standing
	// loose says that the cursor is a position behind a gap, not an entry that
	// was delivered. The Source may know of a lost tail that the ring still
	// holds: what comes next must be read.
	loose bool
	// more says that the last read left entries behind.
	more bool
	// wants says that a read is needed and another one of the outlet is first.
	wants bool
}

// many is what only an outlet with several subscriptions needs.
type many struct {
	subs     *sub  // the one followed last comes first
	turn     *sub  // where the next flush begins
	last     int64 // time of the last flush
	deferred bool
}

// rest is what a full sink has not taken: the rest of an entry, then control bytes
// that came since. While there
// is one, no entries are taken.
type rest struct {
	tail    []byte
	control []byte
	// backlog is what the peer had not taken when that was last asked.
	backlog int
}

// Follow adds the log of key from the cursor on: opening first (may be nil),
// then every entry after the cursor. If key is followed already, its cursor
// moves. The cursor must be a position that exists in the log, or zero. A
// cursor at the log's final entry gets Finished at once.
func (o *Outlet) Follow(key string, after ID, opening []byte) {
	o.class.loop.box.post(command{op: opFollow, outlet: o, key: key, after: after, bytes: opening})
}

// Unfollow drops key; farewell, if any, is written after the last of its
// entries. Dropping what is not followed writes nothing.
func (o *Outlet) Unfollow(key string, farewell []byte) {
	o.class.loop.box.post(command{op: opUnfollow, outlet: o, key: key, bytes: farewell})
}

// Send writes p between entries, in the order of the calls.
func (o *Outlet) Send(p []byte) {
	o.class.loop.box.post(command{op: opSend, outlet: o, bytes: p})
}

// SendUnseen is Send for bytes that the peer's application does not see, such as a
// ping. They do not count as activity: heartbeats come as if they had not been sent.
func (o *Outlet) SendUnseen(p []byte) {
	o.class.loop.box.post(command{op: opSend, outlet: o, bytes: p, unseen: true})
}

// Tell calls f when what was sent and followed before has been given to the sink,
// or waits because that is full: whoever sends much at a time can tell how far it
// got. f is called as a Sink's method is, and never after the outlet's end or End.
func (o *Outlet) Tell(f func()) {
	o.class.loop.box.post(command{op: opTell, outlet: o, tell: f})
}

// End drops all cursors, writes farewell after whatever is on its way, and
// then ends the outlet with EndAsked. WriteTimeout is in force meanwhile.
func (o *Outlet) End(farewell []byte) {
	o.class.loop.box.post(command{op: opEnd, outlet: o, bytes: farewell})
}

// Writable tells that a full sink takes bytes again. A false alarm is harmless.
func (o *Outlet) Writable() {
	if !o.told.Swap(true) {
		o.class.loop.box.post(command{op: opWritable, outlet: o})
	}
}

// Gone tells that the peer is gone: the outlet ends with EndGone.
func (o *Outlet) Gone() {
	o.class.loop.box.post(command{op: opGone, outlet: o})
}

// first is the subscription made last, of which the others are next; nil if there
// is none.
func (o *Outlet) first() *sub {
	switch {
	case o.many != nil:
		return o.many.subs
	case o.one.outlet != nil:
		return &o.one
	}
	return nil
}

// find returns the subscription of key, or nil.
func (o *Outlet) find(key string) *sub {
	for s := o.first(); s != nil; s = s.next {
		if s.group.log.key == key {
			return s
		}
	}
	return nil
}

// vacant returns a place for a new subscription.
func (o *Outlet) vacant() *sub {
	if o.one.outlet == nil {
		return &o.one
	}
	return new(sub)
}

// link puts s first, which is in no list yet.
func (o *Outlet) link(s *sub) {
	if o.many == nil {
		if s == &o.one {
			return // the only one
		}
		o.setMany(&many{subs: &o.one})
	}
	s.next = o.many.subs
	o.many.subs = s
}

// unlink takes s out of the outlet's list. The only one is out when it is empty.
func (o *Outlet) unlink(s *sub) {
	m := o.many
	if m == nil {
		return
	}
	if m.turn == s {
		m.turn = s.next
	}
	for p := &m.subs; *p != nil; p = &(*p).next {
		if *p == s {
			*p = s.next
			break
		}
	}
	s.next = nil
}
