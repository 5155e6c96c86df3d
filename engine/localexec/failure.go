package localexec

import (
	"errors"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The codes of TASK_FAILED that this package chooses itself.
const (
	CodeExecutionFailed    = "TASK_EXECUTION_FAILED"
	CodeSuspensionExpired  = string(engine.CodeSuspensionExpired)
	CodeHandlerPanic       = "HANDLER_PANIC"
	CodeExecutorShutdown   = "EXECUTOR_SHUTDOWN"
	CodeTimeout            = "TASK_TIMEOUT"
	CodeResultNotEncodable = "RESULT_NOT_ENCODABLE"
	CodeResultRefused      = "RESULT_REFUSED"
	CodeEventRefused       = "EVENT_REFUSED"
)

var (
	// ErrShutdown is the cause of a handler's context when the executor stops.
	ErrShutdown = errors.New("localexec: the executor is shutting down")
	// ErrTimeout is the cause of a handler's context when its Timeout is over.
	ErrTimeout = errors.New("localexec: the handler's time is over")
)

// Failure is an error that a handler returns to end its task with a
// TASK_FAILED of its own choice. Make one with Fail.
type Failure struct {
	// Code, Message and Retryable go to the client as they are.
	Code      string
	Message   string
	Retryable bool
}

// Fail returns an error that ends the task with this TASK_FAILED. It may be
// wrapped; text around it stays in the process.
func Fail(code, message string, retryable bool) *Failure {
	return &Failure{Code: code, Message: message, Retryable: retryable}
}

// Error gives code and message.
func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// TaskFailed gives the payload. A host's own error types may have this method
// too.
func (f *Failure) TaskFailed() engine.Failed {
	return engine.Failed{Code: f.Code, Message: f.Message, Retryable: f.Retryable}
}

// failed turns a handler's error into what clients see. known says that the
// error was worded for them; otherwise it belongs into the log.
func failed(err error) (p engine.Failed, known bool) {
	var own interface{ TaskFailed() engine.Failed }
	if errors.As(err, &own) {
		return own.TaskFailed(), true
	}
	var coded *engine.Error
	if !errors.As(err, &coded) {
		return engine.Failed{Code: CodeExecutionFailed, Message: "the task failed"}, false
	}
	return engine.Failed{Code: string(coded.Code), Message: coded.Message, Retryable: passing(coded.Code)}, true
}

// passing reports whether an error of this code may be gone the next time.
func passing(code engine.Code) bool {
	switch code {
	case engine.CodeStoreUnavailable, engine.CodeServerDraining, engine.CodeTaskSubmission,
		engine.CodeRateLimited, engine.CodeTooManyStreams:
		return true
	}
	return false
}
