package engine

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// errPanicked is the cause of what recovered returns.
var errPanicked = errors.New("panic")

// recovered calls what belongs to the host, on a goroutine of the engine's: there
// a panic would end the process, and the next one that is offered the same task.
func recovered(what string, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Errorf(CodeInternal, "%s panicked", what).
				WithCause(fmt.Errorf("%w: %v\n%s", errPanicked, p, debug.Stack()))
		}
	}()
	return call()
}
