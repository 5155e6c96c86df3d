package engine

import (
	"context"
	"sync"
	"time"
)

const (
	// sharedReads is how many shared reads of one kind are under way at once;
	// what is more waits for its turn instead of in the store's queues, where it
	// would hold up what runs write and streams read.
	sharedReads = 64
	// sharedReadTime ends a read for others that hangs.
	sharedReadTime = 30 * time.Second
)

// sharedRead lets those who ask a store the same at the same time have one
// answer. Nobody is given what was read before it asked: a read that has begun
// takes nobody in any more. Who comes then shares the next one, which begins
// when that one is over; so there is one at a time for each key, however many
// ask. Whoever asks makes the reads, there is no goroutine. The zero value is
// ready.
type sharedRead[K comparable, V any] struct {
	mu     sync.Mutex
	keys   map[K]*readTurn[V]
	queue  []K // whose turn waits for one of sharedReads to end; some may be stale
	active int
}

// readTurn is what goes on about one key.
type readTurn[V any] struct {
	reading bool
	next    *nextRead[V] // nil if nobody waits
}

// nextRead is a read that has not begun, and after that its answer.
type nextRead[V any] struct {
	begin  chan struct{} // holds one signal: whoever takes it makes the read
	done   chan struct{} // closed with the answer
	takers int
	value  V
	err    error
}

// do returns what read gives, of a call that began after this one. The answer is
// shared. A read for several outlives the ctx of the one that makes it.
func (s *sharedRead[K, V]) do(ctx context.Context, key K, read func(context.Context) (V, error)) (V, error) {
	s.mu.Lock()
	turn := s.keys[key]
	if turn == nil {
		if s.keys == nil {
			s.keys = map[K]*readTurn[V]{}
		}
		turn = &readTurn[V]{}
		s.keys[key] = turn
		if s.active < sharedReads {
			s.active++
			turn.reading = true
			s.mu.Unlock()
			return s.read(ctx, key, nil, read)
		}
		s.queue = append(s.queue, key)
	}
	r := turn.next
	if r == nil {
		r = &nextRead[V]{begin: make(chan struct{}, 1), done: make(chan struct{})}
		turn.next = r
	}
	r.takers++
	s.mu.Unlock()
	select {
	case <-r.done:
		return r.value, r.err
	case <-r.begin:
		return s.read(ctx, key, r, read)
	case <-ctx.Done():
		s.leave(key, r)
		var none V
		return none, storeError("wait for the store", ctx.Err())
	}
}

// read makes the read of r; nil is one that nobody else waits for.
func (s *sharedRead[K, V]) read(ctx context.Context, key K, r *nextRead[V], read func(context.Context) (V, error)) (value V, err error) {
	err = errReadBroken // of a panic
	defer func() { s.over(key, r, value, err, CodeOf(err) == CodeStoreUnavailable && ctx.Err() == nil) }()
	if r != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), sharedReadTime)
		defer cancel()
	}
	return read(ctx)
}

var errReadBroken = NewError(CodeInternal, "the read was broken off")

// over hands the answer on, and begins what waits for a turn. down says that the
// store is.
func (s *sharedRead[K, V]) over(key K, r *nextRead[V], value V, err error, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r != nil {
		r.value, r.err = value, err
		close(r.done)
	}
	if down {
		// What waits in the queue would find the store as it is; and if it hangs,
		// one after the other would wait for that.
		s.refuse(err)
	}
	s.active--
	turn := s.keys[key]
	turn.reading = false
	if turn.next != nil {
		s.queue = append(s.queue, key)
	} else {
		delete(s.keys, key)
	}
	for s.active < sharedReads && len(s.queue) > 0 {
		key := s.queue[0]
		s.queue = s.queue[1:]
		if turn := s.keys[key]; turn != nil && !turn.reading && turn.next != nil {
			s.active++
			turn.reading = true
			turn.next.begin <- struct{}{}
			turn.next = nil
		}
	}
	if len(s.queue) == 0 {
		s.queue = nil
	}
}

// refuse answers all that is queued with err. mu is held.
func (s *sharedRead[K, V]) refuse(err error) {
	for _, key := range s.queue {
		turn := s.keys[key]
		if turn == nil || turn.reading || turn.next == nil {
			continue
		}
		turn.next.err = err
		close(turn.next.done)
		delete(s.keys, key)
	}
	s.queue = nil
}

// leave is for whoever waits no longer.
func (s *sharedRead[K, V]) leave(key K, r *nextRead[V]) {
	s.mu.Lock()
	r.takers--
	turn := s.keys[key]
	if r.takers > 0 || turn == nil {
		s.mu.Unlock()
		return
	}
	if turn.next == r {
		if turn.next = nil; !turn.reading {
			delete(s.keys, key) // its place in the queue is stale
		}
		s.mu.Unlock()
		return
	}
	// Its turn came when all had left, or it is over.
	var unmade bool
	select {
	case <-r.begin:
		unmade = true
	default:
	}
	s.mu.Unlock()
	if unmade {
		var none V
		s.over(key, r, none, errReadBroken, false)
	}
}
