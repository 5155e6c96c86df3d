package fiberbridge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/socket"
)

// SettleBodies makes sure that no part of a request's body is taken for the
// next request on its connection. It wraps server.Handler, so that it holds for
// every route, the host's own included, and for every kind of answer: after each
// answer the body has been read to its end, or the connection closes.
//
// fasthttp by itself reads the next request from wherever a handler stopped.
// Behind a proxy that keeps its connections open, a part of one client's body is
// then executed as another client's request. See docs/security.md.
//
// [Bridge.Mount] and [Bridge.MountHealth] do this for the app that they mount
// on. Call it where they cannot: for a server of your own around app.Handler(),
// and for the server of the app that listens, if the bridge was mounted on a sub-app
// after that sub-app had been mounted. Call it before the server serves, and after
// everything else that changes server.Handler. Calling it again changes nothing.
//
// The rest of a body is read for at most 5 s and up to twice the server's
// MaxRequestBodySize. A connection also closes after a request with both a length
// and chunks (RFC 9112, 6.1), after a form that fasthttp has parsed by itself
// (DisablePreParseMultipartForm is off), and after a handler from which it cannot
// be told how much of the body it has read.
func SettleBodies(server *fasthttp.Server) {
	if isSettled(server.Handler) {
		return
	}
	s := &settler{server: server, next: server.Handler}
	server.Handler = s.serve
	if ask := server.ContinueHandler; ask != nil {
		server.ContinueHandler = func(header *fasthttp.RequestHeader) bool {
			proceed := ask(header)
			if !proceed { // the client may send its body all the same
				header.SetConnectionClose()
			}
			return proceed
		}
	}
}

// isSettled reports whether h is the handler that SettleBodies sets. All method
// values of one method have the same code address.
func isSettled(h fasthttp.RequestHandler) bool {
	return reflect.ValueOf(h).Pointer() == reflect.ValueOf((*settler)(nil).serve).Pointer()
}

// settler is the handler that SettleBodies puts around a server's own.
type settler struct {
	server *fasthttp.Server
	next   fasthttp.RequestHandler
}

// settling is a request with a body, as it was before the handler.
type settling struct {
	head   bool
	stream io.Reader // fasthttp's, nil if it has read the body already
	length int       // as announced, -1 with chunks
	// final says that the connection closes, whatever the handler does.
	final bool
}

func (s *settler) serve(ctx *fasthttp.RequestCtx) {
	header := &ctx.Request.Header
	head := ctx.IsHead() // fasthttp forgets it with a timeout, and sends a body
	length := header.ContentLength()
	if length < -1 { // nearly every request: no body
		s.next(ctx)
		if timedOut := ctx.LastTimeoutErrorResponse(); timedOut != nil {
			timedOut.SkipBody = timedOut.SkipBody || head
		} else if ctx.Hijacked() {
			keep(ctx.Conn())
		}
		return
	}
	body := settling{stream: ctx.RequestBodyStream(), length: length, head: head}
	switch {
	case length > 0:
		body.final = body.stream == nil && s.parsesForm(header)
	default: // chunks, or no body, which is also what fasthttp makes of no chunks
		body.final = twoLengths(header)
	}
	var lease *bodyLease
	if body.stream != nil {
		lease = &bodyLease{}
		ctx.SetUserValue(leaseKey{}, lease)
	}
	// Deferred, since something around this handler may recover a panic.
	defer s.settle(ctx, ctx.Conn(), body, lease)
	s.next(ctx)
}

// parsesForm reports whether fasthttp parses a body as a form before the
// handler: it stops reading at the last boundary, not at the body's end.
func (s *settler) parsesForm(header *fasthttp.RequestHeader) bool {
	return !s.server.DisablePreParseMultipartForm &&
		len(header.MultipartFormBoundary()) > 0 && len(header.Peek(fasthttp.HeaderContentEncoding)) == 0
}

// settle runs when the handler has returned.
func (s *settler) settle(ctx *fasthttp.RequestCtx, conn net.Conn, body settling, lease *bodyLease) {
	if timedOut := ctx.LastTimeoutErrorResponse(); timedOut != nil {
		// The handler runs on and may use everything of ctx. How much of the body it
		// has read cannot be known.
		timedOut.SkipBody = timedOut.SkipBody || body.head
		if body.stream != nil || body.final {
			timedOut.Header.SetConnectionClose()
		}
		lease.end(conn)
		return
	}
	if ctx.Hijacked() {
		keep(conn) // it carries no further request
		return
	}
	if body.final {
		ctx.SetConnectionClose()
	}
	if body.stream != nil && !s.settled(ctx, conn, body, lease) {
		ctx.SetConnectionClose()
	}
}

// keep tells the listener that no request will follow on conn.
func keep(conn net.Conn) {
	if c := socket.Accepted(conn); c != nil {
		c.Keep()
	}
}

// settled makes sure that a streamed body has been read to its end, and reports
// whether it has.
func (s *settler) settled(ctx *fasthttp.RequestCtx, conn net.Conn, body settling, lease *bodyLease) bool {
	switch left := ctx.RequestBodyStream(); {
	case left == nil:
		// Request.Body has read the stream to its end and closed it, or something
		// else has closed it before its end. The length of the body tells which,
		// except for chunks.
		return body.length >= 0 && len(ctx.Request.Body()) == body.length
	case left != body.stream, lease.broken:
		return false
	case ctx.Response.IsBodyStream():
		// The answer is still to be made, and may be made of the body.
		if body.length < 0 {
			return false
		}
		_, err := left.Read(nil) // takes nothing
		return err == io.EOF
	}
	// A client that is still sending when the connection is closed gets a reset and
	// may never read the answer. So a body that is moderately over the limit is read
	// to its end, too.
	most := 2 * serverBodyLimit(s.server)
	if int64(body.length) > most {
		return false
	}
	if conn != nil {
		if err := conn.SetReadDeadline(time.Now().Add(refusedSilence)); err != nil {
			return false
		}
	}
	n, err := io.Copy(new(sink), io.LimitReader(body.stream, most+1))
	if conn != nil {
		_ = conn.SetReadDeadline(time.Time{}) // fasthttp sets the next one
	}
	return err == nil && n <= most
}

// sink discards what is written to it, and lets other goroutines run.
type sink struct{ yielding }

func (s *sink) Write(p []byte) (int, error) {
	s.came(len(p))
	return len(p), nil
}

// serverBodyLimit returns MaxRequestBodySize, or streamedBodyLimit if that is not
// set.
func serverBodyLimit(server *fasthttp.Server) int64 {
	if limit := server.MaxRequestBodySize; limit > 0 {
		return int64(limit)
	}
	return streamedBodyLimit
}

// twoLengths reports whether a request has both a Content-Length and chunks.
// fasthttp goes by the chunks. A proxy that goes by the length may see another
// request behind it, so RFC 9112, 6.1, wants the connection closed.
func twoLengths(header *fasthttp.RequestHeader) bool {
	var length, coding bool
	for line := range bytes.Lines(header.RawHeaders()) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		length = length || bytes.EqualFold(name, contentLengthName)
		coding = coding || bytes.EqualFold(name, transferEncodingName)
	}
	return length && coding
}

var (
	contentLengthName    = []byte(fasthttp.HeaderContentLength)
	transferEncodingName = []byte(fasthttp.HeaderTransferEncoding)
)

// leaseKey is where a request with a streamed body has its bodyLease.
type leaseKey struct{}

// bodyLease is a handler's right to read a streamed body. It ends with the
// request, also where the handler goes on (fasthttp.TimeoutHandler): fasthttp
// then gives the buffer that it reads from to the next connection.
type bodyLease struct {
	// broken is set when the body broke off: nothing more of it will come.
	broken bool

	mu   sync.Mutex
	over bool
}

// leaseOf returns the lease of a streamed body, nil if nothing settles it; see
// unsettled.
func leaseOf(c *fiber.Ctx) *bodyLease {
	l, _ := c.Context().UserValue(leaseKey{}).(*bodyLease)
	return l
}

// end ends the lease, and wakes a read that waits for the client.
func (l *bodyLease) end(conn net.Conn) {
	if l == nil {
		return
	}
	for !l.mu.TryLock() {
		if conn != nil {
			_ = conn.SetReadDeadline(time.Unix(1, 0))
		}
		time.Sleep(time.Millisecond)
	}
	l.over = true
	l.mu.Unlock()
}

// settleApp calls SettleBodies for app's server and, when app is mounted on another
// app, for the server of that one, which then serves.
func settleApp(app *fiber.App) {
	SettleBodies(app.Server())
	app.Hooks().OnMount(func(parent *fiber.App) error {
		settleApp(parent)
		return nil
	})
	// The host may have put something around the handler since.
	app.Hooks().OnListen(func(fiber.ListenData) error {
		SettleBodies(app.Server())
		return nil
	})
}

// errUnsettled is for the log: its client gets INTERNAL_ERROR.
var errUnsettled = errors.New("StreamRequestBody is on, and nothing keeps what a handler leaves of a request's body " +
	"from being executed as the next request: call fiberbridge.SettleBodies(server) before the server serves")

// unsettled refuses a request whose server SettleBodies was not called for, so
// that it is noticed. Without a body there is nothing to settle.
func unsettled(c *fiber.Ctx) error {
	if !c.Request().IsBodyStream() || leaseOf(c) != nil {
		return nil
	}
	c.Context().SetConnectionClose()
	return errUnsettled
}
