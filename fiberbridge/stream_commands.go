package fiberbridge

import (
	"context"
	"sync"
	"time"
)

// How many frames of clients are worked on at once, and how long one may take.
// A subscribe may have to ask a store; that must not hold up an epoll loop,
// and a store that hangs must not hold a goroutine for each client.
const (
	commandWorkers = 64
	commandTime    = 10 * time.Second
)

// commander has commands of a client to work on, one after the other.
type commander interface {
	// command works on one and reports whether there is another.
	command(ctx context.Context) (more bool)
}

// commandPool works on clients' commands with as many goroutines as there is
// work for, up to workers; none while there is none.
type commandPool struct {
	workers int
	mu      sync.Mutex
	queue   []commander
	running int
	closed  bool
	ctx     context.Context // of the commands; it ends with close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

func newCommandPool(workers int) *commandPool {
	p := &commandPool{workers: workers}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// add queues c, which must not be in the queue already.
func (p *commandPool) add(c commander) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.queue = append(p.queue, c)
	if p.running < p.workers {
		p.running++
		p.wg.Go(p.work)
	}
}

func (p *commandPool) work() {
	for {
		p.mu.Lock()
		if len(p.queue) == 0 || p.closed {
			p.running--
			if p.running == 0 {
				p.queue = nil
			}
			p.mu.Unlock()
			return
		}
		c := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.mu.Unlock()

		ctx, cancel := context.WithTimeout(p.ctx, commandTime)
		more := c.command(ctx)
		cancel()
		if more { // behind the others: one client's many commands delay nobody
			p.mu.Lock()
			p.queue = append(p.queue, c)
			p.mu.Unlock()
		}
	}
}

// close drops what is queued and waits for what is under way, or for ctx.
func (p *commandPool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.queue = nil
	p.mu.Unlock()
	p.cancel()
	done := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
