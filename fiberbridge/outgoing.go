package fiberbridge

import (
	"net"
	"runtime"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/socket"
)

// smallAnswer is the size up to which an answer does not count: the kernel's buffer
// for the connection takes that much.
const smallAnswer = 16 << 10

var (
	errUnread    = engine.NewError(engine.CodeRateLimited, "the caller has too many answers that it has not read yet")
	errUnreadAll = engine.NewError(engine.CodeRateLimited, "too many answers have not been read yet")
)

// outgoing is what a plain answer holds until it has been sent or its connection is
// closed: a write deadline, a place among the caller's polls, bytes. It is one of the
// request's user values: fasthttp closes those when it is done with the request,
// whether the answer was sent or not.
type outgoing struct {
	conn net.Conn // whose write deadline we have set
	held *allowance
}

// allowance is what counts against a limit.
type allowance struct {
	s     *streams
	who   *subject
	poll  bool
	bytes int64
}

type outgoingKey struct{}

// outgoingOf returns the request's outgoing, and makes it if there is none.
func outgoingOf(c *fiber.Ctx) *outgoing {
	o, ok := c.Locals(outgoingKey{}).(*outgoing)
	if !ok {
		o = &outgoing{}
		c.Locals(outgoingKey{}, o)
	}
	return o
}

// hold keeps a until the answer has been sent.
func (o *outgoing) hold(a allowance) {
	o.held = &a
	// fasthttp never resets a request that its timeout handler has abandoned.
	runtime.AddCleanup(o, (*allowance).giveBack, o.held)
}

// mustLeave sets the deadline for sending an answer of size bytes. fasthttp sets no
// write deadline unless the host asks for one, which is then kept.
func (b *Bridge) mustLeave(c *fiber.Ctx, size int) {
	if app := c.App(); app.Config().WriteTimeout > 0 || app.Server().WriteTimeout > 0 || c.Context().Hijacked() {
		return
	}
	conn := c.Context().Conn()
	if conn == nil {
		return
	}
	begun := time.Duration(size>>20 + 1) // of MiB
	if conn.SetWriteDeadline(time.Now().Add(begun*b.cfg.Answers.WriteTimeout)) == nil {
		outgoingOf(c).conn = conn
	}
	// The deadline does not cover everything: the end of an answer to a pipelined
	// request may still be in fasthttp's buffer when the deadline is lifted, and bytes
	// may still be in the kernel's.
	socket.BoundUnacknowledged(conn, b.cfg.Answers.WriteTimeout)
}

// Close implements io.Closer. fasthttp calls it.
func (o *outgoing) Close() error {
	if o.conn != nil {
		_ = o.conn.SetWriteDeadline(time.Time{}) // a connection that refuses it is gone
		o.conn = nil
	}
	if o.held != nil {
		o.held.giveBack()
	}
	return nil
}

// takePoll takes a place among the caller's polls until the answer has been sent.
func (s *streams) takePoll(c *fiber.Ctx, auth *engine.AuthContext, waits bool) error {
	open := s.group.Len()
	s.mu.Lock()
	defer s.mu.Unlock()
	if waits && s.exhausted(open) {
		return errFull
	}
	who := s.subject(auth)
	if who.polls >= s.cfg.Streams.MaxPollsPerSubject {
		s.forget(who)
		return errPollsFull
	}
	who.polls++
	s.polls++
	outgoingOf(c).hold(allowance{s: s, who: who, poll: true})
	return nil
}

// takeBytes counts an answer of about size bytes until it has been sent, or refuses it
// if the unread answers of all or of this subject would be too many bytes.
func (s *streams) takeBytes(c *fiber.Ctx, auth *engine.AuthContext, size int) error {
	if size <= smallAnswer {
		return nil
	}
	n := int64(size)
	s.mu.Lock()
	defer s.mu.Unlock()
	who := s.subject(auth)
	switch all, own := s.unread.fits(who.unread, n); {
	case !all:
		s.forget(who)
		return errUnreadAll
	case !own:
		return errUnread
	}
	o := outgoingOf(c)
	if o.held == nil {
		o.hold(allowance{s: s, who: who})
	}
	o.held.bytes += n
	who.unread += n
	s.unread.held += n
	return nil
}

// giveBack gives everything back, once.
func (a *allowance) giveBack() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if !a.poll && a.bytes == 0 {
		return
	}
	if a.poll {
		a.who.polls--
		a.s.polls--
		a.poll = false
	}
	a.who.unread -= a.bytes
	a.s.unread.held -= a.bytes
	a.bytes = 0
	a.s.forget(a.who)
}
