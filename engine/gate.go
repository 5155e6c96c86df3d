package engine

import (
	"context"
	"sync"
)

// gate counts what goes on, lets nothing more in once it is shut, and waits
// for the rest. A sync.WaitGroup cannot be added to while it is waited for.
// The zero gate is open.
type gate struct {
	mu     sync.Mutex
	inside int
	shut   bool
	empty  chan struct{} // closed when the last one leaves a shut gate
}

// enter is false if the gate is shut; otherwise leave must follow.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.shut {
		close(g.empty)
	}
}

// close shuts the gate. It may be called again.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return
	}
	g.shut, g.empty = true, make(chan struct{})
	if g.inside == 0 {
		close(g.empty)
	}
}

// wait returns when the shut gate has been left by all, or with ctx's error.
func (g *gate) wait(ctx context.Context) error {
	g.close()
	select {
	case <-g.empty:
		return nil
	default:
	}
	select {
	case <-g.empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
