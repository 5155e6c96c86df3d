package rueidisstore

import (
	"context"
	"sync/atomic"
	"time"
)

// deadlines bounds commands in time. A timer for each command would take longer
// to start than Redis takes for an append (it wakes the runtime's poller), so
// the commands that begin within a slice of time share one.
type deadlines struct {
	timeout time.Duration
	current atomic.Pointer[deadline]
}

type deadline struct {
	context.Context
	cancel context.CancelFunc
	at     time.Time
}

// deadlineSlices is how many deadlines a timeout is cut into: a command has its
// timeout, and an eighth more at most.
const deadlineSlices = 8

func (d *deadlines) next() *deadline {
	now := time.Now()
	at := d.current.Load()
	if at != nil && at.at.Sub(now) >= d.timeout {
		return at
	}
	fresh := &deadline{at: now.Add(d.timeout + d.timeout/deadlineSlices)}
	fresh.Context, fresh.cancel = context.WithDeadline(context.Background(), fresh.at)
	if !d.current.CompareAndSwap(at, fresh) {
		fresh.cancel()
		return d.next()
	}
	return fresh
}

// bounded has the end of a deadline and the values of a caller's context.
type bounded struct {
	context.Context
	caller context.Context
}

func (b bounded) Value(key any) any { return b.caller.Value(key) }

// bound gives a command its time limit. A command under way is not cut off when
// ctx is cancelled: it may have been done, and it will not take long. An earlier
// deadline of ctx counts.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	d := s.deadlines.next()
	if at, ok := ctx.Deadline(); ok && at.Before(d.at) {
		return context.WithDeadline(ctx, at)
	}
	if ctx.Err() != nil {
		return ctx, nothing
	}
	return bounded{d.Context, ctx}, nothing
}

// boundAppend is bound for an append, which is cut off when ctx is cancelled: its
// caller repeats it with the same token, or leaves that to somebody else.
func (s *Store) boundAppend(ctx context.Context) (context.Context, context.CancelFunc) {
	bound, done := s.bound(ctx)
	shared, ok := bound.(bounded)
	if !ok || ctx.Done() == nil {
		return bound, done
	}
	cut, cancel := context.WithCancel(shared.Context)
	stop := context.AfterFunc(ctx, cancel)
	return bounded{cut, ctx}, func() {
		stop()
		cancel()
	}
}

func nothing() {}
