package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-json"
)

// checkAction returns req in the form in which it is compared and stored, in
// memory of its own, or REQUEST_VALIDATION_ERROR with all that is wrong.
func (l Limits) checkAction(req ActionRequest) (ActionRequest, error) {
	var wrong []FieldError
	name := func(field string, s *string) {
		if message := checkName(*s); message != "" {
			wrong = append(wrong, FieldError{field, message})
		}
		*s = strings.Clone(*s)
	}
	object := func(field string, raw *json.RawMessage) {
		out, err := tidyObject(*raw, l.PayloadBytes, l.Nesting)
		if err != nil {
			wrong = append(wrong, FieldError{field, err.Error()})
		}
		*raw = out
	}
	req.TaskID = strings.Clone(req.TaskID)
	name("clientActionId", &req.ClientActionID)
	name("suspendId", &req.SuspendID)
	name("actionType", &req.ActionType)
	object("payload", &req.Payload)
	object("metadata", &req.Metadata)
	return req, invalid(wrong)
}

// allows reports whether an answer of this type is asked for.
func (s Suspended) allows(actionType string) bool {
	return slices.Contains(s.AllowedActions, actionType)
}

// suspendedOf is a payload that was encoded as TASK_SUSPENDED.
func suspendedOf(p Payload) Suspended {
	if s, ok := p.(*Suspended); ok {
		return *s
	}
	s, _ := p.(Suspended)
	return s
}

// checkDefault holds a default action against its suspension and returns it in
// memory of its own.
func (l Limits) checkDefault(s Suspended) (*DefaultAction, error) {
	d := s.Default
	switch {
	case d == nil:
		return nil, nil //nolint:nilnil // there is none
	case s.ExpiresAt == nil:
		return nil, payloadError(TypeSuspended, "expiresAt", "is missing, so the default action could never count")
	case !s.allows(d.ActionType):
		return nil, payloadError(TypeSuspended, "default", "is not one of allowedActions")
	}
	payload, err := tidyObject(d.Payload, l.PayloadBytes, l.Nesting)
	if err != nil {
		return nil, payloadError(TypeSuspended, "default", err.Error())
	}
	return &DefaultAction{ActionType: d.ActionType, Payload: payload}, nil
}

// actionFingerprint stands for the content of an answer: its suspension, its
// type, and its payload (valid, compact JSON), JSON-equal as in fingerprint.
func actionFingerprint(suspendID, actionType string, payload json.RawMessage) (string, error) {
	d := digest{h: sha256.New()}
	d.text('S', suspendID)
	d.text('A', actionType)
	if err := d.json(payload); err != nil {
		return "", fmt.Errorf("fingerprint: %w", err)
	}
	return fingerprintVersion + hex.EncodeToString(d.sum()), nil
}
