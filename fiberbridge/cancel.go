package fiberbridge

import (
	"context"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// maxReasonLength bounds the reason of a cancel request, in characters.
const maxReasonLength = 1000

// cancelled is the answer to a cancel request.
type cancelled struct {
	TaskID string `json:"taskId"`
	Status string `json:"status"`
}

// Cancel is the handler of Routes.Cancel.
func (b *Bridge) Cancel(c *fiber.Ctx) error { return b.answer(c, b.cancel) }

func (b *Bridge) cancel(ctx context.Context, c *fiber.Ctx, auth engine.AuthContext) error {
	id, err := taskID(c)
	if err != nil {
		return err
	}
	reason, err := b.cancelReason(c, &auth)
	if err != nil {
		return err
	}
	remember(c, func() []string { return []string{reason} })
	res, err := b.eng.Cancel(ctx, auth, id, reason)
	if err != nil {
		return err
	}
	status := "CANCELLATION_REQUESTED"
	if res.AlreadyTerminal {
		status = "ALREADY_TERMINAL"
	}
	return b.sendJSON(c, fiber.StatusAccepted, cancelled{res.TaskID, status})
}

// cancelReason reads the optional body. Without one the Content-Type, which
// some clients send all the same, does not matter.
func (b *Bridge) cancelReason(c *fiber.Ctx, auth *engine.AuthContext) (string, error) {
	body, err := b.readBody(c, auth)
	if err != nil || len(body) == 0 {
		return "", err
	}
	media, params, err := contentType(c)
	if err != nil {
		return "", err
	}
	if !isJSON(media, params) {
		return "", engine.NewError(engine.CodeInvalidRequest, "the Content-Type is not application/json")
	}
	return parseCancel(body)
}

// parseCancel holds doc to the schema of a cancel request. Clients that write
// out what is absent send null for the reason, or for all of it.
func parseCancel(doc []byte) (string, error) {
	if isNull(doc) {
		return "", nil
	}
	var reason string
	err := readFields(doc, field{name: "reason", read: func(wrong *fieldErrors, m member) {
		if isNull(m.value) {
			return
		}
		var ok bool
		if reason, ok = decodeString(m.value); !ok {
			wrong.add(m.name, "is not a string")
		} else if utf8.RuneCountInString(reason) > maxReasonLength {
			wrong.add(m.name, "must have at most %d characters", maxReasonLength)
		}
	}})
	return reason, err
}
