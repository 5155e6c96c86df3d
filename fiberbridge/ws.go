package fiberbridge

import (
	"encoding/base64"
	"log/slog"
	"runtime/debug"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/wsproto"
)

// door is what the handler of a WebSocket request leaves for the upgraded
// connection, among the request's locals.
type door struct {
	ctx   *fasthttp.RequestCtx
	auth  engine.AuthContext
	place *ticket
	// refusal closes the socket at once, with its code, if it is not zero.
	refusal int
	reason  string
}

const doorLocal = "taskbridge.door"

// WebSocket is the handler of Routes.WebSocket: a client subscribes to tasks
// with frames, and gets their events, one a frame.
//
// What can be told to a browser's script only by a close code is told that
// way: a page's request without authentication is upgraded and closed with 1008,
// any request that comes while the bridge is full or draining with 1013. A client
// without an Origin header is no browser: it gets 401, so that it can ask for
// fresh credentials, where many take 1008 as a lasting refusal.
func (b *Bridge) WebSocket(c *fiber.Ctx) error {
	if err := unsettled(c); err != nil {
		return b.fail(c, err)
	}
	normalizeHandshake(c)
	header := &c.Request().Header
	if !websocket.IsWebSocketUpgrade(c) || c.Method() != fiber.MethodGet {
		c.Set(fiber.HeaderUpgrade, "websocket")
		c.Set(fiber.HeaderConnection, fiber.HeaderUpgrade)
		return b.refuse(c, fiber.StatusUpgradeRequired,
			engine.NewError(engine.CodeInvalidRequest, "this resource is a WebSocket"))
	}
	if string(header.Peek("Sec-Websocket-Version")) != "13" {
		c.Set("Sec-WebSocket-Version", "13")
		return b.refuse(c, fiber.StatusUpgradeRequired,
			engine.NewError(engine.CodeInvalidRequest, "the WebSocket version must be 13"))
	}
	if why := invalidHandshake(header); why != "" {
		c.Context().SetConnectionClose() // what follows may be a body that nobody reads
		return b.fail(c, engine.NewError(engine.CodeInvalidRequest, why))
	}
	origins := headerValues(c, fiber.HeaderOrigin)
	if !originsAllowed(origins, c.Hostname(), b.cfg.Origins) {
		b.auditOrigin(c, origins)
		return b.refuse(c, fiber.StatusForbidden, errOrigin)
	}

	d := &door{ctx: c.Context()}
	var err error
	if d.auth, err = b.authenticate(c); err == nil {
		d.place, err = b.streams.reserve(&d.auth)
	}
	if noConnection(c) {
		d.cancel()
		if err != nil {
			return b.fail(c, err)
		}
		return b.useListener(c, "a WebSocket")
	}
	if err != nil {
		if engine.CodeOf(err) == engine.CodeAuthentication && len(origins) == 0 {
			// Frames may follow already, which are no request.
			c.Context().SetConnectionClose()
			return b.fail(c, err)
		}
		d.refusal, d.reason = b.closeCode(c, err)
	}
	c.Locals(doorLocal, d)
	if err := b.streams.upgrade(c); err != nil {
		d.cancel()
		return b.fail(c, engine.NewError(engine.CodeInvalidRequest, "not a WebSocket handshake"))
	}
	// The head leaves with the connection: it is final only when the middleware
	// is through, and with DisableKeepalive fasthttp would stop after it.
	c.Context().HijackSetNoResponse(true)
	return nil
}

// invalidHandshake says what is wrong with the key (RFC 6455, 4.2.1: 16 bytes in
// base64, once), or with a body: one that is chunked would be taken for frames.
func invalidHandshake(header *fasthttp.RequestHeader) string {
	keys := header.PeekAll("Sec-Websocket-Key")
	if len(keys) != 1 {
		return "exactly one Sec-WebSocket-Key is needed"
	}
	key, err := base64.StdEncoding.DecodeString(string(keys[0]))
	switch {
	case err != nil || len(key) != 16:
		return "Sec-WebSocket-Key is not 16 bytes in base64"
	case len(header.Peek(fiber.HeaderTransferEncoding)) > 0:
		return "a WebSocket handshake has no body"
	}
	// ContentLength answers 0 for every GET.
	if length := header.Peek(fiber.HeaderContentLength); len(length) > 0 && string(length) != "0" {
		return "a WebSocket handshake has no body"
	}
	return ""
}

// closeCode says how a refusal is told to a client that is connected.
func (b *Bridge) closeCode(c *fiber.Ctx, err error) (int, string) {
	e := b.classify(c, err)
	return refusalCode(e), e.Message
}

// refusalCode is the one table from refusals to close codes.
func refusalCode(e *engine.Error) int {
	switch status := httpStatus(e.Code); {
	case passing(status):
		return wsproto.CloseTryLater
	case status >= fiber.StatusInternalServerError:
		return wsproto.CloseInternal
	}
	return wsproto.ClosePolicy
}

func (d *door) cancel() {
	if d.place != nil {
		d.place.cancel()
	}
}

// newUpgrade makes the handler that upgrades. Origins are checked before, and
// compression stays off: frames are shared, and read without it.
func newUpgrade(s *streams) fiber.Handler {
	return websocket.New(func(conn *websocket.Conn) {
		d, ok := conn.Locals(doorLocal).(*door)
		if !ok { // the locals are ours
			return
		}
		conn.Locals(doorLocal, nil) // contrib keeps the map in a pool
		h := &handover{s: s, ctx: d.ctx, conn: d.ctx.Conn(), buffered: conn.NetConn()}
		h.run(fiber.StatusSwitchingProtocols, func(h *handover) { s.serveWebSocket(h, d) }, d.cancel)
	}, websocket.Config{
		Origins: []string{"*"},
		RecoverHandler: func(*websocket.Conn) {
			if r := recover(); r != nil {
				s.log.Error("websocket: panic after the upgrade",
					slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			}
		},
	})
}

// serveWebSocket runs when the middleware is through.
func (s *streams) serveWebSocket(h *handover, d *door) {
	head := appendUpgradeHead(nil, &h.ctx.Response)
	if d.refusal != 0 {
		d.cancel()
		h.answer(wsproto.AppendClose(head, d.refusal, d.reason))
		return
	}
	w := newWSStream(s, d.place.share(&d.auth))
	w.outlet = s.hub.Open(w, fanout.OutletConfig{
		Framing:      wsFraming{},
		Heartbeat:    s.cfg.WebSocket.Heartbeat,
		WriteTimeout: s.cfg.Streams.WriteTimeout,
	})
	w.outlet.Send(head[:len(head):len(head)])
	if !s.enter(d.place, w) {
		w.cut()
		h.answer(wsproto.AppendClose(head, wsproto.CloseTryLater, "the server is shutting down"))
		return
	}
	s.arrive(w)
	if err := w.adopt(h); err != nil {
		s.log.Warn("websocket: connection cannot be taken over", slog.Any("error", err))
		h.answer(wsproto.AppendClose(head, wsproto.CloseTryLater, "no room"))
	}
}
