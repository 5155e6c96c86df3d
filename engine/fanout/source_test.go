package fanout

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// memSource is a Source in memory with the faults of a real one: it pushes
// late and in batches of its own choice, trims, loses its tail, fails.
type memSource struct {
	follows, reads atomic.Int64
	begun, ended   atomic.Int64 // pushes

	mu   sync.Mutex
	logs map[string]*memLog
	// fault, if not nil, is asked before each Read and Follow.
	fault func(call, key string) error
	// lag delays pushes and reads.
	lag func() time.Duration
}

type memLog struct {
	mu      sync.Mutex
	all     []Entry // by ordinal from 1; the surviving lineage, trimmed or not
	first   uint64  // oldest retained ordinal
	cuts    []cut
	tickets []*ticket
}

// cut is a lost tail: what was written until millis and lies after ordinal.
type cut struct{ millis, ordinal uint64 }

// ticket is one Follow.
type ticket struct {
	log  *memLog
	feed Feed
	pos  uint64
	lost bool
	kick chan struct{}
	stop chan struct{}
	done chan struct{}
}

var millis atomic.Uint64

func newSource() *memSource { return &memSource{logs: make(map[string]*memLog)} }

func (s *memSource) log(key string) *memLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	lg := s.logs[key]
	if lg == nil {
		lg = &memLog{first: 1}
		s.logs[key] = lg
	}
	return lg
}

func (s *memSource) check(ctx context.Context, call, key string) error {
	s.mu.Lock()
	fault, lag := s.fault, s.lag
	s.mu.Unlock()
	if lag != nil {
		t := time.NewTimer(lag())
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fault != nil {
		return fault(call, key)
	}
	return nil
}

// append adds n entries with bodies of size bytes; final ends the log.
func (s *memSource) append(key string, n, size int, final bool) (last ID) {
	lg := s.log(key)
	lg.mu.Lock()
	defer lg.mu.Unlock()
	for i := range n {
		id := ID{Millis: millis.Add(1), Ordinal: uint64(len(lg.all)) + 1}
		body := make([]byte, size)
		for j := range body {
			body[j] = 'a' + byte((id.Ordinal+uint64(j))%26)
		}
		lg.all = append(lg.all, Entry{ID: id, Body: body, Final: final && i == n-1})
		last = id
	}
	lg.kick()
	return last
}

func (lg *memLog) kick() {
	for _, t := range lg.tickets {
		select {
		case t.kick <- struct{}{}:
		default:
		}
	}
}

// trim keeps the newest keep entries.
func (s *memSource) trim(key string, keep int) {
	lg := s.log(key)
	lg.mu.Lock()
	defer lg.mu.Unlock()
	if n := len(lg.all) - keep; n > 0 {
		lg.first = max(lg.first, uint64(n)+1)
	}
}

// loseTail forgets the newest n entries, as a failover does.
func (s *memSource) loseTail(key string, n int) {
	lg := s.log(key)
	lg.mu.Lock()
	defer lg.mu.Unlock()
	keep := max(len(lg.all)-n, int(lg.first))
	if keep >= len(lg.all) {
		return
	}
	lg.all = append([]Entry(nil), lg.all[:keep]...)
	lg.cuts = append(lg.cuts, cut{millis: millis.Load(), ordinal: uint64(keep)})
	for _, t := range lg.tickets {
		if t.pos > uint64(keep) {
			t.pos = uint64(keep)
			t.lost = true
		}
	}
	lg.kick()
}

func (lg *memLog) last() ID {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	if len(lg.all) == 0 {
		return ID{}
	}
	return lg.all[len(lg.all)-1].ID
}

func (lg *memLog) set(all []Entry) {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	lg.all = all
}

// open is how many follows have not been stopped.
func (lg *memLog) open() int {
	lg.mu.Lock()
	defer lg.mu.Unlock()
	return len(lg.tickets)
}

func (lg *memLog) id(ordinal uint64) ID {
	if ordinal == 0 {
		return ID{}
	}
	return lg.all[ordinal-1].ID
}

// common returns how much of the cursor's history the log still has.
func (lg *memLog) common(after ID) uint64 {
	n := after.Ordinal
	for _, c := range lg.cuts {
		if after.Millis <= c.millis && n > c.ordinal {
			n = c.ordinal
		}
	}
	return min(n, uint64(len(lg.all)))
}

func (s *memSource) Read(ctx context.Context, key string, after ID, limit int) (Page, error) {
	s.reads.Add(1)
	if err := s.check(ctx, "read", key); err != nil {
		return Page{}, err
	}
	lg := s.log(key)
	lg.mu.Lock()
	defer lg.mu.Unlock()
	p := Page{Position: after}
	from := after.Ordinal
	if n := lg.common(after); n < from {
		p.Gap = &Gap{Reason: GapAhead, After: after}
		from = n
		p.Position = lg.id(n)
	}
	if from+1 < lg.first {
		if p.Gap == nil {
			p.Gap = &Gap{Reason: GapTrimmed, After: after}
		}
		from = lg.first - 1
		p.Position = lg.id(from)
	}
	n := min(uint64(limit), uint64(len(lg.all))-from)
	p.Entries = append(p.Entries, lg.all[from:from+n]...)
	p.More = from+n < uint64(len(lg.all))
	if p.Gap != nil && n > 0 {
		p.Gap.First = p.Entries[0].ID
	}
	return p, nil
}

func (s *memSource) Follow(ctx context.Context, key string, after ID, feed Feed) (func(), error) {
	s.follows.Add(1)
	if err := s.check(ctx, "follow", key); err != nil {
		return nil, err
	}
	lg := s.log(key)
	t := &ticket{log: lg, feed: feed, kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	lg.mu.Lock()
	t.pos = lg.common(after)
	t.lost = t.pos != after.Ordinal
	lg.tickets = append(lg.tickets, t)
	lg.mu.Unlock()
	t.kick <- struct{}{}
	go s.pump(t)
	return func() {
		close(t.stop)
		<-t.done
		lg.mu.Lock()
		defer lg.mu.Unlock()
		for i, other := range lg.tickets {
			if other == t {
				lg.tickets = append(lg.tickets[:i], lg.tickets[i+1:]...)
				break
			}
		}
	}, nil
}

func (s *memSource) pump(t *ticket) {
	defer close(t.done)
	for {
		select {
		case <-t.stop:
			return
		case <-t.kick:
		}
		s.mu.Lock()
		lag := s.lag
		s.mu.Unlock()
		if lag != nil {
			select {
			case <-t.stop:
				return
			case <-time.After(lag()):
			}
		}
		t.log.mu.Lock()
		if t.pos+1 < t.log.first {
			t.pos = t.log.first - 1
			t.lost = true
		}
		if t.lost {
			t.lost = false
			t.feed.Lost()
		}
		fresh := append([]Entry(nil), t.log.all[t.pos:]...)
		t.pos = uint64(len(t.log.all))
		for len(fresh) > 0 {
			n := len(fresh)
			if lag != nil {
				n = 1 + rand.IntN(len(fresh))
			}
			s.begun.Add(1)
			t.feed.Push(fresh[:n:n])
			s.ended.Add(1)
			fresh = fresh[n:]
		}
		t.log.mu.Unlock()
	}
}

// textFraming writes records that a parser can check byte by byte.
type textFraming struct{}

func (textFraming) AppendEntry(dst []byte, key string, e Entry) []byte {
	final := 0
	if e.Final {
		final = 1
	}
	return fmt.Appendf(dst, "E %s %d %d %d %s\n", key, e.ID.Millis, e.ID.Ordinal, final, e.Body)
}

func (textFraming) AppendGap(dst []byte, key string, g Gap) []byte {
	return fmt.Appendf(dst, "G %s %s %d %d %d %d\n", key, g.Reason, g.After.Millis, g.After.Ordinal, g.First.Millis, g.First.Ordinal)
}

func (textFraming) AppendHeartbeat(dst []byte, key string, _ time.Time) []byte {
	return fmt.Appendf(dst, "H %s\n", key)
}
