package localexec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Option registers a handler with New; see Handle.
type Option func(handlers) error

// HandlerOption changes how one handler is run.
type HandlerOption func(*handler) error

// Timeout ends the handler's context d after it was called, with cause
// ErrTimeout. If the handler then returns an error, its task becomes
// TASK_FAILED with code TASK_TIMEOUT, retryable. Time in the queue does not
// count, time in run.Suspend does. Without it a handler may take as long as it
// likes.
func Timeout(d time.Duration) HandlerOption {
	return func(h *handler) error {
		if d <= 0 {
			return errors.New("the Timeout is not positive")
		}
		h.timeout = d
		return nil
	}
}

// handlers are the registered ones, by task type.
type handlers map[string]*handler

// handler makes a call out of a task's input, or refuses the input.
type handler struct {
	bind        func(input json.RawMessage) (call, error)
	timeout     time.Duration // 0: none
	restartable bool
}

// job returns a job of h for a task, with its decoded input, in a place of owner.
func (h *handler) job(task engine.Task, owner string, do call) *job {
	return &job{task: task, owner: owner, do: do, timeout: h.timeout, turn: make(chan struct{})}
}

// call is one handler with its decoded input.
type call func(ctx context.Context, run *engine.Run) (any, error)

// Handle registers fn for tasks of one type.
//
// In is what the task's input decodes to with encoding/json; keys that In does
// not have are ignored, and json.RawMessage takes the input as it is. Input
// that does not decode is refused at admission, with INVALID_REQUEST and the
// field's name. If In, or *In, has a method Validate() error, it is asked too,
// and its text goes to the client.
//
// Numbers keep every digit: where In has an any (map[string]any, []any), a
// number becomes a json.Number and not a float64, which would round integers
// above 2^53. A json.Number encodes as the same digits again, in a result as
// well as in a payload. Fields of a numeric type are decoded to that type.
//
// ctx is run.Context(), with the handler's Timeout if it has one: it ends when
// cancellation is requested (context.Cause is then an *engine.CancelRequested),
// when the time is over (ErrTimeout), when the executor stops (ErrShutdown), or
// when this process was silent for so long that its task was taken from it
// (engine.ErrLeaseLost; see engine.LeaseConfig). See Restartable for what becomes
// of tasks whose process is gone.
//
// TASK_STARTED is in the log when fn is called (Run.Start), and fn emits what it likes
// through run. The package's comment lists what its return leads to. fn may be called concurrently and must not use run after it
// returned.
func Handle[In, Out any](taskType string, fn func(ctx context.Context, run *engine.Run, in In) (Out, error), opts ...HandlerOption) Option {
	return func(all handlers) error {
		switch {
		case taskType == "":
			return errors.New("localexec: Handle without a task type")
		case fn == nil:
			return fmt.Errorf("localexec: Handle(%q) without a function", taskType)
		case all[taskType] != nil:
			return fmt.Errorf("localexec: two handlers for %q", taskType)
		}
		h := &handler{bind: func(input json.RawMessage) (call, error) {
			in, err := decode[In](input)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context, run *engine.Run) (any, error) { return fn(ctx, run, in) }, nil
		}}
		for _, opt := range opts {
			if err := opt(h); err != nil {
				return fmt.Errorf("localexec: Handle(%q): %w", taskType, err)
			}
		}
		all[taskType] = h
		return nil
	}
}

// decode reads input as an In. Its errors are for the client.
func decode[In any](input json.RawMessage) (in In, err error) {
	if len(input) == 0 {
		input = json.RawMessage(`{}`)
	}
	dec := json.NewDecoder(bytes.NewReader(input))
	dec.UseNumber() // a float64 would round large ids
	if err := dec.Decode(&in); err != nil {
		return in, badInput(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return in, badInput(errors.New("text after the input"))
	}
	v, ok := any(&in).(validator)
	if !ok {
		v, ok = any(in).(validator)
	}
	if !ok || isNil(v) {
		return in, nil
	}
	if err := v.Validate(); err != nil {
		return in, engine.NewError(engine.CodeInvalidRequest, "input: "+err.Error())
	}
	return in, nil
}

type validator interface{ Validate() error }

// isNil keeps Validate from being called on the nil that "null" decodes to.
func isNil(v validator) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

// badInput words a decoding error without naming anything of the host's code.
func badInput(err error) error {
	var known *engine.Error
	if errors.As(err, &known) { // from an UnmarshalJSON that means the client
		return known
	}
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		field := "input"
		if mistyped.Field != "" {
			field += "." + mistyped.Field
		}
		return engine.Errorf(engine.CodeInvalidRequest, "%s: expected %s, got %s",
			field, jsonName(mistyped.Type), mistyped.Value).WithCause(err)
	}
	return engine.NewError(engine.CodeInvalidRequest, "the input does not fit this type of task").WithCause(err)
}

// jsonName is what a Go type is called in JSON.
func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("an integer of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return fmt.Sprintf("a non-negative integer of %d bits", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Pointer:
		return jsonName(t.Elem())
	}
	return "another type"
}
