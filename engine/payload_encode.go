package engine

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-json"
)

// EncodePayload encodes p as JSON that [CheckPayload] accepts, under the
// default Limits, and tells its type. The error is a REQUEST_VALIDATION_ERROR
// whose Fields name the member that is wrong.
func EncodePayload(p Payload) (EventType, json.RawMessage, error) {
	return Limits{}.withDefaults().encodePayload(p)
}

// encodePayload checks before it encodes, since an encoder repairs what should
// be refused. A Payload may also be a pointer to one of the types; anything
// else that has the method (a struct that embeds one) is none.
func (l Limits) encodePayload(p Payload) (EventType, json.RawMessage, error) {
	switch p := p.(type) {
	case Started:
		return l.started(p)
	case Progress:
		err := checkUTF8(TypeProgress, "stage", p.Stage, "message", p.Message)
		if err == nil && !inPercent(p.Percent) {
			err = payloadError(TypeProgress, "progress", "must be a number from 0 to 100")
		}
		return l.flat(TypeProgress, p, err)
	case Message:
		err := checkUTF8(TypeMessage, "message", p.Text)
		switch p.Level {
		case "", LevelInfo, LevelWarning, LevelDebug:
		default:
			err = payloadError(TypeMessage, "level", "must be one of info, warning, debug")
		}
		return l.flat(TypeMessage, p, err)
	case Failed:
		return l.flat(TypeFailed, p, checkUTF8(TypeFailed, "code", p.Code, "message", p.Message))
	case Cancelled:
		return l.flat(TypeCancelled, p, checkUTF8(TypeCancelled, "reason", p.Reason, "message", p.Message))
	case Suspended:
		return l.suspended(p)
	case ActionAccepted:
		return l.actionAccepted(p)
	case Completed:
		return l.completed(p)
	}
	if v, ok := dereference(p); ok {
		return l.encodePayload(v)
	}
	return "", nil, Errorf(CodeRequestValidation, "%T is not a payload", p)
}

// dereference is false for a nil pointer, too.
func dereference(p Payload) (Payload, bool) {
	switch p := p.(type) {
	case *Started:
		return value(p)
	case *Progress:
		return value(p)
	case *Message:
		return value(p)
	case *Failed:
		return value(p)
	case *Cancelled:
		return value(p)
	case *Suspended:
		return value(p)
	case *ActionAccepted:
		return value(p)
	case *Completed:
		return value(p)
	}
	return nil, false
}

func value[P Payload](p *P) (Payload, bool) {
	if p == nil {
		return nil, false
	}
	return *p, true
}

// flat encodes a struct of checked strings, numbers and booleans. What comes
// out is known to fit (FuzzEncodeMessage), so it is not read again: this is the
// hot path.
func (l Limits) flat(t EventType, p any, err error) (EventType, json.RawMessage, error) {
	if err != nil {
		return t, nil, err
	}
	b, err := json.MarshalWithOption(p, json.DisableHTMLEscape())
	if err != nil {
		return t, nil, payloadError(t, "payload", "cannot be encoded").WithCause(err)
	}
	if len(b) > l.PayloadBytes {
		return t, nil, tooLong(t, len(b), l.PayloadBytes)
	}
	return t, b, nil
}

func (l Limits) started(p Started) (EventType, json.RawMessage, error) {
	const t = TypeStarted
	err := checkUTF8(t, "message", p.Message)
	switch {
	case err != nil:
	case p.Restarts < 0 || p.Restarts > math.MaxInt32:
		err = payloadError(t, "restarts", "must be a whole number from 1 on")
	case p.ResumesAfter == "":
	case p.Restarts == 0:
		err = payloadError(t, "restarts", "is missing")
	case !isEventIDText(p.ResumesAfter):
		err = payloadError(t, "resumesAfter", notAnEventID)
	}
	return l.flat(t, p, err)
}

func (l Limits) suspended(p Suspended) (EventType, json.RawMessage, error) {
	const t = TypeSuspended
	if err := checkUTF8(t, "suspendId", p.SuspendID, "reasonCode", p.ReasonCode, "kind", string(p.Kind)); err != nil {
		return t, nil, err
	}
	for _, a := range p.AllowedActions {
		if err := checkUTF8(t, "allowedActions", a); err != nil {
			return t, nil, err
		}
	}
	if p.SchemaVersion == 0 {
		p.SchemaVersion = 1
	}
	if p.ExpiresAt != nil {
		at := wireTime(*p.ExpiresAt)
		p.ExpiresAt = &at
	}
	for _, raw := range []struct {
		name  string
		value *json.RawMessage
	}{{"uiHints", &p.UIHints}, {"interaction", &p.Interaction}} {
		if len(*raw.value) == 0 {
			*raw.value = nil
			continue
		}
		out, err := tidyObject(*raw.value, l.PayloadBytes, l.Nesting)
		if err != nil {
			return t, nil, payloadError(t, raw.name, err.Error())
		}
		*raw.value = out
	}
	return l.encodeAndCheck(t, p)
}

func (l Limits) actionAccepted(p ActionAccepted) (EventType, json.RawMessage, error) {
	const t = TypeActionAccepted
	err := checkUTF8(t, "suspendId", p.SuspendID, "clientActionId", p.ClientActionID,
		"actionType", p.ActionType, "message", p.Message)
	if err != nil {
		return t, nil, err
	}
	p.AcceptedAt = wireTime(p.AcceptedAt)
	return l.encodeAndCheck(t, p)
}

func (l Limits) completed(p Completed) (EventType, json.RawMessage, error) {
	return l.encodeAndCheck(TypeCompleted, p)
}

// encodeAndCheck is for payloads that carry values of the host's, which may
// hold anything, raw JSON included.
func (l Limits) encodeAndCheck(t EventType, p any) (EventType, json.RawMessage, error) {
	b, err := json.MarshalWithOption(p, json.DisableHTMLEscape())
	if err != nil {
		field := "payload"
		if t == TypeCompleted {
			field = "result"
		}
		return t, nil, payloadError(t, field, fmt.Sprintf("cannot be encoded: %v", err)).WithCause(err)
	}
	b, err = l.checkPayload(t, b)
	return t, b, err
}

// wireTime is a time as we send it.
func wireTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func validUTF8(s string) bool { return utf8.ValidString(s) }
