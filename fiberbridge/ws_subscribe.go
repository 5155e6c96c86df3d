package fiberbridge

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// command works on the next frame, on a goroutine of the command pool.
func (w *wsStream) command(ctx context.Context) (more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue.len() == 0 || w.ending {
		return w.nextLocked()
	}
	switch {
	case w.flags.has(parked): // a client that takes no answers gets no further ones
		w.waiting = true
		return false
	case w.queue.ahead >= maxAhead:
		w.waiting = true
		w.catchUp()
		return false
	}
	if first := w.queue.items[0]; first.code != 0 {
		w.closeLocked(first.code, first.why, farewellTime)
		return w.nextLocked()
	}
	item := w.queue.shift()
	w.relieve()
	var refusal error
	switch {
	case item.over:
		refusal = errFrameRate
	case w.queue.hungFor > 0:
		w.queue.hungFor--
		if item.cmd.action == actionSubscribe {
			refusal = w.queue.hung
		}
	}
	w.mu.Unlock()
	w.obey(ctx, item.cmd, refusal)
	w.mu.Lock()
	return w.nextLocked()
}

// obey does what a frame asks for, unless it is refused already.
func (w *wsStream) obey(ctx context.Context, cmd wsCommand, refusal error) {
	if refusal != nil {
		w.reject(cmd.taskID, refusal)
		return
	}
	if cmd.action == actionUnsubscribe {
		w.unsubscribe(cmd.taskID)
		return
	}
	began := time.Now()
	start, err := w.admit(ctx, cmd)
	if err == nil {
		w.leaveOff(ctx, start.Task.ID)
		err = w.subscribe(start, cmd)
	} else if time.Since(began) >= hungTime {
		w.hangs(err)
	}
	if err != nil {
		w.reject(cmd.taskID, err)
		return
	}
	// A revocation that came after it was admitted, and before it could be found
	// among what is followed.
	w.standing(ctx, false)
}

// nextLocked reports whether a frame waits. mu is held.
func (w *wsStream) nextLocked() bool {
	if w.queue.len() > 0 && !w.ending {
		return true
	}
	if w.ending {
		w.queue = nil
	}
	w.tidy()
	w.busy = false
	w.settle()
	return false
}

// leaveOff drops what is followed of a task that is to be followed from elsewhere,
// and returns when its end cannot be told any more: it would be taken for the end
// of what begins.
func (w *wsStream) leaveOff(ctx context.Context, task string) {
	w.mu.Lock()
	followed := slices.Contains(w.tasks, task) && !w.ending && !w.over
	if !followed {
		w.mu.Unlock()
		return
	}
	dropped := make(chan struct{})
	w.outlet.Unfollow(task, nil)
	w.outlet.Tell(func() { close(dropped) })
	w.mu.Unlock()
	// The outlet tells within a turn of its loop, unless it is at its end.
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case <-dropped:
	case <-ctx.Done():
	}
}

// subscribe follows what was admitted, if the task has a place. The place is taken
// in the same step: what was followed until then may have ended meanwhile and
// given its own back.
func (w *wsStream) subscribe(start engine.Start, cmd wsCommand) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending || w.over {
		return nil
	}
	task := start.Task.ID
	if !start.Over {
		if err := w.s.placeTask(w, task); err != nil {
			return err
		}
	}
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
		w.idleBy, w.parting = 0, false
		start.Follow(w.outlet, confirmed)
	}
	w.settle()
	return nil
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
	return w.s.eng.Subscribe(ctx, *w.auth, engine.SubscribeRequest{
		TaskID: cmd.taskID, After: after, Transport: transportWebSocket,
	})
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
