package localexec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// outcome is how a handler ended.
type outcome struct {
	result json.RawMessage
	err    error
	// crashed: a panic or runtime.Goexit, already in the log.
	crashed bool
}

// call runs a handler and the encoding of its result, both of which are the
// host's code, and always sends one outcome.
func (x *Executor) call(ctx context.Context, j *job, run *engine.Run, done chan<- outcome) {
	o := outcome{crashed: true}
	defer func() {
		if o.crashed { // recover gives nil for runtime.Goexit
			x.cfg.Logger.Error("localexec: a handler panicked or left its goroutine", "taskId", j.task.ID,
				"taskType", j.task.Type, "panic", fmt.Sprint(recover()), "stack", string(debug.Stack()))
		}
		done <- o
	}()
	out, err := j.do(ctx, run)
	if err == nil {
		if o.result, err = encode(out); err != nil {
			x.cfg.Logger.Error("localexec: a result cannot be encoded", "taskId", j.task.ID,
				"taskType", j.task.Type, "error", err)
			err = Fail(CodeResultNotEncodable, "the task's result cannot be encoded as JSON", false)
		}
	}
	o.err, o.crashed = err, false
}

// encode is json.Marshal without escapes for HTML.
func encode(v any) (json.RawMessage, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// verdict turns an outcome into the task's terminal event; nil says that the
// task was interrupted.
func (x *Executor) verdict(ctx context.Context, j *job, o outcome) engine.Payload {
	switch {
	case o.crashed:
		return engine.Failed{Code: CodeHandlerPanic, Message: "the task crashed"}
	case o.err == nil:
		return engine.Completed{Result: o.result}
	case ctx.Err() != nil:
		if !errors.Is(o.err, ctx.Err()) && !errors.Is(o.err, context.Cause(ctx)) {
			x.cfg.Logger.Info("localexec: a handler was stopped and returned an error", "taskId", j.task.ID,
				"taskType", j.task.Type, "error", o.err)
		}
		return nil
	}
	p, known := failed(o.err)
	if !known {
		x.cfg.Logger.Error("localexec: a handler failed", "taskId", j.task.ID, "taskType", j.task.Type, "error", o.err)
	}
	return p
}

// conclude stores the terminal event; if that is refused, a TASK_FAILED that
// says so; and if even that is, one that cannot be. run may be nil.
func (x *Executor) conclude(j *job, run *engine.Run, last engine.Payload) {
	run, done := x.lastRun(j, run)
	if run == nil {
		return
	}
	defer done()
	for range 3 {
		at, err := x.store(run, last)
		if settled(err) {
			return
		}
		x.unfinished(j, err)
		if x.final.Err() != nil {
			return
		}
		last = instead(run, last, at, err)
	}
}

// lastRun is the run to end j's task with: run, or, if that is nil, one that is
// opened for it, which done closes. It is nil if none is to be had; that is in
// the log then.
func (x *Executor) lastRun(j *job, run *engine.Run) (_ *engine.Run, done func()) {
	if run != nil {
		return run, func() {}
	}
	opened, err := x.open(x.final, j.task)
	if err != nil {
		x.unfinished(j, err)
		return nil, nil
	}
	return opened, func() { _ = opened.Close(x.final) }
}

func (x *Executor) unfinished(j *job, err error) {
	if !settled(err) {
		x.cfg.Logger.Error("localexec: a task's terminal event was not stored", "taskId", j.task.ID,
			"taskType", j.task.Type, "error", err)
	}
}

// store emits last, after what was streamed. It tells the code of what went
// wrong, and goes on while the store is unavailable.
func (x *Executor) store(run *engine.Run, last engine.Payload) (code string, err error) {
	for pause := firstReopen; ; pause = min(2*pause, lastReopen) {
		code = CodeEventRefused
		if err = run.Flush(x.final); err == nil || !success(last) {
			code = CodeResultRefused
			err = run.Emit(x.final, last)
		}
		if engine.CodeOf(err) != engine.CodeStoreUnavailable || code == CodeEventRefused {
			return code, err
		}
		if !sleep(x.final, pause) {
			return code, err
		}
	}
}

func success(p engine.Payload) bool {
	_, ok := p.(engine.Completed)
	return ok
}

// instead is what a task ends with when last met err.
func instead(run *engine.Run, last engine.Payload, code string, err error) engine.Payload {
	if !success(last) {
		return engine.Failed{Code: CodeExecutionFailed, Message: "the task failed"}
	}
	if ctx := run.Context(); ctx.Err() != nil { // why streamed events were lost
		return interrupted(ctx)
	}
	p, _ := failed(err)
	if !p.Retryable { // refused for what it is
		p.Code = code
	}
	return p
}
