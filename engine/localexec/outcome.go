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
func (x *Executor) call(j *job, run *engine.Run, done chan<- outcome) {
	o := outcome{crashed: true}
	defer func() {
		if o.crashed { // recover gives nil for runtime.Goexit
			x.cfg.Logger.Error("localexec: a handler panicked or left its goroutine", "taskId", j.task.ID,
				"taskType", j.task.Type, "panic", fmt.Sprint(recover()), "stack", string(debug.Stack()))
		}
		done <- o
	}()
	out, err := j.do(run.Context(), run)
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

// verdict turns an outcome into the task's terminal event.
func (x *Executor) verdict(j *job, ctx context.Context, o outcome) engine.Payload { //nolint:revive // ctx is what is judged, not passed on
	switch {
	case o.crashed:
		return engine.Failed{Code: CodeHandlerPanic, Message: "the task crashed"}
	case o.err == nil:
		return engine.Completed{Result: o.result}
	case ctx.Err() != nil:
		if !errors.Is(o.err, context.Canceled) {
			x.cfg.Logger.Info("localexec: a handler was stopped and returned an error", "taskId", j.task.ID,
				"taskType", j.task.Type, "error", o.err)
		}
		return interrupted(ctx)
	}
	p, known := failed(o.err)
	if !known {
		x.cfg.Logger.Error("localexec: a handler failed", "taskId", j.task.ID, "taskType", j.task.Type, "error", o.err)
	}
	return p
}

// conclude stores the terminal event, or a TASK_FAILED that says why it could
// not be. run may be nil.
//
// An error of a streamed event stays with its run and would keep the terminal
// event out too: after any error a new run is opened for the last word.
func (x *Executor) conclude(j *job, run *engine.Run, last engine.Payload) {
	if run != nil {
		err := run.Flush(x.final)
		if err == nil {
			err = run.Emit(x.final, last)
			if settled(err) {
				return
			}
			last = instead(last, CodeResultRefused, err)
		} else {
			last = instead(last, CodeEventRefused, err)
		}
		if settled(err) {
			return
		}
		x.cfg.Logger.Error("localexec: a task's last events were refused", "taskId", j.task.ID, "error", err)
	}
	if err := x.lastWord(j, last); !settled(err) {
		x.cfg.Logger.Error("localexec: a task's terminal event was not stored", "taskId", j.task.ID, "error", err)
	}
}

func (x *Executor) lastWord(j *job, last engine.Payload) error {
	run, err := x.open(x.final, j.task)
	if err != nil {
		return err
	}
	defer func() { _ = run.Close(x.final) }()
	return run.Emit(x.final, last)
}

// instead is what a task ends with when an event of it met err: a success
// becomes a failure, anything else stays.
func instead(last engine.Payload, code string, err error) engine.Payload {
	if _, success := last.(engine.Completed); !success {
		return last
	}
	p, _ := failed(err)
	if !p.Retryable { // refused for what it is
		p.Code = code
	}
	return p
}
