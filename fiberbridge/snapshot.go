package fiberbridge

import (
	"bytes"
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
	// Waiting is true while a suspension is open, Terminal the event that ended
	// the task.
	Waiting  bool          `json:"waiting,omitempty"`
	Terminal *engine.Event `json:"terminal,omitempty"`
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
	if err := b.streams.takeBytes(c, &auth, snapshotSize(t)); err != nil {
		return err
	}
	body := snapshot{
		TaskID:                t.ID,
		TaskType:              t.Type,
		Status:                t.Status,
		ClientRequestID:       t.ClientRequestID,
		CreatedAt:             t.CreatedAt.UTC().Format(time.RFC3339Nano),
		UpdatedAt:             t.UpdatedAt.UTC().Format(time.RFC3339Nano),
		CancellationRequested: t.CancelRequested,
		Suspensions:           []json.RawMessage{},
		Waiting:               len(t.Suspensions) > 0,
		Terminal:              t.Terminal,
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
	text, err := encodeVerbatim(body)
	if err != nil {
		return err
	}
	return b.sendBody(c, fiber.StatusOK, text)
}

// snapshotSize is close to the size of a task's snapshot.
func snapshotSize(t engine.Task) int {
	size := 1 << 10
	if t.Terminal != nil {
		size += len(t.Terminal.Payload)
	}
	for i := range t.Suspensions {
		s := &t.Suspensions[i]
		size += len(s.UIHints) + len(s.Interaction) + 1<<10
		for _, action := range s.AllowedActions {
			size += len(action) + 3
		}
	}
	return size
}

// encodeVerbatim is json.Marshal without escapes for HTML, so that an event is
// the same bytes in a snapshot and in a stream.
func encodeVerbatim(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// suspensionPayload is the payload of the TASK_SUSPENDED event that opened s.
func suspensionPayload(s engine.Suspended) (json.RawMessage, error) {
	s.SchemaVersion = max(s.SchemaVersion, 1)
	if s.ExpiresAt != nil {
		utc := s.ExpiresAt.UTC()
		s.ExpiresAt = &utc
	}
	return encodeVerbatim(s)
}
