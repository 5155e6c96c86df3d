package fiberbridge

import (
	"context"
	"errors"
	"time"
)

// Shutdown drains: /ready says no, then new work is refused, then every stream
// is told to come back and cut, then the engine is shut down. See DrainConfig.
//
// It returns ctx's error if that took too long; what is left is cut then, and
// another call waits for the rest. It may be called again and from several
// goroutines, which all wait for the same end. Call it before the app's own
// shutdown: Fiber waits for open SSE responses until its deadline.
func (b *Bridge) Shutdown(ctx context.Context) error {
	b.notReady.Store(true)
	select {
	case <-b.shutdown:
		defer func() { b.shutdown <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !b.drained {
		b.drained = true
		pause(ctx, share(ctx, b.cfg.Drain.NotReady, 5))
		b.eng.Drain()
	}
	err := errors.Join(
		b.streams.drain(ctx, share(ctx, b.cfg.Drain.Spread, 4)),
		b.eng.Shutdown(ctx),
		b.streams.close(ctx),
	)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// share is d, at most one part in parts of the time that ctx leaves, and never
// negative.
func share(ctx context.Context, d time.Duration, parts int) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(deadline)/time.Duration(parts))
	}
	return max(d, 0)
}

// pause waits for d or ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
