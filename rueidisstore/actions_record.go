package rueidisstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The acts of a task, a HASH that exists from its first suspension on. For each
// suspension that is known:
//
//	m:<suspendId>  state:ordinal:when:again:number:by, see below
//	p:<suspendId>  payload of the TASK_SUSPENDED
//	a:<suspendId>  allowed actions, a JSON array
//	d:<suspendId>  default action; absent if there is none
//	y:<suspendId>  the answer; absent until there is one
//	w:<suspendId>  ordinal:waited:last, see actions_look.lua; absent if nobody had to wait
//
// For each that was resolved, by the number that counts them, which is the field
// acts of the record:
//
//	q:<number>            length of the suspendId, ":", suspendId, clientActionId
//	r:<clientActionId>    number, ":", fingerprint: the receipt
//
// oldest is the first number that was not looked at for pruning, passed those before it that
// were answered and not handed over by then. In m, when is the time (ms)
// that it expires, 0 for never, and that it was answered, once it was; again is
// when to offer what is due to the next who asks (ms); by is x if an expiry
// resolved it. What is over with its task is not noted: the record says so.
const (
	actOpen     = "o"
	actAnswered = "a" // and the executor does not have it yet
	actHanded   = "h"
	actExpired  = "x" // and there is no answer
	actClosed   = "c" // by an event, without an answer
	byExpiry    = "x"
)

// expiryMillis is how scripts take when a suspension expires, rounded up so that
// it does not come early: 0 for never.
func expiryMillis(s engine.Suspended) int64 {
	if s.ExpiresAt == nil {
		return 0
	}
	return max(s.ExpiresAt.Add(time.Millisecond-1).UnixMilli(), 1)
}

// encodeAllowed is how scripts take the allowed actions.
func encodeAllowed(s engine.Suspended) (string, error) {
	list := s.AllowedActions
	if list == nil {
		list = []string{}
	}
	b, err := json.Marshal(list)
	return string(b), err
}

// keptAction is engine.Action with its JSON as text, so that it comes back as it
// was.
type keptAction struct {
	ClientActionID string    `json:"clientActionId"`
	SuspendID      string    `json:"suspendId"`
	ActionType     string    `json:"actionType"`
	Payload        *string   `json:"payload,omitempty"`
	Metadata       *string   `json:"metadata,omitempty"`
	Actor          string    `json:"actor,omitempty"`
	AcceptedAt     time.Time `json:"acceptedAt"`
}

func keptText(raw json.RawMessage) *string {
	if raw == nil {
		return nil
	}
	s := string(raw)
	return &s
}

func rawText(s *string) json.RawMessage {
	if s == nil {
		return nil
	}
	return json.RawMessage(*s)
}

func encodeAction(a engine.Action) (string, error) {
	b, err := json.Marshal(keptAction{
		ClientActionID: a.ClientActionID, SuspendID: a.SuspendID, ActionType: a.ActionType,
		Payload: keptText(a.Payload), Metadata: keptText(a.Metadata), Actor: a.Actor, AcceptedAt: a.AcceptedAt,
	})
	return string(b), err
}

func decodeAction(text string) (*engine.Action, error) {
	var k keptAction
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		return nil, err
	}
	return &engine.Action{
		ClientActionID: k.ClientActionID, SuspendID: k.SuspendID, ActionType: k.ActionType,
		Payload: rawText(k.Payload), Metadata: rawText(k.Metadata), Actor: k.Actor, AcceptedAt: k.AcceptedAt,
	}, nil
}

// keptDefault is to engine.DefaultAction what keptAction is to engine.Action.
type keptDefault struct {
	ActionType string  `json:"actionType"`
	Payload    *string `json:"payload,omitempty"`
}

func encodeDefault(d *engine.DefaultAction) (string, error) {
	if d == nil {
		return "", nil
	}
	b, err := json.Marshal(keptDefault{d.ActionType, keptText(d.Payload)})
	return string(b), err
}

func decodeDefault(text string) (*engine.DefaultAction, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	var k keptDefault
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		return nil, err
	}
	return &engine.DefaultAction{ActionType: k.ActionType, Payload: rawText(k.Payload)}, nil
}

// decodeSuspension reads the fields m, p, y and d of a suspension.
func decodeSuspension(mark, payload, answer, standard string) (s engine.Suspension, err error) {
	if err := json.Unmarshal([]byte(payload), &s.Suspended); err != nil {
		return s, fmt.Errorf("field p: %w", err)
	}
	state, rest, ok := strings.Cut(mark, ":")
	if !ok {
		return s, errors.New("field m: no state")
	}
	s.Open = state == actOpen
	s.HandedOver = state == actHanded
	s.Expired = strings.HasSuffix(rest, ":"+byExpiry)
	if s.Default, err = decodeDefault(standard); err != nil {
		return s, fmt.Errorf("field d: %w", err)
	}
	if answer != "" && (state == actAnswered || state == actHanded) {
		if s.Answer, err = decodeAction(answer); err != nil {
			return s, fmt.Errorf("field y: %w", err)
		}
	}
	return s, nil
}

// textsOf reads an array of which some elements may be nil.
func textsOf(m rueidis.RedisMessage, n int) ([]string, error) {
	list, err := m.ToArray()
	if err != nil {
		return nil, err
	}
	if len(list) != n {
		return nil, errCutBatch
	}
	texts := make([]string, n)
	for i := range list {
		if texts[i], err = list[i].ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, err
		}
	}
	return texts, nil
}

func formatMillis(ms int64) string { return strconv.FormatInt(ms, 10) }
