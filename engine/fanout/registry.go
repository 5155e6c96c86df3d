package fanout

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const shards = 64

// registry finds logs by key, and drops those that nobody needs any more.
type registry struct {
	hub   *Hub
	seed  maphash.Seed
	count atomic.Int64
	shard [shards]shard

	// mu guards idle: logs in the order in which they were left. One that was
	// joined and left again is in it twice; the later one counts.
	mu   sync.Mutex
	idle queue[idleLog]
	left chan struct{} // holds one signal: idle was empty
}

type idleLog struct {
	log *log
	at  int64
}

type shard struct {
	mu     sync.Mutex
	logs   map[string]*log
	closed bool
}

func newRegistry(h *Hub) *registry {
	r := &registry{hub: h, seed: maphash.MakeSeed(), left: make(chan struct{}, 1)}
	for i := range r.shard {
		r.shard[i].logs = make(map[string]*log)
	}
	return r
}

func (r *registry) of(key string) *shard {
	return &r.shard[maphash.String(r.seed, key)%shards]
}

func (r *registry) len() int { return int(r.count.Load()) }

// acquire returns the log of key with one reference more. The first one
// begins to follow it after the cursor.
func (r *registry) acquire(key string, after ID) (*log, error) {
	s := r.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if lg := s.logs[key]; lg != nil {
		lg.refs++
		return lg, nil
	}
	ctx, cancel := context.WithCancel(r.hub.ctx)
	lg := &log{hub: r.hub, key: key, ctx: ctx, cancel: cancel, refs: 1}
	lg.ring.base = after
	lg.pageEntries.Store(int32(min(r.hub.cfg.PageEntries, 1<<30)))
	s.logs[key] = lg
	r.count.Add(1)
	r.hub.wg.Go(func() { lg.follow(after) })
	return lg, nil
}

// peek returns the log of key, nil if it is not followed. One that lingers does
// so anew.
func (r *registry) peek(key string) *log {
	s := r.of(key)
	s.mu.Lock()
	lg := s.logs[key]
	linger := r.hub.cfg.Linger
	renew := lg != nil && lg.refs == 0 && linger > 0 && r.hub.now()-lg.idleAt > int64(linger)/4
	if renew {
		lg.refs++
	}
	s.mu.Unlock()
	if renew {
		r.release(lg)
	}
	return lg
}

// release gives a reference back.
func (r *registry) release(lg *log) {
	s := r.of(lg.key)
	s.mu.Lock()
	lg.refs--
	last := lg.refs == 0
	at := r.hub.now()
	lg.idleAt = at
	gone := lg.gone
	s.mu.Unlock()
	switch {
	case !last:
	case gone:
		lg.cancel()
	default:
		r.mu.Lock()
		first := r.idle.len() == 0
		r.idle.push(idleLog{lg, at})
		r.mu.Unlock()
		if first {
			select {
			case r.left <- struct{}{}:
			default:
			}
		}
	}
}

// remove takes a log that failed out, so that the next subscriber begins anew.
func (r *registry) remove(lg *log) {
	s := r.of(lg.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.take(s, lg)
	if lg.refs == 0 {
		lg.cancel()
	}
}

// take removes lg from its shard, whose mutex is held.
func (r *registry) take(s *shard, lg *log) {
	if !lg.gone {
		lg.gone = true
		delete(s.logs, lg.key)
		r.count.Add(-1)
	}
}

// keep drops logs that have been idle for Linger, until the hub is closed;
// then it drops all. It also works for the waker.
func (r *registry) keep() {
	linger := max(r.hub.cfg.Linger, 0)
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	for {
		wait := r.sweep(linger)
		pause.Reset(wait)
		select {
		case <-r.left:
		case <-pause.C:
		case <-r.hub.waker.signal:
			r.hub.waker.run()
		case <-r.hub.ctx.Done():
			r.close()
			r.hub.waker.close()
			return
		}
	}
}

// sweep drops what has lingered long enough, and returns when to look again.
func (r *registry) sweep(linger time.Duration) time.Duration {
	for {
		r.mu.Lock()
		if r.idle.len() == 0 {
			r.mu.Unlock()
			return time.Hour
		}
		oldest := r.idle.peek()
		r.mu.Unlock()
		lg := oldest.log

		s := r.of(lg.key)
		s.mu.Lock()
		unused := lg.refs == 0 && !lg.gone && lg.idleAt == oldest.at
		wait := time.Duration(oldest.at-r.hub.now()) + linger
		if unused && wait > 0 {
			s.mu.Unlock()
			return wait
		}
		if unused {
			r.take(s, lg)
		}
		s.mu.Unlock()
		r.mu.Lock()
		r.idle.pop()
		r.mu.Unlock()
		if unused {
			r.end(lg, nil)
		}
	}
}

// end drops a log and stops following it, in a goroutine since that may take.
func (r *registry) end(lg *log, why error) {
	if stop := lg.drop(why); stop != nil {
		r.hub.wg.Go(stop)
	}
}

// close drops every log. None can come any more.
func (r *registry) close() {
	for i := range r.shard {
		s := &r.shard[i]
		s.mu.Lock()
		s.closed = true
		var all []*log
		for _, lg := range s.logs {
			all = append(all, lg)
		}
		for _, lg := range all {
			r.take(s, lg)
		}
		s.mu.Unlock()
		for _, lg := range all {
			r.end(lg, ErrClosed)
		}
	}
}
