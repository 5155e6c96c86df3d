package fiberbridge

import (
	"errors"
	"log/slog"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// SSE is the handler of Routes.SSE: the events of a task after a cursor, as
// Server-Sent Events, until the task is over.
//
// The stream begins when the whole middleware chain is through; what any of it
// set on the response, before or after, is in the head. A response that is no
// longer an empty 200 by then is sent as it is, and no stream begins.
//
// Within Fiber's App.Test the stream of a finished task is the response's body;
// one of a task that is not over is refused with 501, which says what to use.
func (b *Bridge) SSE(c *fiber.Ctx) error {
	if err := unsettled(c); err != nil {
		return b.fail(c, err)
	}
	accept := strings.Join(headerValues(c, fiber.HeaderAccept), ",")
	accepted, named := acceptsEventStream(accept)

	auth, err := b.authenticate(c)
	if err != nil {
		return b.failStream(c, err, named)
	}
	after, err := sseCursor(c)
	if err != nil {
		return b.fail(c, err)
	}
	if !accepted {
		return b.refuse(c, fiber.StatusNotAcceptable,
			engine.NewError(engine.CodeInvalidRequest, "this resource is text/event-stream"))
	}
	place, full := b.streams.reserve(&auth)
	at, err := b.startSSE(c, &auth, after)
	if err != nil {
		place.cancel()
		return b.failStream(c, err, named)
	}
	if at.over {
		place.cancel()
		c.Set(fiber.HeaderCacheControl, "no-store")
		b.mustLeave(c, 0)
		return c.SendStatus(fiber.StatusNoContent)
	}
	if full == nil {
		if full = place.forTask(at.taskID); full != nil {
			place.cancel()
		}
	}
	// Last, since an answer that keeps a client from coming back needs no place
	// and helps most where there is none.
	if full != nil {
		return b.failStream(c, full, named)
	}
	if c.Method() != fiber.MethodHead && noConnection(c) {
		place.cancel()
		return b.wholeSSE(c, &auth, after, at.taskID)
	}
	setSSEHeaders(c)
	if c.Method() == fiber.MethodHead {
		place.cancel()
		c.Response().Header.SetContentLength(-1)
		return nil
	}

	at.auth, at.http11 = place.share(&auth), c.Request().Header.IsHTTP11()
	at.keepAlive = mistakesCuts(c)
	s := b.streams
	s.takeOver(c, func(h *handover) { s.serveSSE(h, place, at) }, place.cancel)
	return nil
}

// sseStart is where a stream begins. It lives until the middleware is through.
type sseStart struct {
	auth     *engine.AuthContext
	taskID   string
	position fanout.ID
	gap      *engine.Gap
	rollUp   bool
	over     bool
	http11   bool
	// keepAlive is what mistakesCuts says.
	keepAlive bool
}

// startSSE asks the engine. What it knows of the task is not kept, and its frame
// not either: hundreds of requests may come at the same moment, each on a stack
// that grows by doubling.
//
//go:noinline
func (b *Bridge) startSSE(c *fiber.Ctx, auth *engine.AuthContext, after engine.EventID) (sseStart, error) {
	start, err := b.eng.Subscribe(c.UserContext(), *auth, engine.SubscribeRequest{
		TaskID:    utils.CopyString(c.Params(taskParam)),
		After:     after,
		Transport: transportSSE,
	})
	if err != nil {
		return sseStart{}, err
	}
	return sseStart{
		taskID: start.Task.ID, position: fanout.ID(start.Position), gap: start.Gap,
		rollUp: start.RollUp, over: start.Over,
	}, nil
}

// serveSSE runs when the middleware is through.
func (s *streams) serveSSE(h *handover, place *ticket, at sseStart) {
	heartbeat := s.cfg.SSE.Heartbeat
	if s.cfg.SSE.DisableComment && s.cfg.SSE.DisableData {
		heartbeat = 0
	}
	st := &sseStream{
		taskID: at.taskID,
		framing: sseFraming{
			chunked: at.http11,
			comment: !s.cfg.SSE.DisableComment,
			data:    !s.cfg.SSE.DisableData,
		},
	}
	st.init(s, st, at.auth)
	head := appendSSEHead(nil, &h.ctx.Response, at.http11, at.keepAlive)
	opening := st.framing.appendOpening(head, s.cfg.SSE.Retry)
	head = head[:len(head):len(head)] // what is appended to it does not touch the opening
	var gap []byte
	if at.gap != nil {
		gap = st.framing.AppendGap(nil, st.taskID, fanoutGap(*at.gap))
	}

	st.outlet = s.hub.Open(st, fanout.OutletConfig{
		Framing:      st.framing,
		Heartbeat:    heartbeat,
		WriteTimeout: s.cfg.Streams.WriteTimeout,
	})
	st.outlet.Send(opening)
	if !s.enter(place, st) {
		// The place lapsed, or the bridge began to drain.
		st.cut()
		h.answer(st.framing.appendClosing(head, st.taskID, closingDraining, s.retryAfter()))
		return
	}
	if at.rollUp {
		st.outlet.FollowMerged(st.taskID, at.position, gap)
	} else {
		st.outlet.Follow(st.taskID, at.position, gap)
	}
	if err := st.adopt(h); err != nil {
		s.log.Warn("sse: connection cannot be taken over", slog.Any("error", err))
		h.answer(st.framing.appendClosing(head, st.taskID, closingDraining, s.retryAfter()))
	}
}

// failStream answers a request that gets no stream. A passing refusal must not
// be an error status to an EventSource, which would never come back: it gets a
// stream that says when to, and is cut.
func (b *Bridge) failStream(c *fiber.Ctx, err error, named bool) error {
	var e *engine.Error
	if !named || c.Method() == fiber.MethodHead || !errors.As(err, &e) || !passing(httpStatus(e.Code)) || noConnection(c) {
		return b.fail(c, err)
	}
	setSSEHeaders(c)
	s, http11, keepAlive := b.streams, c.Request().Header.IsHTTP11(), mistakesCuts(c)
	taskID := utils.CopyString(c.Params(taskParam))
	retry := e.RetryAfter
	if retry <= 0 {
		retry = s.retryAfter()
	} else {
		retry += jitter(retry / 10)
	}
	s.takeOver(c, func(h *handover) {
		f := sseFraming{chunked: http11}
		h.answer(f.appendClosing(appendSSEHead(nil, &h.ctx.Response, http11, keepAlive), taskID, closingDraining, retry))
	}, func() {})
	return nil
}

// sseCursor finds where the client wants to go on: the Last-Event-ID header if
// it is not empty, else the lastEventId query.
func sseCursor(c *fiber.Ctx) (engine.EventID, error) {
	headers := headerValues(c, "Last-Event-ID")
	if len(headers) > 1 {
		return engine.EventID{}, engine.NewError(engine.CodeInvalidRequest, "there is more than one Last-Event-ID header")
	}
	if len(headers) == 1 && len(headers[0]) > 0 {
		return engine.ParseCursor(headers[0])
	}
	cursor, ok := singleQuery(c, "lastEventId")
	if !ok {
		return engine.EventID{}, engine.NewError(engine.CodeInvalidRequest, "lastEventId is given more than once")
	}
	return engine.ParseCursor(cursor)
}
