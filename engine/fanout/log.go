package fanout

import (
	"context"
	"sync"
	"sync/atomic"
)

// log is one followed log: the ring that a Source fills, and who reads it.
type log struct {
	hub    *Hub
	key    string
	ctx    context.Context // ends when the log is dropped
	cancel context.CancelFunc

	// Under the registry shard's mutex.
	refs   int   // groups and waits
	idleAt int64 // when refs became 0
	gone   bool  // not in the registry any more

	account account
	// pageEntries is how many entries to read at once: fewer than configured
	// if they are large.
	pageEntries atomic.Int32

	// mu is held for as long as it takes to copy a few entries, never during
	// a call to Source or Sink.
	mu   sync.Mutex
	ring ring
	// epoch counts how often the log was lost: positions of an earlier epoch
	// must be read.
	epoch uint32
	// adrift says that the log was lost and nothing was pushed since: the next
	// push begins the ring, wherever it is.
	adrift   bool
	followed bool // Follow has returned
	dropped  bool
	err      error // the log has failed
	stop     func()
	groups   []*group
	waits    []*wait
}

// group is the members that one loop has on one log.
type group struct {
	log  *log
	loop *loop
	told bool // under log.mu: the loop knows that the log has moved

	// Everything below belongs to the loop's goroutine.

	members []*sub
	// members[:visited] have had their turn in the pass that is under way.
	visited int
	passing bool
	again   bool // the log has moved since the pass began
	waiting bool // in a slot of the pacer
	dead    bool // without members, and left the log
	over    bool // head is the final entry
	merged  bool // entries may be merged for those that cannot keep up
	epoch   uint32
	head    ID
	asked   int64 // when the pass under way was asked for
	due     int64 // when the next one may begin
}

// Push implements Feed.
func (lg *log) Push(entries []Entry) {
	lg.mu.Lock()
	if lg.dropped || lg.err != nil {
		lg.mu.Unlock()
		return
	}
	r := &lg.ring
	before := r.bytes
	limit := int64(lg.hub.cfg.RingBytes)
	var odd bool
	for i := range entries {
		e := entries[i]
		if r.over() && !lg.adrift && e.ID.Ordinal == r.last().Ordinal+1 || e.ID.Ordinal == 0 {
			odd = true // nothing follows a final entry, and nothing is numbered 0
			continue
		}
		if !lg.adrift && e.ID.Ordinal != r.last().Ordinal+1 {
			odd = true
			lg.lose()
		}
		if lg.adrift {
			r.reset(ID{Ordinal: e.ID.Ordinal - 1}, true)
			lg.adrift = false
		}
		r.push(e)
		for r.bytes > limit && r.n > 1 {
			r.evict()
		}
	}
	lg.account.pushed.Store(true)
	lg.account.rich.Store(r.n > 1)
	delta := r.bytes - before
	lg.announce()
	lg.mu.Unlock()
	lg.hub.budget.add(lg, delta)
	if odd {
		lg.hub.cfg.Logger.Warn("fanout: the source pushed what does not join on", "key", lg.key)
	}
}

// Lost implements Feed.
func (lg *log) Lost() {
	lg.mu.Lock()
	if lg.dropped || lg.err != nil {
		lg.mu.Unlock()
		return
	}
	before := lg.ring.bytes
	lg.lose()
	lg.announce()
	lg.mu.Unlock()
	lg.hub.budget.add(lg, -before)
}

// lose drops the ring: everyone must read. mu is held.
func (lg *log) lose() {
	lg.ring.reset(lg.ring.last(), true)
	lg.account.rich.Store(false)
	lg.adrift = true
	lg.epoch++
}

// announce tells loops and waits that the log has moved. mu is held.
func (lg *log) announce() {
	lg.tellLoops()
	lg.wakeWaits()
}

func (lg *log) tellLoops() {
	for _, g := range lg.groups {
		if !g.told {
			g.told = true
			g.loop.box.tell(g)
		}
	}
}

// fail ends the log for everyone. It is out of the registry already.
func (lg *log) fail(err error) {
	lg.mu.Lock()
	lg.err = err
	before := lg.ring.bytes
	lg.ring.reset(ID{}, true)
	lg.account.rich.Store(false)
	lg.failWaits(err)
	lg.announce()
	lg.mu.Unlock()
	lg.hub.budget.add(lg, -before)
}

// drop ends the log that nobody needs any more. It is out of the registry
// already. stop, if not nil, is to be called with no lock held.
func (lg *log) drop(why error) (stop func()) {
	lg.cancel()
	lg.mu.Lock()
	lg.dropped = true
	before := lg.ring.bytes
	lg.ring.reset(ID{}, true)
	lg.account.rich.Store(false)
	lg.failWaits(why)
	stop, lg.stop = lg.stop, nil
	lg.mu.Unlock()
	lg.hub.budget.add(lg, -before)
	return stop
}

// join returns the loop's group of lg, a new one if there is none.
func (lg *log) join(l *loop) (g *group, fresh bool) {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	for _, g := range lg.groups {
		if g.loop == l {
			return g, false
		}
	}
	g = &group{log: lg, loop: l, head: lg.ring.last(), epoch: lg.epoch, over: lg.ring.over()}
	lg.groups = append(lg.groups, g)
	if lg.err != nil || lg.dropped {
		g.told = true
		l.box.tell(g)
	}
	return g, true
}

// leave takes a group out.
func (lg *log) leave(g *group) {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	for i, other := range lg.groups {
		if other == g {
			last := len(lg.groups) - 1
			lg.groups[i] = lg.groups[last]
			lg.groups[last] = nil
			lg.groups = lg.groups[:last]
			return
		}
	}
}
