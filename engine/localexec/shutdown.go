package localexec

import (
	"context"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

const (
	// maxReserve and reserveShare say how much of Shutdown's time is kept for
	// ending what did not end by itself.
	maxReserve   = time.Second
	reserveShare = 5

	// lastWords bounds what is still written to the store after handlers were
	// told to stop.
	lastWords = 5 * time.Second
)

// Drain leaves Restartable tasks to other processes, on a store with engine.Leases. It
// ends the contexts of their handlers at once, with cause ErrShutdown; a handler has
// CancelGrace to return. All other tasks go on, and new ones are still accepted, until
// Shutdown. Drain does not wait, and may be called again.
func (x *Executor) Drain() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.leaving = true
	for _, j := range x.jobs {
		x.giveAway(j)
	}
}

// opened stores the run of a job, and gives the job away if the executor drains.
func (x *Executor) opened(j *job, run *engine.Run) {
	x.mu.Lock()
	defer x.mu.Unlock()
	j.run = run
	if x.leaving {
		x.giveAway(j)
	}
}

// giveAway stops a job if another process can continue it. mu is held.
func (x *Executor) giveAway(j *job) {
	if j.run != nil && j.run.Abandonable() {
		j.cancel(ErrShutdown)
	}
}

// Shutdown ends the executor. It begins with Drain, so that other processes can
// continue restartable tasks at once. New tasks are refused; all other queued and
// running tasks go on until shortly before ctx's deadline. Then the handlers'
// contexts end, with cause ErrShutdown, and whatever is left becomes
// TASK_FAILED with code EXECUTOR_SHUTDOWN, retryable.
//
// It returns nil when every goroutine is gone, or ctx's error if that comes
// first. It may be called again, and at the same time: the earliest deadline
// counts.
func (x *Executor) Shutdown(ctx context.Context) error {
	x.Drain()
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
	select {
	case <-x.idle:
	case <-ctx.Done():
		x.stop(reserve)
	case <-soft:
		x.stop(reserve)
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
