package fiberbridge

import (
	"io"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	// uploadSilence is how long nothing of a streamed form may come.
	uploadSilence = 15 * time.Second
	// refusedSilence is how long is waited for the rest of a refused one, so
	// that its client gets to read the answer.
	refusedSilence = 5 * time.Second
)

// formReader reads a streamed form within UploadConfig.ReadTimeout: a client
// that sends a byte now and then holds a connection and a file, and fasthttp
// has no deadline for bodies unless the host set one.
type formReader struct {
	r    io.Reader
	conn net.Conn // nil: the host's own deadline holds
	end  time.Time
}

func newFormReader(c *fiber.Ctx, timeout time.Duration) *formReader {
	f := &formReader{r: c.Context().RequestBodyStream(), end: time.Now().Add(timeout)}
	if c.App().Config().ReadTimeout == 0 {
		f.conn = c.Context().Conn()
	}
	return f
}

func (f *formReader) Read(p []byte) (int, error) {
	if f.conn != nil {
		deadline := time.Now().Add(uploadSilence)
		if deadline.After(f.end) {
			deadline = f.end
		}
		if err := f.conn.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
	}
	return f.r.Read(p)
}

// finish gives the connection back: to its next request if the form was read,
// and otherwise only for as long as it takes to say why not.
func (f *formReader) finish(c *fiber.Ctx, err error) {
	if f.conn == nil {
		return
	}
	deadline := time.Time{}
	if err != nil {
		deadline = time.Now().Add(refusedSilence)
		c.Context().SetConnectionClose()
	}
	_ = f.conn.SetReadDeadline(deadline) // a connection that refuses it is gone
}
