package fiberbridge

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// handover is a connection that fasthttp no longer serves: the whole
// middleware chain is through and ctx.Response is final. fasthttp closes its
// own descriptor when the function that got the handover returns.
type handover struct {
	s   *streams
	ctx *fasthttp.RequestCtx
	// conn is the connection itself, without what fasthttp buffered of it.
	conn net.Conn
	// buffered reads conn through what fasthttp buffered of it.
	buffered net.Conn
}

// takeOver has serve called with the request's connection once the middleware
// is through, if the response is then still the empty one that a stream begins
// with (status). Any other response is written as it is, and refused is called
// instead. Neither may happen: see ticketTime.
func (s *streams) takeOver(c *fiber.Ctx, serve func(h *handover), refused func()) {
	ctx := c.Context()
	h := &handover{s: s, ctx: ctx, conn: ctx.Conn()}
	// With a response of its own fasthttp would send Content-Length: 0 first,
	// and not hand over connections that are not kept alive.
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(hijacked net.Conn) {
		h.buffered = hijacked
		h.run(fiber.StatusOK, serve, refused)
	})
}

// run serves, or writes what the response has become. A panic that left here
// would end the process.
func (h *handover) run(status int, serve func(h *handover), refused func()) {
	// Nothing, unless the server keeps hijacked connections: then it is ours.
	defer h.buffered.Close()
	defer h.recover(refused)
	resp := &h.ctx.Response
	if resp.StatusCode() == status && !resp.IsBodyStream() && len(resp.Body()) == 0 {
		serve(h)
		return
	}
	refused()
	resp.Header.SetConnectionClose()
	_ = h.conn.SetWriteDeadline(time.Now().Add(farewellTime))
	w := bufio.NewWriter(h.conn)
	if err := resp.Write(w); err == nil {
		_ = w.Flush()
	}
}

// recover is deferred around what may call the library's own code.
func (h *handover) recover(refused func()) {
	if r := recover(); r != nil {
		h.s.log.Error("stream: panic while taking a connection over",
			slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
		refused()
	}
}

var pendingBuffers = sync.Pool{New: func() any { return new([512]byte) }}

// pending returns what fasthttp had read beyond the request. A deadline in the
// past empties its buffer without touching the socket.
func (h *handover) pending() []byte {
	_ = h.conn.SetReadDeadline(time.Unix(1, 0))
	var all []byte
	buf := pendingBuffers.Get().(*[512]byte)
	defer pendingBuffers.Put(buf)
	for len(all) < 1<<20 {
		n, err := h.buffered.Read(buf[:])
		all = append(all, buf[:n]...)
		if err != nil || n == 0 {
			break
		}
	}
	_ = h.conn.SetReadDeadline(time.Time{})
	return all
}

// answer writes p to a client that gets no stream, and waits a little for it
// to go: closing over unread bytes would reset the connection and destroy p.
func (h *handover) answer(p []byte) {
	_ = h.conn.SetDeadline(time.Now().Add(farewellTime))
	if _, err := h.conn.Write(p); err != nil {
		return
	}
	select {
	case h.s.refusals <- struct{}{}:
		defer func() { <-h.s.refusals }()
	default:
		return // too many wait already
	}
	if half, ok := h.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = h.conn.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, io.LimitReader(h.buffered, 64<<10))
}
