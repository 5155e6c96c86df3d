package fiberbridge

import (
	"io"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// smallBody is the size up to which a streamed body does not count: most of it is in
// fasthttp's own buffer.
const smallBody = 16 << 10

// arrivingStep is how much of a body without a length is counted at once.
const arrivingStep = 1 << 20

var (
	errBodies    = engine.NewError(engine.CodeRateLimited, "the caller sends too many or too large bodies at once")
	errBodiesAll = engine.NewError(engine.CodeRateLimited, "the server receives too many bytes at once")
)

// incoming counts a streamed body from before it is read until its handler has
// ended.
type incoming struct {
	s        *streams
	who      *subject
	reserved int64
	read     int64
}

type incomingKey struct{}

// receive takes a place among the caller's bodies for one of length bytes, until its
// handler has ended (received). A negative length is not known. After an error
// nothing of the body has been read.
func (s *streams) receive(c *fiber.Ctx, auth *engine.AuthContext, length int64) (*incoming, error) {
	if length >= 0 && length <= smallBody {
		return nil, nil //nolint:nilnil // it does not count
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	who := s.subject(auth)
	if who.bodies >= s.cfg.Uploads.MaxPerSubject {
		return nil, errBodies
	}
	in := &incoming{s: s, who: who}
	if err := in.reserve(max(length, 0)); err != nil {
		s.forget(who)
		return nil, err
	}
	who.bodies++
	c.Locals(incomingKey{}, in)
	return in, nil
}

// received gives back the place that receive took, if it took one.
func received(c *fiber.Ctx) {
	if in, ok := c.Locals(incomingKey{}).(*incoming); ok {
		in.done()
		c.Locals(incomingKey{}, nil)
	}
}

// reserve counts n more bytes. s.mu is held.
func (in *incoming) reserve(n int64) error {
	switch all, own := in.s.arriving.fits(in.who.arriving, n); {
	case !all:
		return errBodiesAll
	case !own:
		return errBodies
	}
	in.reserved += n
	in.who.arriving += n
	in.s.arriving.held += n
	return nil
}

// came counts n bytes that were read. in may be nil.
func (in *incoming) came(n int) error {
	if in == nil {
		return nil
	}
	if in.read += int64(n); in.read <= in.reserved {
		return nil
	}
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	return in.reserve(arrivingStep)
}

// done gives everything back.
func (in *incoming) done() {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	in.who.bodies--
	in.who.arriving -= in.reserved
	in.s.arriving.held -= in.reserved
	in.s.forget(in.who)
}

// counted reads from r, counts the bytes in in, and lets other goroutines run.
type counted struct {
	yielding

	r  io.Reader
	in *incoming
	// err is in's last error. A form's parser wraps the errors of its reader.
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.came(n)
	if c.err = c.in.came(n); c.err != nil {
		return n, c.err
	}
	return n, err
}
