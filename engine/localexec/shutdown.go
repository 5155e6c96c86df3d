package localexec

import (
	"context"
	"time"
)

const (
	// maxReserve and reserveShare say how much of Shutdown's time is kept for
	// ending what did not end by itself.
	maxReserve   = time.Second
	reserveShare = 5

	// lastWords bounds what is still written to the store after handlers were
	// told to stop.
	lastWords = 5 * time.Second

	// parkInterval is how often Shutdown looks for handlers that have begun to
	// wait for an answer.
	parkInterval = 100 * time.Millisecond
)

// Shutdown ends the executor. New tasks are refused at once; queued and
// running ones go on until shortly before ctx's deadline. Then the handlers'
// contexts end, with cause ErrShutdown, and whatever is left becomes
// TASK_FAILED with code EXECUTOR_SHUTDOWN, retryable; or, if it is Restartable
// and the store has engine.Leases, goes on in another process. Of these, handlers
// that wait in run.Suspend are told to stop at once.
//
// It returns nil when every goroutine is gone, or ctx's error if that comes
// first. It may be called again, and at the same time: the earliest deadline
// counts.
func (x *Executor) Shutdown(ctx context.Context) error {
	x.mu.Lock()
	x.draining = true
	x.checkIdle()
	x.mu.Unlock()

	var soft <-chan time.Time
	reserve := maxReserve
	if deadline, ok := ctx.Deadline(); ok {
		left := max(time.Until(deadline), 0)
		reserve = min(maxReserve, left/reserveShare)
		timer := time.NewTimer(left - reserve)
		defer timer.Stop()
		soft = timer.C
	}
	look := time.NewTicker(parkInterval)
	defer look.Stop()
	for waiting := true; waiting; {
		x.park()
		select {
		case <-look.C:
			continue
		case <-x.idle:
		case <-ctx.Done():
			x.stop(reserve)
		case <-soft:
			x.stop(reserve)
		}
		waiting = false
	}
	select {
	case <-x.idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	x.group.Wait() // they have nothing left to do but return
	x.stop(0)
	x.stopFinal()
	return nil
}

// park stops the handlers that wait for an answer which another process can take.
func (x *Executor) park() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, j := range x.jobs {
		if j.run != nil && j.run.Parkable() {
			j.cancel(ErrShutdown)
		}
	}
}

// stop tells everything that runs to end now, and gives handlers half of
// reserve to do so.
func (x *Executor) stop(reserve time.Duration) {
	x.mu.Lock()
	first := !x.stopped
	if first {
		x.stopped = true
		x.handlersLeft = reserve / 2
	}
	x.mu.Unlock()
	if first {
		x.stopWork(ErrShutdown)
		time.AfterFunc(lastWords, x.stopFinal)
	}
}

// stopGrace is how long handlers have after stop.
func (x *Executor) stopGrace() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.handlersLeft
}
