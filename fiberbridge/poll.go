package fiberbridge

import (
	"context"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// What a poll may ask for.
const (
	maxPollWaitMs  = 60_000
	maxPollEvents  = 500
	defaultPollMax = 100
)

// Poll is the handler of Routes.Poll.
func (b *Bridge) Poll(c *fiber.Ctx) error { return b.answer(c, b.poll) }

func (b *Bridge) poll(ctx context.Context, c *fiber.Ctx, auth engine.AuthContext) error {
	id, err := taskID(c)
	if err != nil {
		return err
	}
	req, cursor, err := pollQuery(c)
	if err != nil {
		return err
	}
	req.TaskID = id
	if !auth.ExpiresAt.IsZero() { // nothing is delivered to expired credentials
		req.Wait = min(req.Wait, max(0, time.Until(auth.ExpiresAt)))
	}
	req.MaxBytes, req.Gather = b.cfg.Answers.PageBytes, max(b.cfg.Poll.Gather, 0)
	if err := b.streams.takePoll(c, &auth, req.Wait > 0); err != nil {
		return err
	}
	if req.Wait > 0 {
		// What answer allows is for the work; the wait comes on top.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(c.UserContext(), requestLimit+req.Wait)
		defer cancel()
		defer b.streams.watchPeer(c.Context().Conn(), auth.ExpiresAt, cancel)()
	}
	res, err := b.eng.Poll(ctx, auth, req)
	if err != nil {
		return err
	}
	size := pageSize(res)
	if err := b.streams.takeBytes(c, &auth, size); err != nil {
		return err
	}
	return b.sendBody(c, fiber.StatusOK, appendPollPage(make([]byte, 0, size), res, cursor))
}

// pollQuery reads the query of a poll. cursor is the cursor's text, which is
// part of the request and valid until the handler ends.
func pollQuery(c *fiber.Ctx) (req engine.PollRequest, cursor string, err error) {
	given, ok := singleQuery(c, "afterEventId")
	if !ok {
		return req, "", engine.NewError(engine.CodeInvalidRequest, "afterEventId is given more than once")
	}
	if req.After, err = engine.ParseCursor(given); err != nil {
		return req, "", err
	}
	var wrong fieldErrors
	wait := queryNumber(c, &wrong, "waitTimeoutMs", 0, maxPollWaitMs, 0)
	req.Max = queryNumber(c, &wrong, "maxEvents", 1, maxPollEvents, defaultPollMax)
	req.Wait = time.Duration(wait) * time.Millisecond
	return req, given, wrong.err(engine.CodeRequestValidation)
}

// singleQuery returns a query parameter; ok is false if it is repeated.
func singleQuery(c *fiber.Ctx, name string) (value string, ok bool) {
	values := c.Context().QueryArgs().PeekMulti(name)
	switch len(values) {
	case 0:
		return "", true
	case 1:
		return string(values[0]), true
	}
	return "", false
}

// queryNumber reads a whole number between lowest and highest, in digits only.
func queryNumber(c *fiber.Ctx, wrong *fieldErrors, name string, lowest, highest, absent int) int {
	if !c.Context().QueryArgs().Has(name) {
		return absent
	}
	text, ok := singleQuery(c, name)
	if !ok {
		wrong.add(name, "is given more than once")
		return absent
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n < uint64(lowest) || n > uint64(highest) {
		wrong.add(name, "must be a whole number from %d to %d", lowest, highest)
		return absent
	}
	return int(n)
}

// pageSize is close to the size of a page, and no less.
func pageSize(res engine.PollResult) int {
	size := 512
	for _, e := range res.Events {
		size += len(e.Payload) + 256
	}
	return size
}

// appendPollPage appends a page as clients see it. Everything in it is fixed,
// checked (ids, cursor, status, reason) or JSON already (events), so nothing
// is escaped and nothing encoded twice.
func appendPollPage(dst []byte, res engine.PollResult, cursor string) []byte {
	dst = append(dst, `{"taskId":"`...)
	dst = append(dst, res.TaskID...)
	dst = append(dst, `","status":"`...)
	dst = append(dst, res.Status...)
	dst = append(dst, `","events":[`...)
	for i, e := range res.Events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.AppendJSON(dst)
	}
	dst = append(dst, `],"nextAfterEventId":`...)
	if n := len(res.Events); n > 0 {
		dst = appendEventID(dst, res.Events[n-1].ID)
	} else if res.Gap == nil && cursor != "" {
		dst = append(append(append(dst, '"'), cursor...), '"')
	} else {
		// Nothing yet, or a gap with nothing behind it yet: going on from the
		// client's own cursor would meet the same gap again, at once.
		dst = appendEventID(dst, res.Next)
	}
	dst = append(dst, `,"hasMore":`...)
	dst = strconv.AppendBool(dst, res.HasMore)
	if g := res.Gap; g != nil {
		dst = append(dst, `,"gap":{"reason":"`...)
		dst = append(dst, g.Reason...)
		dst = append(dst, `","afterEventId":`...)
		dst = appendEventID(dst, g.After)
		dst = append(dst, `,"firstEventId":`...)
		dst = appendEventID(dst, g.First)
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// appendEventID appends id as a JSON string, or null for none.
func appendEventID(dst []byte, id engine.EventID) []byte {
	if id.IsZero() {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = id.Append(dst)
	return append(dst, '"')
}
