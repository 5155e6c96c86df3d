package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"
)

// Emitter opens runs. The engine hands it to the executor; a worker process
// that has no executor gets it from Engine.Emitter. It is safe for concurrent
// use.
type Emitter struct {
	store   Store
	signals Signals     // nil if the store has none
	holds   *holds      // nil if the store has no Leases
	actions ActionStore // nil if the store is none
	// checkpoints is nil if the store keeps none; saves counts those of this
	// process.
	checkpoints Checkpoints
	saves       atomic.Uint64
	runs        runs
	// restarter is nil if the executor is none; drained ends when the engine
	// takes nothing new.
	restarter Restarter
	drained   context.Context
	// notices are about tasks that no node here can run.
	notices notices
	limits  Limits
	emit    EmitConfig
	metrics MetricsSink
	logger  *slog.Logger
	files   AttachmentStore // nil if there is none

	// work counts the goroutines that append. Each exists only while it has
	// something to store.
	work gate
	// keep counts the goroutines that keep leases and look for lost workers.
	keep gate
	// life ends when the engine gives up waiting for them: the appends of a run
	// belong to many callers, so no caller's context can be theirs.
	life context.Context
	end  context.CancelFunc
}

func newEmitter(drained context.Context, cfg Config) *Emitter {
	m := &Emitter{
		store: cfg.Store, limits: cfg.Limits, emit: cfg.Emit,
		metrics: cfg.Metrics, logger: cfg.Logger, files: cfg.Attachments, drained: drained,
	}
	m.restarter, _ = cfg.Executor.(Restarter)
	m.signals, _ = cfg.Store.(Signals)
	m.actions, _ = cfg.Store.(ActionStore)
	m.checkpoints, _ = cfg.Store.(Checkpoints)
	m.life, m.end = context.WithCancel(context.Background())
	if leases, ok := cfg.Store.(Leases); ok {
		m.holds = newHolds(m.life, leases, cfg, &m.keep)
	}
	return m
}

// Open returns a Run for a task that this process works on. Its context ends
// when ctx does, when somebody, on any node, asks for cancellation, or when the
// task is taken for lost and given to another (ErrLeaseLost). Close it.
//
// A task that is over is refused with TASK_ALREADY_TERMINAL, one that another
// process works on with TASK_CONFLICT (on a store that has Leases). While the
// store is unavailable Open waits for it, up to EmitConfig.Retry.
func (m *Emitter) Open(ctx context.Context, task Task) (*Run, error) {
	if !validTaskID(task.ID) {
		return nil, errTaskNotFound
	}
	if task.Terminal != nil || task.Status.Terminal() {
		return nil, errAlreadyTerminal
	}
	if m.life.Err() != nil {
		return nil, errShutDown
	}
	r := &Run{em: m, task: task, token: rand.Text()}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	if task.CancelRequested {
		r.signalled(Signal{CancelRequested: true, CancelReason: task.CancelReason})
	}
	var err error
	if r.hold, err = m.holds.take(ctx, r); err != nil {
		r.cancel(err)
		return nil, err
	}
	err = r.recall(ctx)
	if err == nil && m.signals != nil {
		err = m.retry(ctx, "listen to a task's signals", task.ID, func() (err error) {
			r.unlisten, err = m.signals.Listen(ctx, task.ID, r.signalled)
			return err
		})
	}
	if err != nil {
		_ = m.holds.leave(ctx, r.hold, r, unclean)
		r.cancel(err)
		return nil, err
	}
	m.runs.add(r)
	return r, nil
}

// append stores one batch, trying again with the same token, so that an append
// whose answer was lost is not done twice.
func (m *Emitter) append(ctx context.Context, a Append) error {
	return m.retry(ctx, toAppend, a.TaskID, func() error { return m.appendOnce(ctx, a) })
}

const toAppend = "append to a task's log"

func (m *Emitter) appendOnce(ctx context.Context, a Append) error {
	_, err := m.store.Append(ctx, a)
	if err != nil {
		return storeError(toAppend, err)
	}
	if n := len(a.Events); n > 0 && a.Events[n-1].Type == TypeFailed {
		m.metrics.Add(MetricTaskFailures, 1, "")
	}
	return nil
}

// maxRetryPause is the longest pause between two tries.
const maxRetryPause = 2 * time.Second

// retry calls do until it succeeds, fails for good, or EmitConfig.Retry is over.
func (m *Emitter) retry(ctx context.Context, what, taskID string, do func() error) error {
	start := time.Now()
	var pause backoff
	for tries := 1; ; tries++ {
		err := do()
		if err == nil {
			if tries > 1 {
				m.logger.InfoContext(ctx, "the store is back: "+what,
					"taskId", taskID, "tries", tries, "after", time.Since(start))
			}
			return nil
		}
		err = storeError(what, err)
		if CodeOf(err) != CodeStoreUnavailable || ctx.Err() != nil || time.Since(start) >= m.emit.Retry {
			return err
		}
		if tries == 1 {
			m.logger.WarnContext(ctx, "the store is unavailable: "+what, "taskId", taskID, "error", err)
		}
		pause.nextWithin(ctx, min(maxRetryPause, m.emit.Retry))
	}
}

// draft checks and encodes a payload. CreatedAt is now.
func (m *Emitter) draft(p Payload) (Draft, error) {
	t, payload, err := m.limits.encodePayload(p)
	d := Draft{Type: t, CreatedAt: wireTime(time.Now()), Payload: payload}
	if t == TypeSuspended && err == nil {
		d.Default, err = m.limits.checkDefault(suspendedOf(p))
	}
	return d, err
}

// shutdown waits for the appends that are under way. At ctx's end it cuts them
// off; a further call waits for what that leaves. Leases are kept until then;
// what is still held runs out, for others to find.
func (m *Emitter) shutdown(ctx context.Context) error {
	err := m.work.wait(ctx)
	if err != nil {
		m.logger.WarnContext(ctx, "appends are cut off by the shutdown")
	}
	m.end()
	return errors.Join(err, m.keep.wait(ctx))
}

var errShutDown = NewError(CodeServerDraining, "the engine is shut down")

// batchToken names the n-th append of a run.
func batchToken(run string, n uint64) string { return run + "-" + strconv.FormatUint(n, 10) }
