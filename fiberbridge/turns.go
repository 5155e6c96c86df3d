package fiberbridge

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// largeText is the size from which checking, digesting and encoding a request's JSON
// takes milliseconds of a processor. Smaller requests never wait for a turn.
const largeText = 64 << 10

// turns bounds how many large requests are worked on at once, to half of the
// processors. Go lets a goroutine that computes run for up to 10 ms before others, so
// ten of them would delay every event by 100 ms. Requests that wait are taken by subject
// in turn, so that the requests of one subject delay each of another one's by one
// request. UploadConfig bounds the bytes that waiting requests hold.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting map[string][]chan struct{}
	order   []string // the subjects in waiting, the next one first
}

func newTurns() *turns {
	return &turns{free: max(runtime.GOMAXPROCS(0)/2, 1), waiting: map[string][]chan struct{}{}}
}

var errTurns = func() *engine.Error {
	err := engine.NewError(engine.CodeRateLimited, "too many large requests are being worked on")
	err.RetryAfter = time.Second
	return err
}()

// turn is the turn of one request.
type turn struct {
	t       *turns
	subject string
	taken   bool
}

// take waits for the request's turn, if size is that of a large request and it has none
// yet. It fails if ctx ends first.
func (m *turn) take(ctx context.Context, size int) error {
	if m.taken || size < largeText {
		return nil
	}
	mine := m.t.enter(m.subject)
	if mine != nil {
		select {
		case <-mine:
		case <-ctx.Done():
			if m.t.withdraw(m.subject, mine) {
				return errTurns
			}
			<-mine // the turn came at the same moment
		}
	}
	m.taken = true
	return nil
}

// end gives the turn to the next one. It may be called again.
func (m *turn) end() {
	if m.taken {
		m.taken = false
		m.t.leave()
	}
}

// enter takes a free turn and returns nil, or joins the queue and returns a channel that
// is closed when the turn comes.
func (t *turns) enter(subject string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		return nil
	}
	mine := make(chan struct{})
	if len(t.waiting[subject]) == 0 {
		t.order = append(t.order, subject)
	}
	t.waiting[subject] = append(t.waiting[subject], mine)
	return mine
}

// leave gives the turn to the next subject, or makes it free.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		t.free++
		return
	}
	subject := t.order[0]
	t.order = t.order[1:]
	queue := t.waiting[subject]
	close(queue[0])
	if len(queue) == 1 {
		delete(t.waiting, subject)
		return
	}
	t.waiting[subject] = queue[1:]
	t.order = append(t.order, subject)
}

// withdraw removes mine from the queue, and returns false if its turn has come already.
func (t *turns) withdraw(subject string, mine chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	queue := t.waiting[subject]
	for i := range queue {
		if queue[i] != mine {
			continue
		}
		queue = append(queue[:i:i], queue[i+1:]...)
		if len(queue) > 0 {
			t.waiting[subject] = queue
			return true
		}
		delete(t.waiting, subject)
		for j := range t.order {
			if t.order[j] == subject {
				t.order = append(t.order[:j:j], t.order[j+1:]...)
				break
			}
		}
		return true
	}
	return false
}

// yieldBytes is how many bytes of a body are read before other goroutines may run. A
// goroutine that reads from a client which sends without a pause never waits otherwise.
const yieldBytes = 64 << 10

// yielding counts the bytes that a goroutine reads, and lets others run after each
// yieldBytes.
type yielding struct{ read int }

func (y *yielding) came(n int) {
	if y.read += n; y.read >= yieldBytes {
		y.read = 0
		runtime.Gosched()
	}
}
