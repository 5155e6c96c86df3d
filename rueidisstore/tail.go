package rueidisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// tail reads what this process waits for: the logs that are followed and the
// records that are listened to. Nothing blocks for it in Redis. Reading a key
// makes Redis remember the connection; when anybody changes the key, Redis
// pushes an invalidation there, the key's units join their node's queue, and
// the node's loop reads all that is queued in one pipelined round, which makes
// Redis remember again. While a round is under way the next one gathers.
//
// Each Redis node has a loop and a connection of its own, so that one that
// hangs holds up its own keys only.
type tail struct {
	cfg  Config
	keys keyspace
	// commands is the store's client; a Cluster's map of slots comes from it.
	commands rueidis.Client
	cluster  bool

	cancel context.CancelFunc
	done   <-chan struct{} // closed by close
	loops  sync.WaitGroup
	stale  chan struct{} // tells that the map of slots may be out of date

	// mu guards what follows and the fields of nodes and units that say so. It
	// is held for a few instructions only, never while anybody is called. A
	// feed's mutex may be held when it is taken, never the other way round.
	mu     sync.Mutex
	ctx    context.Context // the loops'; ends with close
	closed bool
	units  map[string]*unit // by key; several units of a key are chained
	feeds  map[string]*feed
	nodes  map[string]*node // by address; outside a Cluster one, without address
	slots  []*node          // which node has a slot; nil outside a Cluster
}

// unit is a read that is repeated whenever its key changes.
type unit struct {
	key  string
	slot uint16
	read reading

	// Everything below is guarded by tail.mu.

	next *unit // of the same key
	node *node // nil while nobody knows which has the key
	at   int   // index in node.units
	gone bool  // nobody needs it any more
	// queued says that it waits for a round. It may become so while it is in
	// one, and is read again then.
	queued bool
	// doubt says that what was read before may not be true any more: the
	// connection was lost, or the key has moved.
	doubt bool
	// woken says that the key has changed since it was last read.
	woken bool
	// asking says that the key is in a slot which is moving to node.
	asking bool
	// hops counts redirects without an answer in between.
	hops uint8
	// unproven says that the last answer may be false because the server is the
	// wrong one. The next round reads again, with a proof.
	unproven bool
	// weight is about how many bytes an answer has.
	weight int
	// idle counts answers with nothing new, for polling.
	idle uint8
}

// reading is what a unit is for. Its methods are called by the node's loop and
// must not block.
type reading interface {
	// question says what to ask. doubt asks for proof that the answers so far
	// still hold.
	question(doubt bool) question
	command(b rueidis.Builder, q question) rueidis.Completed
	// answer takes what came of q. woken says that the key has changed since
	// the one before.
	answer(q question, woken bool, reply []rueidis.RedisMessage) outcome
	// failed tells that a read failed and will be tried again.
	failed(err error)
}

// outcome says what is to happen with a unit after an answer.
type outcome struct {
	verdict verdict
	bytes   int
	news    bool
}

type verdict uint8

const (
	settled  verdict = iota // all there is; wait for the next change
	again                   // there is more
	doubtful                // there must be proof
	unproven                // read again, with a proof that the server takes writes
)

// newTail starts to read. It connects when there is something to read, and
// never fails: what cannot be reached is tried again.
func newTail(cfg Config, keys keyspace, commands rueidis.Client) *tail {
	ctx, cancel := context.WithCancel(context.Background())
	t := &tail{
		cfg: cfg, keys: keys, commands: commands, cluster: commands.Mode() == rueidis.ClientModeCluster,
		ctx: ctx, cancel: cancel, done: ctx.Done(), stale: make(chan struct{}, 1),
		units: make(map[string]*unit), feeds: make(map[string]*feed), nodes: make(map[string]*node),
	}
	if t.cluster {
		t.slots = make([]*node, 1<<14)
		t.suspectSlots()
		t.loops.Go(func() { t.keepSlots(ctx) })
	} else {
		t.mu.Lock()
		t.nodeAt("")
		t.mu.Unlock()
	}
	return t
}

// close ends all reading and waits for it. No follower is called afterwards.
func (t *tail) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.loops.Wait()
}

// call runs fn in a goroutine that close waits for.
func (t *tail) call(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.loops.Go(fn)
	}
}

// watch begins to read u's key.
func (t *tail) watch(u *unit) error {
	if t.cluster {
		cmd := t.commands.B().Exists().Key(u.key).Build()
		u.slot = cmd.Slot()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errClosed()
	}
	u.next = t.units[u.key]
	t.units[u.key] = u
	u.weight = unknownWeight
	if n := t.home(u.slot); n != nil {
		n.adopt(u)
	}
	return nil
}

// unwatch forgets u. Redis may remember the key for one more invalidation.
func (t *tail) unwatch(u *unit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u.gone {
		return
	}
	u.gone = true
	if first := t.units[u.key]; first != u {
		for p := first; p != nil; p = p.next {
			if p.next == u {
				p.next = u.next
				break
			}
		}
	} else if u.next == nil {
		delete(t.units, u.key)
	} else {
		t.units[u.key] = u.next
	}
	if u.node != nil {
		u.node.abandon(u)
	}
}

// home is the node that has a slot, or nil. mu is held.
func (t *tail) home(slot uint16) *node {
	if !t.cluster {
		return t.nodes[""]
	}
	return t.slots[slot]
}

// nodeAt returns the node with an address; a new one starts. mu is held.
func (t *tail) nodeAt(addr string) *node {
	n := t.nodes[addr]
	if n == nil && !t.closed {
		ctx, cancel := context.WithCancel(t.ctx)
		n = &node{tail: t, addr: addr, cancel: cancel, wake: make(chan struct{}, 1)}
		t.nodes[addr] = n
		t.loops.Go(func() { n.run(ctx) })
	}
	return n
}

// invalidated is called by rueidis, on the goroutine that reads the
// connection: with the keys that have changed, or with nil if the connection
// is lost, in which case rueidis does not dial again before the next command.
func (n *node) invalidated(keys []rueidis.RedisMessage) {
	t := n.tail
	t.mu.Lock()
	if keys == nil {
		n.lost = true
	}
	for i := range keys {
		key, err := keys[i].ToString()
		if err != nil {
			continue
		}
		for u := t.units[key]; u != nil; u = u.next {
			// Not to n: it may be one that u has just left.
			if u.woken = true; u.node != nil {
				u.node.enqueue(u)
			}
		}
	}
	t.mu.Unlock()
	n.rouse()
}

// jitter spreads d by a quarter up or down.
func jitter(d time.Duration) time.Duration {
	return d - d/4 + randDuration(d/2)
}
