package fiberbridge

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// snapshot is a task as clients see it.
type snapshot struct {
	TaskID                string            `json:"taskId"`
	TaskType              string            `json:"taskType"`
	Status                engine.Status     `json:"status"`
	ClientRequestID       string            `json:"clientRequestId"`
	CreatedAt             string            `json:"createdAt"`
	UpdatedAt             string            `json:"updatedAt"`
	CancellationRequested bool              `json:"cancellationRequested"`
	LastEventID           *string           `json:"lastEventId"`
	Suspensions           []json.RawMessage `json:"suspensions"`
}

// Snapshot is the handler of Routes.Snapshot.
func (b *Bridge) Snapshot(c *fiber.Ctx) error { return b.answer(c, b.snapshot) }

func (b *Bridge) snapshot(ctx context.Context, c *fiber.Ctx, auth engine.AuthContext) error {
	id, err := taskID(c)
	if err != nil {
		return err
	}
	s, err := b.eng.Snapshot(ctx, auth, id)
	if err != nil {
		return err
	}
	t := s.Task
	body := snapshot{
		TaskID:                t.ID,
		TaskType:              t.Type,
		Status:                t.Status,
		ClientRequestID:       t.ClientRequestID,
		CreatedAt:             t.CreatedAt.UTC().Format(time.RFC3339Nano),
		UpdatedAt:             t.UpdatedAt.UTC().Format(time.RFC3339Nano),
		CancellationRequested: t.CancelRequested,
		Suspensions:           []json.RawMessage{},
	}
	if !s.LastEventID.IsZero() {
		last := s.LastEventID.String()
		body.LastEventID = &last
	}
	for _, open := range t.Suspensions {
		payload, err := suspensionPayload(open)
		if err != nil {
			return err
		}
		body.Suspensions = append(body.Suspensions, payload)
	}
	return sendJSON(c, fiber.StatusOK, body)
}

// suspensionPayload is the payload of the TASK_SUSPENDED event that opened s.
func suspensionPayload(s engine.Suspended) (json.RawMessage, error) {
	s.SchemaVersion = max(s.SchemaVersion, 1)
	if s.ExpiresAt != nil {
		utc := s.ExpiresAt.UTC()
		s.ExpiresAt = &utc
	}
	return json.Marshal(s)
}
