package fiberbridge

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// acted is the answer to an action request.
type acted struct {
	TaskID         string              `json:"taskId"`
	SuspendID      string              `json:"suspendId"`
	ClientActionID string              `json:"clientActionId"`
	Status         engine.ActionStatus `json:"status"`
}

// Action is the handler of Routes.Action.
func (b *Bridge) Action(c *fiber.Ctx) error { return b.answer(c, b.action) }

func (b *Bridge) action(ctx context.Context, c *fiber.Ctx, auth engine.AuthContext) error {
	id, err := taskID(c)
	if err != nil {
		return err
	}
	media, params, err := contentType(c)
	if err != nil {
		return err
	}
	if !isJSON(media, params) {
		return engine.NewError(engine.CodeInvalidRequest, "the Content-Type is not application/json")
	}
	body, err := b.readBody(c, &auth)
	if err != nil {
		return err
	}
	req, err := parseAction(body)
	if err != nil {
		return err
	}
	req.TaskID = id
	remember(c, func() []string {
		return []string{req.ClientActionID, req.SuspendID, string(req.Payload), string(req.Metadata)}
	})
	res, err := b.eng.Act(ctx, auth, req)
	if err != nil {
		if e, ok := err.(*engine.Error); ok && e == engine.ErrUnknownSuspension { //nolint:errorlint // the very error: its code is every missing task's
			return b.refuse(c, fiber.StatusNotFound, e)
		}
		return err
	}
	status := fiber.StatusAccepted
	if res.Status == engine.ActionStatusDeduplicated {
		status = fiber.StatusOK
	}
	return b.sendJSON(c, status, acted{res.TaskID, res.SuspendID, res.ClientActionID, res.Status})
}

// parseAction holds doc to the schema of an action request and lists everything
// that is wrong. The result keeps nothing of doc.
func parseAction(doc []byte) (engine.ActionRequest, error) {
	var req engine.ActionRequest
	err := readFields(doc,
		nameField(fieldClientActionID, &req.ClientActionID),
		nameField(fieldSuspendID, &req.SuspendID),
		nameField(fieldActionType, &req.ActionType),
		objectField(fieldPayload, &req.Payload),
		objectField(fieldMetadata, &req.Metadata))
	return req, err
}

// The names of an action request's members.
const (
	fieldClientActionID = "clientActionId"
	fieldSuspendID      = "suspendId"
	fieldActionType     = "actionType"
	fieldPayload        = "payload"
)
