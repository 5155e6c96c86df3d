package jsonschema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	schemas "github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

const (
	// maxFields bounds what one answer is told.
	maxFields = 50
	// maxMessage bounds each message, in bytes: some repeat the schema's values.
	maxMessage = 300
	// maxExponent and maxDigits bound numbers, which are compared exactly: one
	// of a million digits takes some to write and seconds to compare.
	maxExponent = 400
	maxDigits   = 400
)

func decode(payload json.RawMessage) (any, *engine.FieldError) {
	value, err := schemas.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil { // the engine has seen to it that it is JSON
		return nil, &engine.FieldError{Field: "payload", Message: "is not JSON"}
	}
	return value, checkNumbers(value, "payload")
}

// checkNumbers finds the first number that is out of range.
func checkNumbers(value any, at string) *engine.FieldError {
	switch v := value.(type) {
	case json.Number:
		if !inRange(string(v)) {
			return &engine.FieldError{Field: at, Message: "is a number out of range"}
		}
	case []any:
		for i, element := range v {
			if problem := checkNumbers(element, at+"."+strconv.Itoa(i)); problem != nil {
				return problem
			}
		}
	case map[string]any:
		for key, member := range v {
			if problem := checkNumbers(member, at+"."+shorten(key, 64)); problem != nil {
				return problem
			}
		}
	}
	return nil
}

func inRange(number string) bool {
	i := strings.IndexAny(number, "eE")
	if i < 0 {
		return len(number) <= maxDigits
	}
	exponent, err := strconv.Atoi(number[i+1:])
	return err == nil && i <= maxDigits && exponent >= -maxExponent && exponent <= maxExponent
}

// unfit is the refusal of a payload.
func unfit(fields []engine.FieldError) error {
	e := engine.NewError(engine.CodeRequestValidation, "the payload does not fit what is asked for")
	e.Fields = fields
	return e
}

func unfitSlow() error {
	return unfit([]engine.FieldError{{Field: "payload", Message: "takes too long to check"}})
}

var english = message.NewPrinter(language.English)

// fieldsOf lists the causes at the leaves: those in between only say that
// something below them is wrong.
func fieldsOf(invalid *schemas.ValidationError) []engine.FieldError {
	var fields []engine.FieldError
	seen := map[engine.FieldError]bool{}
	var walk func(e *schemas.ValidationError)
	walk = func(e *schemas.ValidationError) {
		for _, cause := range e.Causes {
			if len(fields) < maxFields {
				walk(cause)
			}
		}
		if len(e.Causes) > 0 || len(fields) >= maxFields {
			return
		}
		f := engine.FieldError{Field: fieldOf(e.InstanceLocation), Message: shorten(e.ErrorKind.LocalizedString(english), maxMessage)}
		if !seen[f] {
			seen[f] = true
			fields = append(fields, f)
		}
	}
	walk(invalid)
	return fields
}

// fieldOf names a place in the payload as the engine does: payload.items.0.name.
func fieldOf(path []string) string {
	var field strings.Builder
	field.WriteString("payload")
	for _, key := range path {
		fmt.Fprintf(&field, ".%s", shorten(key, 64))
		if field.Len() > maxMessage {
			return shorten(field.String(), maxMessage)
		}
	}
	return field.String()
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}
