package rueidisstore

import "time"

// maxIdle bounds how much less often an idle unit is polled: every 2^maxIdle
// polls.
const maxIdle = 3

const (
	// sweepSlice is about how many units a slice of the sweep reads.
	sweepSlice = 64
	// minTick bounds how often the sweep wakes the loop.
	minTick = 20 * time.Millisecond
)

// tick queues the units whose turn it is and says when to do so again. With
// tracking that is a slice of the sweep: no push protocol survives everything,
// so every unit is read now and then. Without, it is a poll.
func (n *node) tick() time.Duration {
	n.tail.mu.Lock()
	defer n.tail.mu.Unlock()
	if !n.tracking {
		return n.poll()
	}
	interval := n.tail.cfg.Tail.SweepInterval
	total := len(n.units)
	if total == 0 {
		return interval
	}
	every := min(max(interval*sweepSlice/time.Duration(total), minTick), interval)
	slice := int((time.Duration(total)*every + interval - 1) / interval)
	// Units that come and go change places: one may miss a sweep, not the next.
	for range min(slice, total) {
		if n.swept >= total {
			n.swept = 0
		}
		n.enqueue(n.units[n.swept])
		n.swept++
	}
	return jitter(every)
}

// poll queues what was not idle lately, and the rest less often. tail.mu is
// held.
func (n *node) poll() time.Duration {
	if n.parked = len(n.units) == 0; n.parked {
		return time.Hour
	}
	n.passes++
	if len(n.queue) > n.head {
		return n.tail.cfg.Tail.PollInterval // not done with the last one
	}
	for _, u := range n.units {
		if n.passes&(1<<u.idle-1) == 0 {
			// Nobody says that a log has vanished: it must be looked for.
			u.doubt = u.doubt || u.idle == maxIdle
			n.enqueue(u)
		}
	}
	return jitter(n.tail.cfg.Tail.PollInterval)
}
