package localexec

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// job is one submitted task.
type job struct {
	task    engine.Task
	owner   string // whose place the job holds
	do      call
	timeout time.Duration // 0: none
	ctx     context.Context
	cancel  context.CancelCauseFunc
	run     *engine.Run // nil before it is opened; guarded by Executor.mu
	// turn is closed when the job has a worker; until then waiting is its
	// place in the queue, guarded by Executor.mu.
	turn    chan struct{}
	waiting *list.Element
}

// run takes a task from its submission to its terminal event. It waits in the
// queue too, so that a cancellation, from whatever node, reaches a task that
// has no worker yet.
func (x *Executor) run(j *job) {
	defer x.leave(j)
	run, err := x.open(j.ctx, j.task)
	if err != nil {
		x.unopened(j, err)
		return
	}
	// Whatever its streamed events met, conclude has dealt with.
	defer func() { _ = run.Close(x.final) }()
	x.opened(j, run)

	ctx := run.Context()
	select {
	case <-j.turn:
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // also if both are true
		x.interrupt(ctx, j, run)
		return
	}
	if err := run.Start(ctx); err != nil {
		x.unstarted(j, run, err)
		return
	}

	if j.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, j.timeout, ErrTimeout)
		defer stop()
	}
	done := make(chan outcome, 1)
	x.group.Go(func() { x.call(ctx, j, run, done) })
	if o, ok := x.await(ctx, done); ok {
		if last := x.verdict(ctx, j, o); last != nil {
			x.conclude(j, run, last)
		} else {
			x.interrupt(ctx, j, run)
		}
		return
	}
	x.cfg.Logger.Warn("localexec: a handler ignores its context; its task is ended without it",
		"taskId", j.task.ID, "taskType", j.task.Type)
	x.interrupt(ctx, j, run)
	<-done // the worker is busy until then
}

// await waits for a handler, and no longer than a grace after its context has
// ended.
func (x *Executor) await(ctx context.Context, done <-chan outcome) (o outcome, ok bool) {
	select {
	case o = <-done:
		return o, true
	case <-ctx.Done():
	}
	grace := time.NewTimer(x.cfg.CancelGrace)
	defer grace.Stop()
	select {
	case o = <-done:
		return o, true
	case <-grace.C:
		return o, false
	case <-x.work.Done():
	}
	// The executor stops: what Shutdown has left is less.
	stop := time.NewTimer(x.stopGrace())
	defer stop.Stop()
	select {
	case o = <-done:
		return o, true
	case <-grace.C:
	case <-stop.C:
	}
	return o, false
}

const (
	firstReopen = 50 * time.Millisecond
	lastReopen  = 2 * time.Second
)

// open opens a run, again and again while the store is unavailable: without
// one the task could not even be failed.
func (x *Executor) open(ctx context.Context, task engine.Task) (*engine.Run, error) {
	for pause := firstReopen; ; pause = min(2*pause, lastReopen) {
		run, err := x.emitter.Open(ctx, task)
		if engine.CodeOf(err) != engine.CodeStoreUnavailable {
			return run, err
		}
		if !sleep(ctx, pause) {
			return nil, err
		}
	}
}

// sleep is false if ctx ended before the pause did.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// unopened ends a task that has no run.
func (x *Executor) unopened(j *job, err error) {
	switch {
	case j.ctx.Err() != nil:
		x.interrupt(j.ctx, j, nil)
	case settled(err):
	default:
		x.cfg.Logger.Error("localexec: a task could not be opened", "taskId", j.task.ID, "error", err)
		p, _ := failed(err)
		x.conclude(j, nil, p)
	}
}

// unstarted ends a task whose TASK_STARTED was not stored.
func (x *Executor) unstarted(j *job, run *engine.Run, err error) {
	switch ctx := run.Context(); {
	case ctx.Err() != nil:
		x.interrupt(ctx, j, run)
	case settled(err):
	default:
		x.cfg.Logger.Error("localexec: a task could not be started", "taskId", j.task.ID, "error", err)
		p, _ := failed(err)
		x.conclude(j, run, p)
	}
}

// interrupt ends a task whose context ended before it did, unless that was the
// executor's end and another process can go on with it. run may be nil.
func (x *Executor) interrupt(ctx context.Context, j *job, run *engine.Run) {
	run, done := x.lastRun(j, run)
	if run == nil {
		return
	}
	defer done()
	if errors.Is(context.Cause(ctx), ErrShutdown) {
		left, err := run.Abandon(x.final)
		if left && err == nil {
			x.cfg.Logger.Info("localexec: a task is left to another process", "taskId", j.task.ID, "taskType", j.task.Type)
			return
		}
		if left {
			x.cfg.Logger.Warn("localexec: a task is left to another process when its lease has run out", "taskId", j.task.ID,
				"taskType", j.task.Type, "error", err)
			return
		}
	}
	x.conclude(j, run, interrupted(ctx))
}

// settled reports whether the task needs no terminal event of ours any more. In
// a conflict it is another worker's.
func settled(err error) bool {
	switch engine.CodeOf(err) {
	case "", engine.CodeTaskAlreadyTerminal, engine.CodeTaskNotFound, engine.CodeTaskConflict:
		return true
	}
	return false
}

// interrupted is how a task ends whose context ended before it did.
func interrupted(ctx context.Context) engine.Payload {
	var cancelled *engine.CancelRequested
	if errors.As(context.Cause(ctx), &cancelled) {
		return engine.Cancelled{Reason: cmp.Or(cancelled.Reason, engine.DefaultCancelReason)}
	}
	if errors.Is(context.Cause(ctx), ErrTimeout) {
		return engine.Failed{Code: CodeTimeout, Message: "the task took too long", Retryable: true}
	}
	return engine.Failed{Code: CodeExecutorShutdown, Message: "the server was shut down", Retryable: true}
}
