package fiberbridge

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// command works on the next frame, on a goroutine of the command pool.
func (w *wsStream) command(ctx context.Context) (more bool) {
	w.mu.Lock()
	if w.parked.Load() && len(w.queue) > 0 && !w.ending {
		// A client that takes no answers gets no further ones.
		w.waiting = true
		w.mu.Unlock()
		if !w.parked.Load() { // resumed may have come just before
			w.resumed()
		}
		return false
	}
	if len(w.queue) == 0 || w.ending {
		defer w.mu.Unlock()
		return w.nextLocked()
	}
	item := w.queue[0]
	if item.code != 0 {
		defer w.mu.Unlock()
		w.closeLocked(item.code, item.why, farewellTime)
		return w.nextLocked()
	}
	w.queue = w.queue[1:]
	w.mu.Unlock()

	if item.cmd.action == actionSubscribe {
		w.subscribe(ctx, item.cmd)
	} else {
		w.unsubscribe(item.cmd.taskID)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nextLocked()
}

// nextLocked reports whether a frame waits. mu is held.
func (w *wsStream) nextLocked() bool {
	if w.ending {
		w.queue = nil
	}
	if len(w.queue) > 0 {
		return true
	}
	w.queue = nil
	w.busy = false
	w.settle()
	return false
}

// subscribe asks the engine, which may block on a store, and follows.
func (w *wsStream) subscribe(ctx context.Context, cmd wsCommand) {
	start, err := w.admit(ctx, cmd)
	if err != nil {
		w.reject(cmd.taskID, err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending || w.over {
		return
	}
	task := start.Task.ID
	w.subscribeBy = 0
	if w.first == "" {
		w.first = task
	}
	w.several = w.several || task != w.first
	w.tasks = slices.DeleteFunc(w.tasks, func(t string) bool { return t == task })
	confirmed := appendConfirmed(nil, task, cmd.cursor, start.Gap)
	if start.Over {
		w.outlet.Unfollow(task, nil)
		w.outlet.Send(confirmed)
		w.ended = append(w.ended, task)
		return
	}
	w.tasks = append(w.tasks, task)
	w.idleSince = 0
	w.outlet.Follow(task, fanout.ID(start.Position), confirmed)
}

// admit checks a subscription and finds out where it begins.
func (w *wsStream) admit(ctx context.Context, cmd wsCommand) (engine.Start, error) {
	var after engine.EventID
	if cmd.cursor != nil {
		var err error
		if after, err = engine.ParseCursor(*cmd.cursor); err != nil {
			return engine.Start{}, err
		}
	}
	w.mu.Lock()
	full := len(w.tasks) >= w.s.cfg.WebSocket.MaxSubscriptions && !slices.Contains(w.tasks, cmd.taskID)
	w.mu.Unlock()
	if full {
		return engine.Start{}, engine.NewError(engine.CodeTooManyStreams, "this socket follows too many tasks")
	}
	return w.s.eng.Subscribe(ctx, w.auth, engine.SubscribeRequest{
		TaskID: cmd.taskID, After: after, Transport: transportWebSocket,
	})
}

// reject refuses a subscription: the first one by closing.
func (w *wsStream) reject(task string, err error) {
	var e *engine.Error
	if errors.Is(err, context.DeadlineExceeded) {
		e = engine.NewError(engine.CodeStoreUnavailable, "the store took too long")
	} else if !errors.As(err, &e) || httpStatus(e.Code) == httpStatus(engine.CodeInternal) {
		if ctx := context.Cause(w.s.commands.ctx); ctx == nil {
			w.s.log.Error("websocket: subscribe failed", slog.Any("error", err))
		}
		e = engine.NewError(engine.CodeInternal, "internal error")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subscribeBy > 0 {
		w.closeLocked(refusalCode(e), e.Message, farewellTime)
		return
	}
	if !w.ending {
		w.outlet.Send(appendRejected(nil, task, e))
	}
}

// unsubscribe drops a task. What is not followed is not missed.
func (w *wsStream) unsubscribe(task string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending || w.over {
		return
	}
	w.several = true
	if i := slices.Index(w.tasks, task); i >= 0 {
		w.tasks = slices.Delete(w.tasks, i, i+1)
		// Not as Unfollow's farewell: the last event may just have been
		// written, and then nothing is left to take leave of.
		w.outlet.Unfollow(task, nil)
		w.outlet.Send(appendEnded(nil, task, endedUnsubscribed))
	}
}

var _ wsproto.Receiver = (*wsStream)(nil)
