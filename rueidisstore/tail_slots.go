package rueidisstore

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// slotsPause is the least time between two looks at a Cluster's slots.
const slotsPause = 100 * time.Millisecond

// maxHops is how many redirects a unit follows at once; nodes that do not agree
// yet may send it round in circles.
const maxHops = 3

// suspectSlots has the map of slots read again soon.
func (t *tail) suspectSlots() {
	select {
	case t.stale <- struct{}{}:
	default:
	}
}

// keepSlots keeps the map of slots up to date: read when something says that it
// is not, and now and then.
func (t *tail) keepSlots(ctx context.Context) {
	for ctx.Err() == nil {
		sweep := time.NewTimer(jitter(t.cfg.Tail.SweepInterval))
		select {
		case <-ctx.Done():
		case <-t.stale:
		case <-sweep.C:
		}
		sweep.Stop()
		if ranges, err := t.askSlots(ctx); err == nil {
			t.applySlots(ranges)
		} else if ctx.Err() == nil {
			t.cfg.Logger.Warn("rueidisstore: the map of slots could not be read", "error", err)
			t.suspectSlots()
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(slotsPause)):
		}
	}
}

// slotRange is what one primary has of the slots.
type slotRange struct {
	from, to int64
	addr     string
}

// askSlots asks the nodes one after the other until one answers.
func (t *tail) askSlots(ctx context.Context) ([]slotRange, error) {
	type peer struct {
		addr   string
		client rueidis.Client
	}
	var peers []peer
	for addr, client := range t.commands.Nodes() {
		peers = append(peers, peer{addr, client})
	}
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	err := rueidis.ErrNoAddr
	for _, p := range peers {
		timed, cancel := context.WithTimeout(ctx, min(t.cfg.Tail.ReadTimeout, time.Second))
		var reply []rueidis.RedisMessage
		reply, err = p.client.Do(timed, p.client.B().ClusterSlots().Build()).ToArray()
		cancel()
		if err != nil {
			continue
		}
		if ranges := parseSlots(reply, p.addr); len(ranges) > 0 {
			return ranges, nil
		}
		err = rueidis.ErrNoSlot
	}
	return nil, err
}

// parseSlots reads the reply to CLUSTER SLOTS by the node with an address.
func parseSlots(reply []rueidis.RedisMessage, asked string) []slotRange {
	var ranges []slotRange
	for i := range reply {
		r, err := reply[i].ToArray()
		if err != nil || len(r) < 3 {
			continue
		}
		from, err1 := r[0].AsInt64()
		to, err2 := r[1].AsInt64()
		primary, err3 := r[2].ToArray()
		if err1 != nil || err2 != nil || err3 != nil || len(primary) < 2 || from < 0 || to >= 1<<14 {
			continue
		}
		host, _ := primary[0].ToString() // null: as the node that was asked
		port, err := primary[1].AsInt64()
		if err != nil || host == "?" {
			continue
		}
		addr := fullAddr(host, strconv.FormatInt(port, 10), asked)
		if _, _, err := net.SplitHostPort(addr); err != nil {
			continue // no connection could be made to it
		}
		ranges = append(ranges, slotRange{from, to, addr})
	}
	return ranges
}

// fullAddr joins host and port; without a host it is that of the node that was
// asked.
func fullAddr(host, port, asked string) string {
	if host == "" {
		host, _, _ = net.SplitHostPort(asked)
	}
	return net.JoinHostPort(host, port)
}

// applySlots moves the units of slots that have moved, and ends the loops of
// nodes that have none any more.
func (t *tail) applySlots(ranges []slotRange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	fresh := make([]*node, len(t.slots))
	for _, r := range ranges {
		n := t.nodeAt(r.addr)
		for s := r.from; s <= r.to; s++ {
			fresh[s] = n
		}
	}
	for s, n := range fresh {
		if n == nil {
			fresh[s] = t.slots[s] // nobody's at the moment
		}
	}
	t.slots = fresh
	for _, u := range t.units {
		for ; u != nil; u = u.next {
			switch n := fresh[u.slot]; {
			case n == nil:
			case u.node == n:
				u.asking = false
			case !u.asking:
				t.move(u, n, false)
			}
		}
	}
	used := make(map[*node]bool)
	for _, n := range fresh {
		used[n] = true
	}
	for addr, n := range t.nodes {
		if !used[n] && len(n.units) == 0 {
			delete(t.nodes, addr)
			n.cancel()
		}
	}
}

// move takes u to another node, where it is read anew. mu is held.
func (t *tail) move(u *unit, to *node, asking bool) {
	if u.node != nil {
		u.node.abandon(u)
	}
	u.asking = asking
	to.adopt(u)
}

// redirect follows a MOVED, or an ASK, with which from answered a job.
func (t *tail) redirect(j *job, from *node, addr string, ask bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		from.later = append(from.later, *j)
		return
	}
	addr = fullAddr(host, port, from.addr)
	if !ask {
		t.suspectSlots()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	u := j.unit
	if u.gone || u.node != from {
		return // on its way already
	}
	to := t.nodeAt(addr)
	if u.hops++; to == nil || to == from || u.hops > maxHops {
		u.hops = 0
		u.woken = u.woken || j.woken
		u.doubt = true
		from.later = append(from.later, *j)
		return
	}
	if !ask {
		t.slots[u.slot] = to
	}
	u.woken = u.woken || j.woken
	t.move(u, to, ask)
}
