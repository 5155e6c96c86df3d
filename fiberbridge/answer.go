package fiberbridge

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// requestLimit bounds the work of one request, over and above what a poll was
// asked to wait: uploads are stored in it.
const requestLimit = 30 * time.Second

// service is the part of a handler that differs: it answers c or returns why
// not. ctx ends with the request.
type service func(ctx context.Context, c *fiber.Ctx, auth engine.AuthContext) error

// answer authenticates a request, serves it within limit, and turns an error
// into the error envelope. It returns no error of its own, so that no error
// handler of the host replaces an answer of the protocol's.
func (b *Bridge) answer(c *fiber.Ctx, serve service) error {
	enter(c)
	defer received(c)
	if err := b.checkOrigin(c); err != nil {
		err = b.refuse(c, fiber.StatusForbidden, errOrigin)
		leave(c)
		return err
	}
	var auth engine.AuthContext
	err := unsettled(c)
	if err == nil {
		auth, err = b.authenticate(c)
	}
	if err == nil {
		// Fiber's UserContext is the host's (timeouts, tracing). That the client
		// has gone no context tells; a waiting poll looks for itself (watchPeer).
		ctx, cancel := context.WithTimeout(c.UserContext(), requestLimit)
		err = serve(ctx, c, auth)
		cancel()
	}
	if err != nil {
		err = b.fail(c, err)
	}
	leave(c)
	return err
}

// taskID returns the task that the request's path names. An id that none can
// have is answered like one that none has.
//
// The copy matters: Fiber's string is the connection's read buffer.
func taskID(c *fiber.Ctx) (string, error) {
	id := c.Params(taskParam)
	if !validTaskID(id) {
		return "", errNotFound
	}
	return string([]byte(id)), nil
}

// validTaskID reports whether id has the form [a-z0-9]{16,64}.
func validTaskID(id string) bool {
	if len(id) < 16 || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// insideKey marks a request that is in a handler of ours. If its handler never
// left, it has panicked.
type insideKey struct{}

func enter(c *fiber.Ctx)       { c.Locals(insideKey{}, true) }
func leave(c *fiber.Ctx)       { c.Locals(insideKey{}, false) }
func inside(c *fiber.Ctx) bool { in, _ := c.Locals(insideKey{}).(bool); return in }

// guard marks the requests of a handler that does not go through answer.
func guard(c *fiber.Ctx, h fiber.Handler) error {
	enter(c)
	err := h(c)
	leave(c)
	return err
}

// guardedSSE and guardedWebSocket are what Mount registers. They are methods
// because the address of a method value is one and the same wherever it is
// taken, which ownHandlers needs; that of a closure depends on inlining.
func (b *Bridge) guardedSSE(c *fiber.Ctx) error       { return guard(c, b.SSE) }
func (b *Bridge) guardedWebSocket(c *fiber.Ctx) error { return guard(c, b.WebSocket) }
