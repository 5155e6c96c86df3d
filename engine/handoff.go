package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Resumer is the power of a TaskExecutor to take the answer to a suspension.
// New looks for it once. Runs that wait in Run.Suspend take their answer by
// themselves, on whatever node they are; this is for everything else.
type Resumer interface {
	// Resume hands over the answer to a suspension of task. After nil it counts
	// as handed over: the executor, or the system behind it, keeps it. After an
	// error it is offered again, with growing pauses, here or on another node;
	// so the same answer may come more than once. ErrHandOffPending is the
	// error that means no fault; one that wraps it says why this node cannot go on
	// with the task, which others may. ctx ends after some seconds.
	Resume(ctx context.Context, task Task, s Suspension, a Action) error
}

// ErrHandOffPending is what Resume returns if a run has or will have the answer
// (Run.Suspend confirms it), or another node must take it.
var ErrHandOffPending = errors.New("engine: the answer waits for a run of its task")

const (
	// resumeTimeout bounds one hand-off.
	resumeTimeout = 5 * time.Second
	// maxHandOffs is how many hand-offs of one engine are under way at once.
	// What is beyond it comes again.
	maxHandOffs = 64
)

// handOffs gives answers to whoever goes on with them.
type handOffs struct {
	emitter *Emitter
	resumer Resumer // nil if the executor is none
	logger  *slog.Logger
	drained context.Context

	// resumable ends the calls of Resume, resumes counts them: none must be under
	// way when the executor is shut down.
	resumable  context.Context
	endResumes context.CancelFunc
	resumes    gate
	// life ends everything else, work counts it.
	life context.Context
	end  context.CancelFunc
	work gate

	mu   sync.Mutex
	busy map[[2]string]struct{}
}

func newHandOffs(drained context.Context, m *Emitter, x TaskExecutor, logger *slog.Logger) *handOffs {
	h := &handOffs{emitter: m, logger: logger, drained: drained, busy: map[[2]string]struct{}{}}
	h.resumer, _ = x.(Resumer)
	h.resumable, h.endResumes = context.WithCancel(context.Background())
	h.life, h.end = context.WithCancel(context.Background())
	return h
}

// stopResuming ends the calls of Resume and waits for them. Answers are still
// given to runs.
func (h *handOffs) stopResuming(ctx context.Context) error {
	h.endResumes()
	return h.resumes.wait(ctx)
}

// shutdown ends everything.
func (h *handOffs) shutdown(ctx context.Context) error {
	h.end()
	return h.work.wait(ctx)
}

// start hands d, which has an Answer, over in the background. Whatever goes
// wrong, the reconciler comes back to it.
func (h *handOffs) start(d DueSuspension) {
	key, ok := h.begin(d)
	if !ok {
		return
	}
	go func() {
		defer h.finish(key)
		_, _ = h.give(h.life, d)
	}()
}

// do is start, and waits.
func (h *handOffs) do(ctx context.Context, d DueSuspension) (done bool, err error) {
	key, ok := h.begin(d)
	if !ok {
		return false, nil
	}
	defer h.finish(key)
	return h.give(ctx, d)
}

// begin is false if there is no need, no room, or no time left.
func (h *handOffs) begin(d DueSuspension) (key [2]string, ok bool) {
	key = [2]string{d.TaskID, d.SuspendID}
	if h.emitter.waited(d.TaskID, d.SuspendID) {
		return key, false // it takes it by itself
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, busy := h.busy[key]; busy || len(h.busy) >= maxHandOffs || !h.work.enter() {
		return key, false
	}
	h.busy[key] = struct{}{}
	return key, true
}

func (h *handOffs) finish(key [2]string) {
	h.mu.Lock()
	delete(h.busy, key)
	h.mu.Unlock()
	h.work.leave()
}

// give offers the answer once.
func (h *handOffs) give(ctx context.Context, d DueSuspension) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	m := h.emitter
	task, err := m.store.Get(ctx, d.TaskID, Fresh)
	if err != nil || task.Terminal != nil || task.Status.Terminal() {
		return false, err
	}
	err = h.resume(ctx, task, d.Suspension)
	run := m.runOf(d.TaskID)
	switch {
	case err == nil:
		err = m.actions.HandedOver(ctx, d.TaskID, d.SuspendID, 0)
	case !errors.Is(err, ErrHandOffPending):
	case run != nil && !m.waited(d.TaskID, d.SuspendID):
		// The run is alive and does not wait, or not yet; what it asks for
		// later, it finds.
		err = run.confirm(ctx, d.SuspendID)
	case run == nil && err != ErrHandOffPending && task.Restartable && m.holds != nil: //nolint:errorlint // whether there is more to it
		return false, m.strand(ctx, task, d.Waited, err, m.abandonAnswered(d.SuspendID))
	default:
		return false, nil
	}
	if err != nil {
		h.logger.WarnContext(ctx, "an answer could not be handed over; it will be offered again",
			"taskId", d.TaskID, "suspendId", d.SuspendID, "error", err)
	}
	return err == nil, err
}

var errNoResumer = fmt.Errorf("%w: %w", ErrHandOffPending, errNoRestarter)

// resume asks the executor, unless this process takes nothing new.
func (h *handOffs) resume(ctx context.Context, task Task, s Suspension) error {
	if h.drained.Err() == nil && h.resumer == nil {
		return errNoResumer
	}
	if h.drained.Err() != nil || !h.resumes.enter() {
		return ErrHandOffPending
	}
	defer h.resumes.leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.resumable, cancel)()
	return recovered("resuming a task", func() error { return h.resumer.Resume(ctx, task, s, *s.Answer) })
}
