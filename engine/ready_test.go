package engine_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// slowProbe takes a second, and counts.
type slowProbe struct {
	asked atomic.Int64
	err   atomic.Pointer[error]
}

func (p *slowProbe) Name() string { return "slow" }

func (p *slowProbe) Ready(ctx context.Context) error {
	p.asked.Add(1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := p.err.Load(); err != nil {
		return *err
	}
	return nil
}

// However many ask, the probes are asked once for each ReadyTTL.
func TestReadyIsShared(t *testing.T) {
	var p slowProbe
	inBubble(t, func(t *testing.T, w *world) {
		ask := func(n int) {
			t.Helper()
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					if err := w.Ready(t.Context())["slow"]; err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		ask(1000)
		for range 10 {
			ask(10)
		}
		if n := p.asked.Load(); n != 1 {
			t.Errorf("the probe was asked %d times within ReadyTTL", n)
		}
		time.Sleep(2 * time.Second)
		ask(100)
		if n := p.asked.Load(); n != 2 {
			t.Errorf("after ReadyTTL the probe was asked %d times in all, want 2", n)
		}

		// Whoever leaves while the probes are asked takes nothing from the others.
		time.Sleep(2 * time.Second)
		ctx, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { w.Ready(ctx) })
		synctest.Wait()
		all.Go(func() { ask(10) })
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Ready(gone)["slow"]; !errors.Is(err, context.Canceled) {
			t.Errorf("who does not wait is told %v", err)
		}
		leave()
		all.Wait()
		if n := p.asked.Load(); n != 3 {
			t.Errorf("the probe was asked %d times in all, want 3", n)
		}

		broken := errors.New("broken")
		p.err.Store(&broken)
		time.Sleep(2 * time.Second)
		if err := w.Ready(t.Context())["slow"]; !errors.Is(err, broken) {
			t.Errorf("a probe that fails: %v", err)
		}
		w.Drain() // is said at once, whatever is kept
		if err := w.Ready(t.Context())["engine"]; engine.CodeOf(err) != engine.CodeServerDraining {
			t.Errorf("while draining: %v", err)
		}
	}, func(c *engine.Config, _ *memstore.Config) {
		c.Readiness, c.ReadyTTL = []engine.ReadinessProbe{&p}, 1500*time.Millisecond
	})
}
