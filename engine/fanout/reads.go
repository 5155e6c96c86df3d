package fanout

import (
	"context"
	"sync"
	"time"
)

// readTimeout ends a read that hangs, so that it does not keep a reader for
// ever; it is tried again.
const readTimeout = 30 * time.Second

// flightKey says which reads are equal.
type flightKey struct {
	log   *log
	epoch uint32
	after ID
}

// flight is one read of the Source, for all loops that want the same.
type flight struct {
	key    flightKey
	number uint64  // of no other flight
	loops  []*loop // under reads.mu: who wants it
	cancel context.CancelFunc
	page   Page
	err    error
	// bytes is what page counts for in reads.inHand until its last holder has let
	// it go. Both are under reads.mu.
	bytes   int64
	holders int
}

// reads runs flights, Config.Readers at once. Its goroutines live only while
// there is something to read.
//
// Outlets at differing cursors have a page each. What is in hand of all together
// is bounded: at the limit no further read begins until a page has been written
// on. A parked outlet has none, so that this does not wait for any peer.
type reads struct {
	hub   *Hub
	limit int64 // of inHand; what the readers bring at that moment comes on top

	mu      sync.Mutex
	inHand  int64  // bytes of pages
	flown   uint64 // how many flights there were
	flights map[flightKey]*flight
	queue   queue[*flight]
	active  int
}

// join has l told of the answer to a read of key: of one that is under way, or
// of a new one. It is called by loops only.
func (r *reads) join(l *loop, key flightKey) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[key]; f != nil {
		f.loops = append(f.loops, l)
		return f
	}
	r.flown++
	f := &flight{key: key, number: r.flown, loops: []*loop{l}}
	r.flights[key] = f
	r.queue.push(f)
	r.start()
	return f
}

// start has readers begin, as many as there is something for. mu is held, by a
// goroutine of the hub's.
func (r *reads) start() {
	for n := r.queue.len(); n > 0 && r.active < r.hub.cfg.Readers && r.inHand < r.limit; n-- {
		r.active++
		r.hub.wg.Go(r.work)
	}
}

// hold says that one more holds f's page, besides the caller.
func (r *reads) hold(f *flight) {
	r.mu.Lock()
	f.holders++
	r.mu.Unlock()
}

// letGo takes one holder of f's page away.
func (r *reads) letGo(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.holders--
	if f.holders == 0 {
		r.inHand -= f.bytes
		r.start()
	}
}

// leave takes l's interest in f back. The last one ends the read.
func (r *reads) leave(l *loop, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range f.loops {
		if other == l {
			f.loops = append(f.loops[:i], f.loops[i+1:]...)
			break
		}
	}
	if len(f.loops) == 0 && r.flights[f.key] == f {
		delete(r.flights, f.key)
		if f.cancel != nil {
			f.cancel()
		}
	}
}

// work takes flights until there are none.
func (r *reads) work() {
	for {
		f, ctx, cancel := r.next()
		if f == nil {
			return
		}
		lg := f.key.log
		limit := int(lg.pageEntries.Load())
		f.page, f.err = r.hub.src.Read(ctx, lg.key, f.key.after, limit)
		cancel()
		var bytes int64
		if f.err == nil {
			bytes = lg.adaptPage(f.page.Entries, limit)
		}
		r.mu.Lock()
		if r.flights[f.key] == f {
			delete(r.flights, f.key)
		}
		loops := f.loops
		f.loops = nil
		if f.holders = len(loops); f.holders > 0 {
			f.bytes = bytes
			r.inHand += bytes
		}
		r.mu.Unlock()
		for _, l := range loops {
			if !l.box.post(command{op: opRead, flight: f}) {
				r.letGo(f)
			}
		}
	}
}

// next returns a flight that somebody still wants, nil if there is none.
func (r *reads) next() (*flight, context.Context, context.CancelFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.queue.len() > 0 && r.inHand < r.limit && r.hub.ctx.Err() == nil {
		f := r.queue.pop()
		if len(f.loops) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(r.hub.ctx, readTimeout)
		f.cancel = cancel
		return f, ctx, cancel
	}
	r.active--
	return nil, nil, nil
}

// adaptPage keeps pages within a few writes: a slow reader of large entries
// would otherwise hold, or read again and again, what it cannot take. It returns
// what these entries take in memory.
func (lg *log) adaptPage(entries []Entry, limit int) (total int64) {
	if len(entries) == 0 {
		return 0
	}
	var bytes int
	for i := range entries {
		bytes += len(entries[i].Body)
	}
	total = int64(bytes) + int64(len(entries))*entryOverhead
	room := 4 * lg.hub.cfg.FlushBytes
	most := lg.hub.cfg.PageEntries
	fit := most
	if bytes > 0 {
		fit = min(most, max(1, room/max(1, bytes/len(entries))))
	}
	if fit != limit {
		lg.pageEntries.Store(int32(min(fit, 1<<30)))
	}
	return total
}
