package fiberbridge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

const (
	// rateWindow is the time over which UploadConfig.MinRate is measured.
	rateWindow = 10 * time.Second
	// bodySilence is how long nothing of a streamed body may come.
	bodySilence = 15 * time.Second
	// refusedSilence is how long the rest of a refused one may take, so that its
	// client gets to read the answer.
	refusedSilence = 5 * time.Second
)

// bodyReader reads a streamed body within a time: a client that sends a byte
// now and then holds a connection, a goroutine and perhaps a file, and fasthttp
// has no deadline for bodies unless the host set one, which counts instead.
type bodyReader struct {
	r     io.Reader
	lease *bodyLease
	conn  net.Conn // nil: the host's own deadline holds
	end   time.Time
	err   error // of r

	// least is how many bytes have to come in each rateWindow. window is when the
	// present one ends, came is how many have come in it.
	least, came int64
	window      time.Time
}

func newBodyReader(c *fiber.Ctx, within time.Duration, minRate int) *bodyReader {
	now := time.Now()
	b := &bodyReader{
		r: c.Context().RequestBodyStream(), lease: leaseOf(c), end: now.Add(within),
		least: int64(minRate) * int64(rateWindow/time.Second), window: now.Add(rateWindow),
	}
	if b.lease == nil {
		b.lease = &bodyLease{} // handlers refuse such a request; see unsettled
	}
	if c.App().Config().ReadTimeout == 0 {
		b.conn = c.Context().Conn()
	}
	return b
}

func (b *bodyReader) Read(p []byte) (int, error) {
	b.lease.mu.Lock()
	defer b.lease.mu.Unlock()
	if b.lease.over {
		return 0, errLeaseOver
	}
	if b.conn != nil {
		deadline := time.Now().Add(bodySilence)
		if deadline.After(b.end) {
			deadline = b.end
		}
		if err := b.conn.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
	}
	n, err := b.r.Read(p)
	if err == nil && b.tooSlow(n) {
		err = errTooSlow
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// tooSlow counts n bytes, and reports whether too few came in the window that ends.
func (b *bodyReader) tooSlow(n int) bool {
	b.came += int64(n)
	now := time.Now()
	if now.Before(b.window) {
		return false
	}
	slow := b.came < b.least
	b.came, b.window = 0, now.Add(rateWindow)
	return slow
}

// errTooSlow is a timeout like that of a deadline.
var errTooSlow = fmt.Errorf("the body comes too slowly: %w", os.ErrDeadlineExceeded)

// finish gives the connection back. After a body that broke off nothing can
// follow.
func (b *bodyReader) finish() {
	b.lease.mu.Lock()
	defer b.lease.mu.Unlock()
	if b.lease.over {
		return // the connection is no longer this request's
	}
	if b.conn != nil {
		_ = b.conn.SetReadDeadline(time.Time{}) // a connection that refuses it is gone
	}
	if b.err != nil {
		b.lease.broken = true
	}
}

// errLeaseOver ends a handler that reads a body after its request was answered.
var errLeaseOver = errors.New("the request is over")

// errBrokenOff says why a body could not be read to its end.
func errBrokenOff(cause error) error {
	if errors.Is(cause, os.ErrDeadlineExceeded) {
		return engine.NewError(engine.CodeInvalidRequest, "the body took too long to arrive").WithCause(cause)
	}
	return engine.NewError(engine.CodeInvalidRequest, "the body broke off").WithCause(cause)
}
