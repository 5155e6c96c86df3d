package engine

import (
	"context"
	"time"
)

// unsure is a create of which nobody knows whether the store has done it: the
// answer was lost, and so was that of the look after it. Its place, its files and
// what the UploadPolicy reserved are kept until somebody knows.
type unsure struct {
	task   Task
	slot   Slot
	settle func(kept bool)
}

// learnLater looks for the task, in the background, until the store tells what
// became of it: then it is handed over, or its files are dropped. The client has
// its STORE_UNAVAILABLE, and may repeat the request meanwhile.
func (e *Engine) learnLater(u unsure) {
	if !e.unsure.enter() { // Shutdown waits for every create before it shuts this
		e.giveUp(u)
		return
	}
	go func() {
		defer e.unsure.leave()
		err := recovered("seeing to a create that the store did not confirm", func() error { e.learn(u); return nil })
		if err != nil {
			e.cfg.Logger.Error("a create that the store did not confirm was not seen to", "error", err)
		}
	}()
}

func (e *Engine) learn(u unsure) {
	var pause backoff
	for start := time.Now(); time.Since(start) < e.cfg.Emit.Retry; {
		last := !sleep(e.drained, pause.next(maxRetryPause))
		if e.learnOnce(u) {
			return
		}
		if last {
			break
		}
	}
	e.giveUp(u)
}

// learnOnce is false if it has to be asked again.
func (e *Engine) learnOnce(u unsure) bool {
	ctx, done := context.WithTimeout(context.Background(), failTimeout)
	defer done()
	stored, became := e.find(ctx, u.task)
	switch {
	case became == isUnknown:
		return false
	case became != isOurs:
		e.dropFiles(ctx, u.task.Attachments)
		u.slot.Release()
		u.settle(false)
	case stored.Status != StatusAccepted: // it was taken for lost meanwhile
		u.slot.Release()
		u.settle(true)
	default:
		u.settle(true)
		_ = e.handOver(ctx, u.slot, stored) // it has ended if that failed
	}
	return true
}

// giveUp keeps the files: if the task was stored it is an orphan by now, and
// whoever runs it again needs them.
func (e *Engine) giveUp(u unsure) {
	u.slot.Release()
	u.settle(true)
	for _, a := range u.task.Attachments {
		e.cfg.Logger.Warn("nobody knows whether a task was stored; its attachment is kept", "ref", a.Ref)
	}
}
