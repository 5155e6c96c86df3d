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
	loops  []*loop // under reads.mu: who wants it
	cancel context.CancelFunc
	page   Page
	err    error
}

// reads runs flights, Config.Readers at once. Its goroutines live only while
// there is something to read.
type reads struct {
	hub *Hub

	mu      sync.Mutex
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
	f := &flight{key: key, loops: []*loop{l}}
	r.flights[key] = f
	r.queue.push(f)
	if r.active < r.hub.cfg.Readers {
		r.active++
		r.hub.wg.Go(r.work)
	}
	return f
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
		if f.err == nil {
			lg.adaptPage(f.page.Entries, limit)
		}
		r.mu.Lock()
		if r.flights[f.key] == f {
			delete(r.flights, f.key)
		}
		loops := f.loops
		f.loops = nil
		r.mu.Unlock()
		for _, l := range loops {
			l.box.post(command{op: opRead, flight: f})
		}
	}
}

// next returns a flight that somebody still wants, nil if there is none.
func (r *reads) next() (*flight, context.Context, context.CancelFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.queue.len() > 0 && r.hub.ctx.Err() == nil {
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
// would otherwise hold, or read again and again, what it cannot take.
func (lg *log) adaptPage(entries []Entry, limit int) {
	if len(entries) == 0 {
		return
	}
	var bytes int
	for i := range entries {
		bytes += len(entries[i].Body)
	}
	room := 4 * lg.hub.cfg.FlushBytes
	most := lg.hub.cfg.PageEntries
	fit := most
	if bytes > 0 {
		fit = min(most, max(1, room/max(1, bytes/len(entries))))
	}
	if fit != limit {
		lg.pageEntries.Store(int32(min(fit, 1<<30)))
	}
}
