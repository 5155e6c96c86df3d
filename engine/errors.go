package engine

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an [Error]. The values are the protocol's.
type Code string

// The protocol's error codes. The three last ones are what stores and runs tell
// hosts' own code: another worker has the task, it is over, the run is
// closed or the task has too many suspensions open. A host's own policies and
// validators may answer with them, too (409).
const (
	CodeAuthentication    Code = "AUTHENTICATION_ERROR"
	CodeInvalidRequest    Code = "INVALID_REQUEST"
	CodeUploadValidation  Code = "UPLOAD_VALIDATION_ERROR"
	CodeRequestTooLarge   Code = "REQUEST_TOO_LARGE"
	CodeRequestValidation Code = "REQUEST_VALIDATION_ERROR"
	CodeTaskOwnership     Code = "TASK_OWNERSHIP_ERROR"
	CodeTaskNotFound      Code = "TASK_NOT_FOUND"
	CodeIdempotency       Code = "IDEMPOTENCY_CONFLICT"
	CodeTooManyStreams    Code = "TOO_MANY_STREAMS"
	CodeRateLimited       Code = "RATE_LIMITED"
	CodeTaskSubmission    Code = "TASK_SUBMISSION_ERROR"
	CodeStoreUnavailable  Code = "STORE_UNAVAILABLE"
	CodeServerDraining    Code = "SERVER_DRAINING"
	CodeInternal          Code = "INTERNAL_ERROR"

	CodeTaskConflict        Code = "TASK_CONFLICT"
	CodeTaskAlreadyTerminal Code = "TASK_ALREADY_TERMINAL"
	CodeInvalidTaskState    Code = "INVALID_TASK_STATE"
)

// FieldError is one entry of Error.Fields: which field, and what is wrong.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is the one error type of this module's services and stores.
//
// Message is safe to show to a client; the cause is for the log. Errors
// compare by code: errors.Is(err, engine.NewError(engine.CodeTaskNotFound, ""))
// or, shorter, engine.CodeOf(err) == engine.CodeTaskNotFound.
type Error struct {
	Code    Code
	Message string
	// Fields lists what is wrong with a request that is well-formed but does
	// not fit its schema (CodeRequestValidation, CodeUploadValidation).
	Fields []FieldError
	// RetryAfter is when a passing refusal is worth trying again. Zero: the
	// transport's default.
	RetryAfter time.Duration

	cause error
}

// NewError returns an error with a message for the client.
func NewError(code Code, message string) *Error { return &Error{Code: code, Message: message} }

// Errorf is NewError with a formatted message. It wraps nothing: %w is not
// understood, since a cause must not leak into a client's message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithCause returns a copy that unwraps to cause.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Error gives code, message and cause: text for a log, not for a client.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Message
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause, if any.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is an *Error with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// CodeOf returns the code of the first *Error in err's chain, CodeInternal for
// any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
