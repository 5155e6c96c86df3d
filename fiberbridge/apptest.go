package fiberbridge

import (
	"bytes"
	"context"
	"reflect"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// Fiber's App.Test reads the response when the handler returns. Its connection is a
// pair of buffers, on which no stream can go on. Without this file a host's test
// would see no response at all.

// noConnection reports whether the request has no connection that outlives the
// handler: it comes from App.Test, or from a handler that is called by hand.
func noConnection(c *fiber.Ctx) bool {
	conn := c.Context().Conn()
	if conn == nil {
		return true
	}
	switch reflect.TypeOf(conn).String() {
	case "*fiber.testConn", "*fasthttp.fakeAddrer":
		return true
	}
	return false
}

// useListener refuses what a request of App.Test cannot have, and says what to use.
func (b *Bridge) useListener(c *fiber.Ctx, what string) error {
	return b.refuse(c, fiber.StatusNotImplemented, engine.NewError(engine.CodeInvalidRequest,
		"App.Test cannot carry "+what+": its response is read when the handler returns. "+
			"Serve the app on a listener in the test, app.Listener(fasthttputil.NewInmemoryListener()), and connect with its Dial"))
}

// wholeSSE answers with the stream of a finished task as a body.
func (b *Bridge) wholeSSE(c *fiber.Ctx, auth *engine.AuthContext, after engine.EventID, task string) error {
	f := sseFraming{}
	body := f.appendOpening(nil, b.cfg.SSE.Retry)
	ctx, cancel := context.WithTimeout(c.UserContext(), requestLimit)
	defer cancel()
	for {
		page, err := b.eng.Poll(ctx, *auth, engine.PollRequest{TaskID: task, After: after, Max: maxPollEvents})
		if err != nil {
			return b.fail(c, err)
		}
		if page.Gap != nil {
			body = f.AppendGap(body, task, fanoutGap(*page.Gap))
		}
		for _, e := range page.Events {
			body = f.AppendEntry(body, task, fanout.Entry{ID: fanout.ID(e.ID), Body: e.AppendJSON(nil)})
		}
		if after = page.Next; page.HasMore {
			continue
		}
		if !page.Status.Terminal() {
			return b.useListener(c, "the stream of a task that is not over")
		}
		break
	}
	setSSEHeaders(c)
	c.Context().SetConnectionClose()
	c.Response().SetBodyStream(bytes.NewReader(body), -1) // in chunks, as every stream
	return nil
}
