package fiberbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// maxNameLength bounds the names that clients choose (clientRequestId,
// taskType, actionType and so on), in characters.
const maxNameLength = 255

// field is a member that a JSON request may have.
type field struct {
	name     string
	required bool
	// read takes the value, or adds what is wrong with it. It keeps nothing of
	// the member.
	read func(wrong *fieldErrors, m member)
}

// readFields holds doc to the fields of a request and lists everything that is
// wrong.
func readFields(doc []byte, fields ...field) error {
	members, err := objectMembers(doc)
	if errors.Is(err, errNotObject) {
		return fieldErrors{{Field: "", Message: err.Error()}}.err(engine.CodeRequestValidation)
	}
	if err != nil {
		return err
	}
	var wrong fieldErrors
	given := map[string]bool{}
next:
	for _, m := range members {
		for _, f := range fields {
			if f.name == m.name {
				given[f.name] = true
				f.read(&wrong, m)
				continue next
			}
		}
		wrong.add(m.name, "is not a field of this request")
	}
	for _, f := range fields {
		if f.required && !given[f.name] {
			wrong.add(f.name, "is required")
		}
	}
	return wrong.err(engine.CodeRequestValidation)
}

// nameField is a required string of 1 to maxNameLength characters.
func nameField(name string, into *string) field {
	return field{name: name, required: true, read: func(wrong *fieldErrors, m member) {
		s, ok := decodeString(m.value)
		if !ok {
			wrong.add(m.name, "is not a string")
			return
		}
		checkName(wrong, m.name, s)
		*into = s
	}}
}

// checkName holds a name to its length.
func checkName(wrong *fieldErrors, field, s string) {
	if n := utf8.RuneCountInString(s); n < 1 || n > maxNameLength {
		wrong.add(field, "must have 1 to %d characters", maxNameLength)
	}
}

// objectField is an optional JSON object.
func objectField(name string, into *json.RawMessage) field {
	return field{name: name, read: func(wrong *fieldErrors, m member) {
		if m.value[0] != '{' {
			wrong.add(m.name, "is not an object")
			return
		}
		*into = bytes.Clone(m.value)
	}}
}
