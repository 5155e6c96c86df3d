package rueidisstore

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// roundBytes is about how much one round may bring. What a connection needs
	// longer for than ConnWriteTimeout is cut, so it is not large, and halved
	// after every round that failed.
	roundBytes    = 1 << 20
	minRoundBytes = 64 << 10
	// unknownWeight is for units that were not read yet, or not for long.
	unknownWeight = 16 << 10
	minWeight     = 1 << 10

	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// node is one Redis server, the connection to it, and the keys that are read
// there.
type node struct {
	tail   *tail
	addr   string // empty outside a Cluster
	cancel context.CancelFunc
	wake   chan struct{}

	// Everything up to the next blank line is guarded by tail.mu.
	units []*unit // all; sweeps go round
	queue []*unit
	head  int  // where the queue begins
	lost  bool // the connection has broken
	swept int  // where the sweep stands

	// The rest belongs to the loop.
	client   rueidis.Client
	dials    *atomic.Uint32 // how many connections client has made
	tracking bool
	warned   bool      // that there is no tracking
	askAt    time.Time // when to look again whether there is
	down     bool      // has been said to be
	budget   int
	jobs     []job
	commands rueidis.Commands
	later    []job // failed by themselves; tried again at laterAt
	laterAt  time.Time
	pause    time.Duration // the last one before laterAt
	tickAt   time.Time     // the next slice of the sweep, or poll
	proveAt  time.Time     // when to prove the connection again
	bornAt   time.Time     // when client was made
	passes   uint          // polls so far
	parked   bool          // not polling: there is nothing to read
}

// job is a unit in a round.
type job struct {
	unit   *unit
	q      question
	doubt  bool
	woken  bool
	asking bool
	// unproven asks for a proof that the server takes writes, as doubt does.
	unproven bool
}

// adopt makes n the node of u and queues it. tail.mu is held.
func (n *node) adopt(u *unit) {
	u.node, u.at, u.queued = n, len(n.units), false
	n.units = append(n.units, u)
	u.doubt = true
	n.enqueue(u)
	n.rouse()
}

// abandon is the reverse. tail.mu is held.
func (n *node) abandon(u *unit) {
	last := len(n.units) - 1
	n.units[u.at] = n.units[last]
	n.units[u.at].at = u.at
	n.units[last] = nil
	n.units = n.units[:last]
	u.node = nil
}

// enqueue puts u into the next round. tail.mu is held.
func (n *node) enqueue(u *unit) {
	if !u.queued {
		u.queued = true
		n.queue = append(n.queue, u)
	}
}

func (n *node) rouse() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// run is the node's loop.
func (n *node) run(ctx context.Context) {
	defer n.hangUp()
	n.budget = roundBytes
	for n.connect(ctx) {
		n.serve(ctx)
	}
}

// serve reads what is queued until the connection breaks.
func (n *node) serve(ctx context.Context) {
	dials := n.dials.Load()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		if lost := n.take(); lost {
			return
		}
		if len(n.jobs) > 0 {
			if !n.round(ctx, dials) {
				n.budget = max(n.budget/2, minRoundBytes)
				return
			}
			n.budget = min(n.budget*2, roundBytes)
		}
		now := time.Now()
		if n.parked && len(n.jobs) > 0 {
			n.parked, n.tickAt = false, now
		}
		if len(n.later) > 0 && !now.Before(n.laterAt) {
			n.putBack(n.later)
			clear(n.later)
			n.later = n.later[:0]
			continue
		}
		if !now.Before(n.proveAt) {
			if n.idle() {
				n.proveAt = now.Add(jitter(n.tail.cfg.ProbeInterval))
			} else if !n.stillRight(ctx) {
				return
			}
			continue
		}
		if !now.Before(n.tickAt) {
			if !n.tracking && !now.Before(n.askAt) && n.tryTracking(ctx) {
				return
			}
			n.tickAt = now.Add(n.tick())
			continue
		}
		if len(n.jobs) > 0 {
			continue // something is likely to have come meanwhile
		}
		until := n.tickAt
		if n.proveAt.Before(until) {
			until = n.proveAt
		}
		if len(n.later) > 0 && n.laterAt.Before(until) {
			until = n.laterAt
		}
		timer.Reset(until.Sub(now))
		select {
		case <-ctx.Done():
		case <-n.wake:
		case <-timer.C:
		}
	}
}

// take fills n.jobs from the queue, as far as the budget goes.
func (n *node) take() (lost bool) {
	t := n.tail
	clear(n.jobs)
	n.jobs = n.jobs[:0]
	bytes := 0
	t.mu.Lock()
	for n.head < len(n.queue) && len(n.jobs) < t.cfg.Tail.Round && (bytes == 0 || bytes < n.budget) {
		u := n.queue[n.head]
		n.queue[n.head] = nil
		n.head++
		if u.gone || u.node != n || !u.queued {
			continue
		}
		n.jobs = append(n.jobs, job{unit: u, doubt: u.doubt, woken: u.woken, asking: u.asking, unproven: u.unproven})
		bytes += u.weight
		u.queued, u.doubt, u.woken, u.unproven = false, false, false, false
	}
	if n.head == len(n.queue) {
		n.queue, n.head = n.queue[:0], 0
		if cap(n.queue) > 64 && cap(n.queue) > 4*len(n.units) {
			n.queue = nil
		}
	} else if n.head > len(n.queue)/2 {
		left := copy(n.queue, n.queue[n.head:])
		clear(n.queue[left:])
		n.queue, n.head = n.queue[:left], 0
	}
	lost = n.lost
	if lost {
		n.requeue(n.jobs)
	}
	t.mu.Unlock()
	return lost
}

// idle reports whether there is nothing to read.
func (n *node) idle() bool {
	n.tail.mu.Lock()
	defer n.tail.mu.Unlock()
	return len(n.units) == 0
}

// requeue gives back jobs that were not done. tail.mu is held.
func (n *node) requeue(jobs []job) {
	for _, j := range jobs {
		u := j.unit
		u.doubt = u.doubt || j.doubt
		u.unproven = u.unproven || j.unproven
		u.woken = u.woken || j.woken
		if !u.gone && u.node != nil {
			u.node.enqueue(u)
			if u.node != n {
				u.node.rouse()
			}
		}
	}
}

func (n *node) putBack(jobs []job) {
	n.tail.mu.Lock()
	n.requeue(jobs)
	n.tail.mu.Unlock()
}

// round asks for everything in n.jobs at once and hands out the answers. It
// returns false if the connection broke.
func (n *node) round(ctx context.Context, dials uint32) bool {
	cmds := n.commands[:0]
	n.commands = nil
	b := n.client.B()
	prove := false
	for i := range n.jobs {
		j := &n.jobs[i]
		j.q = j.unit.read.question(j.doubt)
		prove = prove || j.doubt || j.unproven
		if j.asking {
			cmds = append(cmds, b.Asking().Build())
		}
		cmds = append(cmds, j.unit.read.command(b, j.q))
	}
	prove = prove && !n.tail.cluster
	if prove {
		cmds = append(cmds, n.proof())
	}
	timed, cancel := context.WithTimeout(ctx, n.tail.cfg.Tail.ReadTimeout)
	results := n.client.DoMulti(timed, cmds...)
	cancel()
	if n.dials.Load() != dials {
		// Answers from another connection than the one that the questions were
		// for: what they took for granted may not hold there.
		n.putBack(n.jobs)
		return false
	}
	if prove {
		if err := results[len(results)-1].Error(); isWrongServer(asAnswer(err)) {
			n.putBack(n.jobs)
			n.sayDown(err)
			n.hangUp()
			return false
		}
		n.proveAt = time.Now().Add(jitter(n.tail.cfg.ProbeInterval))
	}
	at, failed := 0, len(n.later)
	for i := range n.jobs {
		j := &n.jobs[i]
		j.q.proven = prove || n.tail.cluster
		if j.asking {
			at++
		}
		result := results[at]
		at++
		if err := result.NonRedisError(); err != nil {
			n.putBack(n.jobs[i:])
			for _, j := range n.jobs[i:] {
				j.unit.read.failed(err)
			}
			if ctx.Err() == nil {
				n.sayDown(err)
			}
			return false
		}
		n.settle(j, result)
	}
	// Only now: a round that was given up may still have to be written.
	clear(cmds)
	n.commands = cmds
	if failed == 0 && len(n.later) > 0 {
		n.pause = min(max(2*n.pause, minPause), maxPause)
		n.laterAt = time.Now().Add(jitter(n.pause))
	} else if len(n.later) == 0 {
		n.pause = 0
	}
	return true
}

// settle hands out one answer and does what it asks for.
func (n *node) settle(j *job, result rueidis.RedisResult) {
	reply, err := result.ToArray()
	if err != nil {
		n.refused(j, err)
		return
	}
	out := j.unit.read.answer(j.q, j.woken, reply)
	u, t := j.unit, n.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	u.weight, u.hops = max(out.bytes, minWeight), 0
	if out.news {
		u.idle = 0
	} else if u.idle < maxIdle {
		u.idle++
	}
	if u.gone || u.node == nil {
		return
	}
	switch out.verdict {
	case settled:
	case unproven:
		u.doubt, u.woken, u.unproven = u.doubt || j.doubt, u.woken || j.woken, true
		u.node.enqueue(u)
	case doubtful:
		u.doubt = true
		u.node.enqueue(u)
	case again:
		u.node.enqueue(u)
	}
}

// refused deals with an answer that is an error.
func (n *node) refused(j *job, err error) {
	answer, ok := rueidis.IsRedisErr(err)
	if ok && n.tail.cluster {
		if addr, moved := answer.IsMoved(); moved {
			n.tail.redirect(j, n, addr, false)
			return
		}
		if addr, ask := answer.IsAsk(); ask {
			n.tail.redirect(j, n, addr, true)
			return
		}
	}
	j.unit.read.failed(err)
	if text := asAnswer(err); !n.tail.cluster && (isWrongServer(text) || begins(text, maybeWrongServer)) {
		n.proveAt = time.Time{}
	}
	if len(n.later) == 0 && n.pause == 0 {
		n.tail.cfg.Logger.Warn("rueidisstore: reading failed, trying again", "node", n.addr, "key", j.unit.key, "error", err)
	}
	n.later = append(n.later, *j)
}

func randDuration(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
