package rueidisstore

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// retryAfter is when a passing fault of Redis is worth trying again: about what
// a restart or a failover takes.
const retryAfter = 2 * time.Second

// passing are the beginnings of Redis's answers to which the remedy is time, or
// an operator who does not touch this process.
var passing = []string{
	"LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "READONLY", "NOREPLICAS", "OOM", "MISCONF",
	"MOVED", "ASK", "BUSY", "UNKILLABLE", "UNBLOCKED", "EXECABORT", "NOSCRIPT",
	"REDIRECT",
	"max number of clients reached", "ERR max number of clients reached", "NOQUORUM", "NOGOODSLAVE", "INPROG",
}

// full is the beginning of the answer to a command that takes memory when maxmemory
// is reached. Redis still answers reads, and runs scripts that first make a write
// that takes no memory.
var full = []string{"OOM"}

// refusals are the beginnings of Redis's answers to a user who may not. New makes
// sure that ours may: later, an operator has changed what users may do, or a
// password, and may change it back. No task has to die of that.
var refusals = []string{"NOPERM", "NOAUTH", "WRONGPASS"}

// refusedScript are what a script is told, up to 7.0 and since, and 6.2 wraps.
var refusedScript = []string{"The user executing the script can't", "ACL failure in script"}

// classify gives err the form that engine.Store promises; op says what was being
// done. Answers of Redis that nothing but another program will cure are
// INTERNAL_ERROR, everything else is STORE_UNAVAILABLE.
func classify(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *engine.Error
	if errors.As(err, &known) {
		return known
	}
	cause := &opError{op: op, err: err}
	if answer := asAnswer(err); answer != "" && !isPassing(answer) && !isRefusal(answer) {
		return engine.NewError(engine.CodeInternal, "the store failed").WithCause(cause)
	}
	return unavailable(cause)
}

// asAnswer gives the text of the answer that Redis gave, "" if err is something
// else.
func asAnswer(err error) string {
	var answer *rueidis.RedisError
	if !errors.As(err, &answer) || answer.IsNil() {
		return ""
	}
	return answer.Error()
}

func unavailable(cause error) error {
	message := "the store is unavailable"
	if begins(asAnswer(cause), full) {
		message = "the store is full"
	}
	e := engine.NewError(engine.CodeStoreUnavailable, message)
	e.RetryAfter = retryAfter
	return e.WithCause(cause)
}

func isPassing(answer string) bool { return begins(answer, passing) }

func isRefusal(answer string) bool {
	return begins(answer, refusals) ||
		slices.ContainsFunc(refusedScript, func(text string) bool { return strings.Contains(answer, text) })
}

func begins(answer string, with []string) bool {
	for _, p := range with {
		// Redis 6.2 wraps what a command in a script answered:
		// "ERR Error running script (…): @user_script:5: -OOM command not …".
		if strings.HasPrefix(answer, p) || strings.Contains(answer, ": -"+p) {
			return true
		}
	}
	return false
}

// opError is a cause: what was being done, and what came of it.
type opError struct {
	op  string
	err error
}

func (e *opError) Error() string { return "rueidisstore: " + e.op + ": " + e.err.Error() }
func (e *opError) Unwrap() error { return e.err }

// damaged is the error for what is in Redis and cannot be read.
func damaged(op string, err error) error {
	return engine.NewError(engine.CodeInternal, "the store failed").WithCause(&opError{op: op, err: err})
}

func errNotFound() error { return engine.NewError(engine.CodeTaskNotFound, "task not found") }

func errClosed() error {
	return engine.NewError(engine.CodeStoreUnavailable, "the store is closed")
}
