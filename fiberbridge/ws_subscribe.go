package fiberbridge

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// command works on the next frame, on a goroutine of the command pool.
func (w *wsStream) command(ctx context.Context) (more bool) {
	w.mu.Lock()
	if w.flags.has(parked) && w.queue.len() > 0 && !w.ending {
		// A client that takes no answers gets no further ones.
		w.waiting = true
		w.mu.Unlock()
		if !w.flags.has(parked) { // resumed may have come just before
			w.resumed()
		}
		return false
	}
	if w.queue.len() > 0 && !w.ending {
		item := w.queue.items[0]
		if item.code != 0 {
			w.closeLocked(item.code, item.why, farewellTime)
		} else {
			w.queue.items = w.queue.items[1:]
			w.queue.bytes -= item.size
			w.mu.Unlock()
			w.obey(ctx, item.cmd)
			w.mu.Lock()
		}
	}
	defer w.mu.Unlock()
	return w.nextLocked()
}

// obey does what a frame asks for.
func (w *wsStream) obey(ctx context.Context, cmd wsCommand) {
	if cmd.action == actionUnsubscribe {
		w.unsubscribe(cmd.taskID)
		return
	}
	start, err := w.admit(ctx, cmd)
	if err != nil {
		w.reject(cmd.taskID, err)
		return
	}
	w.subscribe(start, cmd)
	// A revocation that came after it was admitted, and before it could be found
	// among what is followed.
	w.standing(ctx, false)
}

// nextLocked reports whether a frame waits. mu is held.
func (w *wsStream) nextLocked() bool {
	if w.queue.len() > 0 && !w.ending {
		return true
	}
	w.queue = nil
	w.busy = false
	w.settle()
	return false
}

// subscribe follows what was admitted.
func (w *wsStream) subscribe(start engine.Start, cmd wsCommand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending || w.over {
		return
	}
	task := start.Task.ID
	if !w.subscribed {
		w.subscribed, w.idleBy = true, 0
	}
	if w.first == "" {
		w.first = task
	}
	w.several = w.several || task != w.first
	again := func(t string) bool { return t == task }
	w.tasks = slices.DeleteFunc(w.tasks, again)
	w.ended = w.ended.without(task)
	confirmed := appendConfirmed(nil, task, cmd.cursor, start.Gap)
	if start.Over {
		w.outlet.Unfollow(task, nil)
		w.outlet.Send(confirmed)
		w.s.unplaceTask(w, task)
		w.ended = w.ended.with(task, endedTerminal)
	} else {
		w.tasks = append(w.tasks, task)
		w.idleBy = 0
		start.Follow(w.outlet, confirmed)
	}
	w.settle()
}

// admit checks a subscription and finds out where it begins; it may block on a
// store. A panic in the host's code that it calls (policy, store, metrics) is
// one subscription's failure: on this goroutine it would end the process.
func (w *wsStream) admit(ctx context.Context, cmd wsCommand) (_ engine.Start, err error) {
	defer func() {
		if r := recover(); r != nil {
			w.s.log.Error("websocket: panic in a subscribe",
				slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			err = errSubscribe
		}
	}()
	var after engine.EventID
	if cmd.cursor != nil {
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
	start, err := w.s.eng.Subscribe(ctx, *w.auth, engine.SubscribeRequest{
		TaskID: cmd.taskID, After: after, Transport: transportWebSocket,
	})
	if err == nil && !start.Over {
		err = w.s.placeTask(w, cmd.taskID)
	}
	return start, err
}

// errSubscribe is what a client sees of a failure that is not its own.
var errSubscribe = engine.NewError(engine.CodeInternal, "internal error")

// reject refuses a subscription: the first one by closing.
func (w *wsStream) reject(task string, err error) {
	var e *engine.Error
	if errors.Is(err, context.DeadlineExceeded) {
		e = engine.NewError(engine.CodeStoreUnavailable, "the store took too long")
	} else if !errors.As(err, &e) || httpStatus(e.Code) == httpStatus(engine.CodeInternal) {
		if e != errSubscribe && w.s.commands.ctx.Err() == nil { // else it was logged, or is no failure
			w.s.log.Error("websocket: subscribe failed", slog.Any("error", err))
		}
		e = errSubscribe
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.subscribed {
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
		w.s.unplaceTask(w, task)
		// Not as Unfollow's farewell: the last event may just have been
		// written, and then nothing is left to take leave of.
		w.outlet.Unfollow(task, nil)
		w.outlet.Send(appendEnded(nil, task, endedUnsubscribed))
	}
	w.settle()
}

var _ wsproto.Receiver = (*wsStream)(nil)
