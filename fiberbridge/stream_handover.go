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
	// buffered is a reader in front of conn, or nil.
	buffered net.Conn
}

// takeOver has serve called with the request's connection once the middleware
// is through, if the response is then still the empty one that a stream begins
// with (status). Any other response is written as it is, and refused is called
// instead. Neither may happen: see ticketTime.
func (s *streams) takeOver(c *fiber.Ctx, serve func(h *handover), refused func()) {
	ctx := c.Context()
	h := &handover{s: s, ctx: ctx, conn: ctx.Conn()}
	if hijackLost(c) {
		// The body is asked for when everything else is final, and the head is
		// still in a buffer that an error throws away.
		ctx.Response.SetBodyStream(&lateHandover{h: h, serve: serve, refused: refused}, -1)
		return
	}
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(hijacked net.Conn) {
		h.buffered = hijacked
		h.run(fiber.StatusOK, serve, refused)
	})
}

// run serves, or writes what the response has become. A panic that left here
// would end the process.
func (h *handover) run(status int, serve func(h *handover), refused func()) {
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

// pending returns what fasthttp had read beyond the request. A deadline in the
// past empties its buffer without touching the socket.
func (h *handover) pending() []byte {
	if h.buffered == nil {
		return nil
	}
	_ = h.conn.SetReadDeadline(time.Unix(1, 0))
	var all []byte
	var buf [512]byte
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
	_, _ = io.Copy(io.Discard, io.LimitReader(h.reader(), 64<<10))
}

func (h *handover) reader() io.Reader {
	if h.buffered != nil {
		return h.buffered
	}
	return h.conn
}

// hijackSurvivesClose reports whether the fasthttp in this program hands a
// connection over that is not to be kept alive. Fiber's minimum, 1.51, does
// not: it drops the hijack of any request with "Connection: close".
var hijackSurvivesClose = sync.OnceValue(func() bool {
	client, server := net.Pipe()
	defer client.Close()
	hijacked, ran := false, make(chan struct{})
	probe := fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.HijackSetNoResponse(true)
			ctx.Hijack(func(net.Conn) { close(ran) })
		},
		ConnState: func(_ net.Conn, st fasthttp.ConnState) { hijacked = hijacked || st == fasthttp.StateHijacked },
	}
	go func() { _, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n") }()
	_ = probe.ServeConn(server)
	if hijacked {
		<-ran
	}
	return hijacked
})

// hijackLost reports whether fasthttp would drop a hijack of this request.
func hijackLost(c *fiber.Ctx) bool {
	if hijackSurvivesClose() {
		return false
	}
	server := c.App().Server()
	return server.DisableKeepalive || server.CloseOnShutdown || server.MaxRequestsPerConn > 0 ||
		c.Context().Request.Header.ConnectionClose()
}

// lateHandover stands in for a hijack that fasthttp would drop: a body that
// takes the connection over instead of giving bytes, and then fails, so that
// fasthttp throws its own head away and closes.
type lateHandover struct {
	h       *handover
	serve   func(h *handover)
	refused func()
	done    bool
}

// Read serves the stream, if the response is still the one it begins with.
func (l *lateHandover) Read([]byte) (int, error) {
	if l.done {
		return 0, io.ErrUnexpectedEOF
	}
	l.done = true
	if l.h.ctx.Response.StatusCode() != fiber.StatusOK {
		l.refused()
		return 0, io.EOF
	}
	func() {
		defer l.h.recover(l.refused)
		l.serve(l.h)
	}()
	// Whatever else would be written, by a middleware that asked for the body,
	// must not reach the client.
	_ = l.h.conn.SetDeadline(time.Unix(1, 0))
	return 0, io.ErrUnexpectedEOF // fasthttp does not log this one
}

// Close tells that nobody will read.
func (l *lateHandover) Close() error {
	if !l.done {
		l.done = true
		l.refused()
	}
	return nil
}
