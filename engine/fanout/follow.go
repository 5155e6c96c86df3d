package fanout

import (
	"errors"
	"math/rand/v2"
	"time"
)

// followTries is how often a Follow is tried that fails for a passing reason.
const followTries = 6

// backoff is the pause before try n+1 of something that failed n times: it
// doubles up to 2s and is spread, so that what failed together does not come
// back together.
func backoff(n int) time.Duration {
	d := min(100*time.Millisecond<<min(n-1, 5), 2*time.Second)
	return d/2 + rand.N(d/2+1)
}

// follow begins to follow lg after the cursor. It has a goroutine of its own,
// since Follow may block.
func (lg *log) follow(after ID) {
	h := lg.hub
	for try := 1; ; try++ {
		stop, err := h.src.Follow(lg.ctx, lg.key, after, lg)
		if err == nil {
			lg.begun(stop)
			return
		}
		if lg.ctx.Err() != nil {
			return // dropped meanwhile
		}
		if errors.Is(err, ErrNotFound) || try == followTries {
			h.logs.remove(lg)
			lg.fail(err)
			return
		}
		h.cfg.Logger.Warn("fanout: following failed, trying again", "key", lg.key, "try", try, "err", err)
		lg.mu.Lock()
		lg.failWaits(err)
		after = lg.ring.last()
		lg.mu.Unlock()
		pause := time.NewTimer(backoff(try))
		select {
		case <-pause.C:
		case <-lg.ctx.Done():
			pause.Stop()
			return
		}
	}
}

// begun notes that lg is followed, or stops at once if it was dropped.
func (lg *log) begun(stop func()) {
	if stop == nil {
		stop = func() {}
	}
	lg.mu.Lock()
	if lg.dropped {
		lg.mu.Unlock()
		stop()
		return
	}
	lg.stop = stop
	lg.followed = true
	lg.tellLoops() // who stands beyond the ring may now ask why
	lg.mu.Unlock()
}
