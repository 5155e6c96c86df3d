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
// every route, whoever's it is, and however it is answered: after each answer
// the body has been read to its end, or the connection closes.
//
// fasthttp by itself goes on reading wherever a handler stopped. Behind a proxy
// that keeps its connections open, what a client has put into its body is then
// executed as somebody else's request. See docs/security.md.
//
// [Bridge.Mount] and [Bridge.MountHealth] do this for the app that they mount
// on. Call it where they cannot: on a server of your own around app.Handler(),
// and on the app that listens if the bridge's app was mounted on it before the
// bridge was on that. Call it before the server serves, after everything else
// that changes server.Handler. Calling it again changes nothing.
//
// What is left of a body is read for at most 5 s and to at most twice the
// server's MaxRequestBodySize. A connection also closes after a request with
// both a length and chunks (RFC 9112, 6.1), after a form that fasthttp has
// parsed by itself (DisablePreParseMultipartForm is off), and after a body that
// was neither read nor left alone by the handler.
func SettleBodies(server *fasthttp.Server) {
	if isSettled(server.Handler) {
		return
	}
	s := &settler{server: server, next: server.Handler}
	server.Handler = s.serve
	if deny := server.ContinueHandler; deny != nil {
		server.ContinueHandler = func(header *fasthttp.RequestHeader) bool {
			proceed := deny(header)
			if !proceed { // the client may send its body all the same
				header.SetConnectionClose()
			}
			return proceed
		}
	}
}

// isSettled reports whether h is what SettleBodies has put in place. All method
// values of one method have the same address.
func isSettled(h fasthttp.RequestHandler) bool {
	return reflect.ValueOf(h).Pointer() == reflect.ValueOf((*settler)(nil).serve).Pointer()
}

// settler is what SettleBodies puts around a server's handler.
type settler struct {
	server *fasthttp.Server
	next   fasthttp.RequestHandler
}

// settling is a request with a body, as it was before the handler.
type settling struct {
	head   bool
	stream io.Reader // fasthttp's, nil if it has read the body already
	length int       // as announced, -1 with chunks
	// final says that nothing may follow, whatever the handler does.
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
		// The handler runs on and may use everything of ctx; what it has read of
		// the body nobody can know.
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

// keep tells the listener that conn waits for no request any more.
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
		// Body reads it to its end and closes it; others close it as it is. What
		// is there as the body tells them apart, except for chunks.
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
	// A client that is still sending when the connection is closed gets a reset
	// and may never read the answer, so what a refused body is usually over the
	// limit by is waited for too.
	most := 2 * serverBodyLimit(s.server)
	if int64(body.length) > most {
		return false
	}
	if conn != nil {
		if err := conn.SetReadDeadline(time.Now().Add(refusedSilence)); err != nil {
			return false
		}
	}
	n, err := io.Copy(io.Discard, io.LimitReader(body.stream, most+1))
	if conn != nil {
		_ = conn.SetReadDeadline(time.Time{}) // fasthttp sets the next one
	}
	return err == nil && n <= most
}

// serverBodyLimit is MaxRequestBodySize, or what bounds streamed bodies without.
func serverBodyLimit(server *fasthttp.Server) int64 {
	if limit := server.MaxRequestBodySize; limit > 0 {
		return int64(limit)
	}
	return streamedBodyLimit
}

// twoLengths reports whether a request has both a Content-Length and chunks.
// fasthttp goes by the chunks. What goes by the other length on its way here
// may see another request after it: RFC 9112, 6.1, wants the connection closed.
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

// end takes the right away. A read that is waiting for the client is woken.
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

// settleApp calls SettleBodies for app's server and, if app is mounted on
// another one, for that one's, which then serves.
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
