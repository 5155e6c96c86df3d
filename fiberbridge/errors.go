package fiberbridge

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// statuses is the one table from codes to HTTP statuses. A code that is not in
// it is a host's own, and answered as INTERNAL_ERROR.
var statuses = map[engine.Code]int{
	engine.CodeAuthentication:    fiber.StatusUnauthorized,
	engine.CodeInvalidRequest:    fiber.StatusBadRequest,
	engine.CodeUploadValidation:  fiber.StatusBadRequest,
	engine.CodeRequestTooLarge:   fiber.StatusRequestEntityTooLarge,
	engine.CodeRequestValidation: fiber.StatusUnprocessableEntity,
	engine.CodeTaskOwnership:     fiber.StatusForbidden,
	engine.CodeTaskNotFound:      fiber.StatusNotFound,
	engine.CodeIdempotency:       fiber.StatusConflict,
	engine.CodeTooManyStreams:    fiber.StatusTooManyRequests,
	engine.CodeRateLimited:       fiber.StatusTooManyRequests,
	engine.CodeTaskSubmission:    fiber.StatusServiceUnavailable,
	engine.CodeStoreUnavailable:  fiber.StatusServiceUnavailable,
	engine.CodeServerDraining:    fiber.StatusServiceUnavailable,
	engine.CodeInternal:          fiber.StatusInternalServerError,

	engine.CodeTaskConflict:        fiber.StatusConflict,
	engine.CodeTaskAlreadyTerminal: fiber.StatusConflict,
	engine.CodeInvalidTaskState:    fiber.StatusConflict,
}

// httpStatus returns the HTTP status of code.
func httpStatus(code engine.Code) int {
	if s, ok := statuses[code]; ok {
		return s
	}
	return fiber.StatusInternalServerError
}

// passing reports whether a refusal with this status is worth trying again
// later, and so carries Retry-After.
func passing(status int) bool {
	return status == fiber.StatusTooManyRequests || status == fiber.StatusServiceUnavailable
}

// errNotFound is what a task that is unknown, or another's, is answered with.
var errNotFound = engine.NewError(engine.CodeTaskNotFound, "there is no such task")

// envelope is the body of every refusal.
type envelope struct {
	Code      engine.Code `json:"code"`
	Message   string      `json:"message"`
	Details   details     `json:"details"`
	Timestamp string      `json:"timestamp"`
}

type details struct {
	Errors []engine.FieldError `json:"errors,omitempty"`
}

// clientTime is the form of every time outside events: RFC 3339, UTC.
const clientTime = "2006-01-02T15:04:05.000000Z"

// fail answers the request with err as the error envelope, by the one table
// from codes to statuses, with Retry-After on passing refusals. Causes of
// internal errors go to the log only.
func (b *Bridge) fail(c *fiber.Ctx, err error) error {
	e := b.classify(c, err)
	return b.refuse(c, httpStatus(e.Code), e)
}

// refuse is fail with a status of its own, for what the table does not know
// (405, 406, 426, ...). It keeps whatever headers are set already.
func (b *Bridge) refuse(c *fiber.Ctx, status int, e *engine.Error) error {
	body := envelope{
		Code:      e.Code,
		Message:   e.Message,
		Timestamp: time.Now().UTC().Format(clientTime),
	}
	body.Details.Errors = e.Fields
	if body.Message == "" {
		body.Message = "the request was refused"
	}
	if e.Code == engine.CodeRequestValidation && len(e.Fields) == 0 {
		body.Details.Errors = []engine.FieldError{{Message: body.Message}}
	}
	if passing(status) {
		c.Set(fiber.HeaderRetryAfter, strconv.FormatInt(b.retryAfter(e), 10))
	}
	return b.sendJSON(c, status, body)
}

// classify finds the *engine.Error in err, and makes one of any other error.
// What a client must not see goes to the log here, without what nobody may read
// there.
func (b *Bridge) classify(c *fiber.Ctx, err error) *engine.Error {
	ctx := c.UserContext()
	var e *engine.Error
	switch {
	case errors.As(err, &e) && e.Code == engine.CodeTaskNotFound:
		// One text, whoever found out, so that no two cases can be told apart.
		return errNotFound
	case e != nil && httpStatus(e.Code) != fiber.StatusInternalServerError:
		// What was cancelled is no news: its caller has left, and callers who do
		// so by the thousand would fill the log.
		if e.Code == engine.CodeStoreUnavailable && e.Unwrap() != nil && !errors.Is(err, context.Canceled) {
			b.cfg.Logger.WarnContext(ctx, "store unavailable", slog.String("error", forLog(c, err)))
		}
		return e
	case e == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		return engine.NewError(engine.CodeStoreUnavailable, "the request took too long")
	}
	b.cfg.Logger.ErrorContext(ctx, "request failed",
		slog.String("method", c.Method()), slog.String("route", c.Route().Path), slog.String("error", forLog(c, err)))
	return engine.NewError(engine.CodeInternal, "internal error")
}

// retryAfter is in whole seconds, as RFC 9110 section 10.2.3 wants it, rounded
// up. Without a time of its own a refusal gets a jittered one, so that those
// who were refused together do not come back together.
func (b *Bridge) retryAfter(e *engine.Error) int64 {
	d := e.RetryAfter
	if d <= 0 {
		d = b.cfg.Drain.RetryMin
		if spread := b.cfg.Drain.RetryMax - d; spread > 0 {
			d += rand.N(spread)
		}
	}
	return max(1, int64((d+time.Second-1)/time.Second))
}

// sendJSON answers with v, which nobody may store: it is one subject's.
func (b *Bridge) sendJSON(c *fiber.Ctx, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil { // none of the types has a value that does not encode
		return err
	}
	return b.sendBody(c, status, body)
}

// sendBody answers with JSON that is encoded already and given away.
func (b *Bridge) sendBody(c *fiber.Ctx, status int, body []byte) error {
	c.Status(status)
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Response().ResetBody()
	c.Response().SetBodyRaw(body)
	b.mustLeave(c, len(body))
	return nil
}
