package engine

import (
	"context"
	"math/rand/v2"
	"time"
)

// firstPause is where a backoff begins.
const firstPause = 5 * time.Millisecond

// backoff gives pauses that double, with jitter so that those who failed
// together do not come back together. The zero value is ready.
type backoff struct{ last time.Duration }

// next returns the next pause, between half and all of a step that is at most
// limit.
func (b *backoff) next(limit time.Duration) time.Duration {
	b.last = min(max(2*b.last, firstPause), limit)
	return b.last/2 + rand.N(b.last/2+1)
}

// nextWithin pauses, or until ctx ends.
func (b *backoff) nextWithin(ctx context.Context, limit time.Duration) {
	sleep(ctx, b.next(limit))
}

// sleep is false if ctx ended before the pause did.
func sleep(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
