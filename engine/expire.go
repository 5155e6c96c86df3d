package engine

import (
	"context"
	"encoding/json"
	"time"
)

// defaultActionID is the clientActionId of the TASK_ACTION_ACCEPTED that tells
// of a default action.
const defaultActionID = "expired"

// expire asks the store to let a suspension expire: with its default action, or
// by failing the task.
func (m *Emitter) expire(ctx context.Context, taskID string, s Suspension) (Verdict, error) {
	r := Resolution{TaskID: taskID, SuspendID: s.SuspendID, Expiry: true}
	var last Payload = Failed{Code: string(CodeSuspensionExpired), Message: ErrSuspensionExpired.Message}
	if d := s.Default; d != nil {
		at := wireTime(time.Now())
		r.Action = &Action{
			SuspendID: s.SuspendID, ActionType: d.ActionType, Payload: orEmpty(d.Payload), Metadata: orEmpty(nil), AcceptedAt: at,
		}
		last = ActionAccepted{
			SuspendID: s.SuspendID, ClientActionID: defaultActionID, ActionType: d.ActionType, AcceptedAt: at,
			Message: ErrSuspensionExpired.Message,
		}
	}
	var err error
	if r.Event, err = m.draft(last); err != nil {
		return 0, err
	}
	verdict, err := m.actions.Resolve(ctx, r)
	if err != nil {
		return 0, storeError("let a suspension expire", err)
	}
	if verdict == VerdictAccepted {
		m.logger.InfoContext(ctx, "a suspension expired", "taskId", taskID, "suspendId", s.SuspendID, "end", r.Event.Type)
		if r.Event.Type == TypeFailed {
			m.metrics.Add(MetricTaskFailures, 1, "")
		}
	}
	return verdict, nil
}

// orEmpty is a JSON object where there may be none.
func orEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("{}")
	}
	return raw
}
