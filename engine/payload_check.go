package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CheckPayload holds a payload that is JSON already against its type, under
// the default Limits, and returns it compacted. Refused is what is over the
// size limit, not UTF-8, not a JSON object, nested too deep, has a member
// twice, lacks a required member, has one that is not known (TASK_COMPLETED
// may carry any), is mistyped, null or out of range. The error is a
// REQUEST_VALIDATION_ERROR whose Fields name the member.
func CheckPayload(t EventType, payload json.RawMessage) (json.RawMessage, error) {
	return Limits{}.withDefaults().checkPayload(t, payload)
}

func (l Limits) checkPayload(t EventType, payload json.RawMessage) (json.RawMessage, error) {
	shape, ok := payloadShapes[t]
	if !ok {
		return nil, payloadError(t, "type", "is not an event type")
	}
	if len(payload) == 0 {
		return nil, payloadError(t, "payload", "is missing")
	}
	out, err := tidyObject(payload, l.PayloadBytes, l.Nesting)
	if err != nil {
		return nil, payloadError(t, "payload", err.Error())
	}
	if field, wrong := shape.check(out); wrong != "" {
		return nil, payloadError(t, field, wrong)
	}
	return out, nil
}

func payloadError(t EventType, field, wrong string) *Error {
	e := Errorf(CodeRequestValidation, "%s does not fit its type: %s %s", t, field, wrong)
	e.Fields = []FieldError{{Field: field, Message: wrong}}
	return e
}

// shape is what a payload of one type looks like.
type shape struct {
	members []member
	// open allows members that are not listed.
	open bool
	// needs maps a member to another one without which it is not allowed.
	needs map[string]string
}

type member struct {
	name     string
	required bool
	// fits says what is wrong with a value (compact, valid JSON), "" if nothing.
	fits func(value json.RawMessage) string
}

// payloadShapes is the table of the wire contract, section 2.
var payloadShapes = map[EventType]shape{
	TypeStarted: {members: []member{
		{"message", false, isString},
		{"restarts", false, isVersion},
		{"resumesAfter", false, isEventID},
	}, needs: map[string]string{"resumesAfter": "restarts"}},
	TypeProgress: {members: []member{
		{"progress", true, isPercent},
		{"stage", false, isString},
		{"message", false, isString},
	}},
	TypeMessage: {members: []member{
		{"message", true, isString},
		{"level", false, isOneOf(string(LevelInfo), string(LevelWarning), string(LevelDebug))},
	}},
	TypeSuspended: {members: []member{
		{"suspendId", true, isName},
		{"kind", true, isOneOf(string(UserActionRequired), string(ExternalConfirmationPending), string(SystemPaused))},
		{"reasonCode", true, isString},
		{"allowedActions", true, isNames},
		{"schemaVersion", true, isVersion},
		{"expiresAt", false, isTime},
		{"uiHints", false, isObject},
		{"interaction", false, isObject},
	}},
	TypeActionAccepted: {members: []member{
		{"suspendId", true, isName},
		{"clientActionId", true, isName},
		{"actionType", true, isName},
		{"acceptedAt", true, isTime},
		{"message", false, isString},
	}},
	TypeCompleted: {open: true, members: []member{
		{"result", true, isAnything},
	}},
	TypeFailed: {members: []member{
		{"code", true, isString},
		{"message", true, isString},
		{"retryable", true, isBool},
	}},
	TypeCancelled: {members: []member{
		{"reason", true, isString},
		{"message", false, isString},
	}},
}

// check returns the first member of object that is wrong and what is.
func (s shape) check(object json.RawMessage) (field, wrong string) {
	seen := make(map[string]struct{}, 8)
	members(object, func(name string, value json.RawMessage) bool {
		if _, twice := seen[name]; twice {
			// Decoders disagree on which of the two counts.
			field, wrong = name, "is there twice"
			return false
		}
		seen[name] = struct{}{}
		i := slices.IndexFunc(s.members, func(m member) bool { return m.name == name })
		switch {
		case i >= 0:
			field, wrong = name, s.members[i].fits(value)
		case !s.open:
			field, wrong = name, "is not a known member"
		}
		return wrong == ""
	})
	if wrong != "" {
		return field, wrong
	}
	for _, m := range s.members {
		if _, ok := seen[m.name]; m.required && !ok {
			return m.name, "is missing"
		}
	}
	for name, other := range s.needs {
		_, has := seen[name]
		if _, ok := seen[other]; has && !ok {
			return other, "is missing"
		}
	}
	return "", ""
}

func isAnything(json.RawMessage) string { return "" }

func isString(v json.RawMessage) string {
	if v[0] != '"' {
		return "must be a string"
	}
	return ""
}

// isName is for strings that something is found by.
func isName(v json.RawMessage) string {
	if v[0] != '"' || len(v) == 2 {
		return "must be a string that is not empty"
	}
	return ""
}

func isNames(v json.RawMessage) string {
	if v[0] != '[' || len(v) == 2 {
		return "must be a list that is not empty"
	}
	wrong := ""
	elements(v, func(e json.RawMessage) bool {
		wrong = isName(e)
		return wrong == ""
	})
	if wrong != "" {
		return "has an entry that " + wrong
	}
	return ""
}

func isOneOf(allowed ...string) func(json.RawMessage) string {
	wrong := "must be one of " + strings.Join(allowed, ", ")
	return func(v json.RawMessage) string {
		if v[0] != '"' || !slices.Contains(allowed, unquote(v)) {
			return wrong
		}
		return ""
	}
}

func isBool(v json.RawMessage) string {
	if v[0] != 't' && v[0] != 'f' {
		return "must be true or false"
	}
	return ""
}

func isObject(v json.RawMessage) string {
	if v[0] != '{' {
		return "must be a JSON object"
	}
	return ""
}

func isPercent(v json.RawMessage) string {
	// ParseFloat reads more than JSON's numbers (NaN, 0x1p-2); v is valid
	// JSON, so only strings and literals must be kept out.
	n, err := strconv.ParseFloat(string(v), 64)
	if err != nil || !inPercent(n) {
		return "must be a number from 0 to 100"
	}
	return ""
}

// inPercent is false for NaN, too.
func inPercent(n float64) bool { return n >= 0 && n <= 100 }

func isVersion(v json.RawMessage) string {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 1 || n > math.MaxInt32 {
		return "must be a whole number from 1 on"
	}
	return ""
}

const notAnEventID = "must be the id of an event"

// isEventID accepts ids of events, which are stricter than cursors.
func isEventID(v json.RawMessage) string {
	if v[0] != '"' || !isEventIDText(string(v[1:len(v)-1])) {
		return notAnEventID
	}
	return ""
}

func isEventIDText(s string) bool {
	_, ordinal, split := strings.Cut(s, "-")
	_, err := ParseCursor(s)
	return err == nil && split && ordinal[0] != '0'
}

func isTime(v json.RawMessage) string {
	if v[0] != '"' || !utcTime(unquote(v)) {
		return "must be an RFC 3339 time in UTC, ending in Z"
	}
	return ""
}

// utcTime checks the form itself, since package time also reads short hours and
// commas (go.dev/issue/54580); what the digits say, it checks.
func utcTime(s string) bool {
	const form = "0000-00-00T00:00:00"
	if len(s) <= len(form) {
		return false
	}
	for i := range len(form) {
		if form[i] == '0' && !isDigit(s[i]) || form[i] != '0' && s[i] != form[i] {
			return false
		}
	}
	fraction, ok := strings.CutSuffix(s[len(form):], "Z")
	// More digits than nanoseconds are more than most clients' parsers take.
	if !ok || fraction != "" && (fraction[0] != '.' || len(fraction) == 1 || len(fraction) > len(".000000000")) {
		return false
	}
	for i := 1; i < len(fraction); i++ {
		if !isDigit(fraction[i]) {
			return false
		}
	}
	_, err := time.Parse(time.RFC3339, s)
	return err == nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// checkUTF8 names the first of the strings that is not UTF-8. An encoder would
// silently put U+FFFD in its place.
func checkUTF8(t EventType, nameValue ...string) error {
	for i := 0; i+1 < len(nameValue); i += 2 {
		if !validUTF8(nameValue[i+1]) {
			return payloadError(t, nameValue[i], "is not valid UTF-8")
		}
	}
	return nil
}

func tooLong(t EventType, n, limit int) error {
	return payloadError(t, "payload", fmt.Sprintf("is %d bytes long, at most %d are allowed", n, limit))
}
