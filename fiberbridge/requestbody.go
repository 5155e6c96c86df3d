package fiberbridge

import (
	"bytes"
	"io"
	"mime"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// contentType returns the media type of the body and its parameters. A body
// with a Content-Encoding is refused: unpacking it would get round the host's
// body limit.
func contentType(c *fiber.Ctx) (string, map[string]string, error) {
	for _, coding := range headerValues(c, fiber.HeaderContentEncoding) {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return "", nil, engine.NewError(engine.CodeInvalidRequest, "a Content-Encoding is not supported")
		}
	}
	media, params, err := mime.ParseMediaType(string(c.Request().Header.ContentType()))
	if err != nil {
		return "", nil, engine.NewError(engine.CodeInvalidRequest, "the Content-Type is missing or malformed")
	}
	return media, params, nil
}

// isJSON reports whether a media type is JSON in UTF-8.
func isJSON(media string, params map[string]string) bool {
	charset, ok := params["charset"]
	return media == fiber.MIMEApplicationJSON && (!ok || strings.EqualFold(charset, "utf-8"))
}

// streamedBodyLimit bounds a streamed body where the host has set no limit.
const streamedBodyLimit = 64 << 20

// textBytes leaves room for input and metadata, which the engine bounds each,
// and for as much again of white space.
func textBytes(l engine.Limits) int64 { return max(3*int64(l.InputBytes), 1<<20) }

// readBody returns a JSON body, at most as much as textBytes and the app's
// BodyLimit allow. Fiber holds bodies to the latter by itself, except with
// StreamRequestBody, where it hands over whatever comes. What is returned may be
// fasthttp's and is valid until the handler ends.
func (b *Bridge) readBody(c *fiber.Ctx, auth *engine.AuthContext) ([]byte, error) {
	limit := min(bodyLimit(c), b.textBytes)
	if !c.Request().IsBodyStream() {
		if body := c.Request().Body(); int64(len(body)) <= limit {
			return body, nil
		}
		return nil, errTooLarge
	}
	if int64(c.Request().Header.ContentLength()) > limit {
		return nil, errTooLarge
	}
	in, err := b.streams.receive(c, auth, int64(c.Request().Header.ContentLength()))
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if length := c.Request().Header.ContentLength(); length > 0 { // it is within the limit, and counted
		body.Grow(length + bytes.MinRead)
	}
	reader := newBodyReader(c, requestLimit, b.cfg.Uploads.MinRate)
	from := &counted{r: io.LimitReader(reader, limit+1), in: in}
	n, err := body.ReadFrom(from)
	reader.finish()
	switch {
	case from.err != nil:
		return nil, from.err
	case err != nil:
		return nil, errBrokenOff(err)
	case n > limit:
		return nil, errTooLarge
	}
	return body.Bytes(), nil
}

var errTooLarge = engine.NewError(engine.CodeRequestTooLarge, "the body is larger than the server allows")

// bodyLimit is the app's BodyLimit.
func bodyLimit(c *fiber.Ctx) int64 {
	if limit := c.App().Config().BodyLimit; limit > 0 {
		return int64(limit)
	}
	return streamedBodyLimit
}

// refusedQuiet is how long nothing may come of a body that fasthttp has refused
// before it counts as sent.
const refusedQuiet = 200 * time.Millisecond

// awaitBody lets a client finish sending a body that fasthttp has refused for
// its size, within the bounds of SettleBodies. fasthttp closes the connection
// after that, and nothing else on it is of any use.
func awaitBody(c *fiber.Ctx) {
	conn, most := c.Context().Conn(), 2*bodyLimit(c)
	if conn == nil || int64(c.Request().Header.ContentLength()) > most {
		return
	}
	end := time.Now().Add(refusedSilence)
	bin := make([]byte, 32<<10)
	for read := int64(0); read < most; {
		quiet := time.Now().Add(refusedQuiet)
		if quiet.After(end) || conn.SetReadDeadline(quiet) != nil {
			break
		}
		n, err := conn.Read(bin)
		if read += int64(n); err != nil {
			break
		}
	}
	_ = conn.SetReadDeadline(time.Time{})
}
