package fiberbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// member is one key of a JSON object with its value, unparsed.
type member struct {
	name  string
	value []byte
}

// errNotObject says that a document is JSON, but no object.
var errNotObject = errors.New("is not an object")

// objectMembers splits a JSON object into its members. The values are slices
// of doc. Anything that is not one JSON document in UTF-8 without repeated
// keys is INVALID_REQUEST; JSON that is no object is errNotObject.
//
// encoding/json is not enough: it takes repeated and unknown keys, replaces
// invalid UTF-8, matches keys in any case, and stops at the first mistake.
func objectMembers(doc []byte) ([]member, error) {
	if !utf8.Valid(doc) {
		return nil, engine.NewError(engine.CodeInvalidRequest, "the JSON is not valid UTF-8")
	}
	if !json.Valid(doc) {
		return nil, malformedJSON(doc)
	}
	doc = bytes.Trim(doc, jsonSpace)
	if doc[0] != '{' {
		return nil, errNotObject
	}
	var members []member
	seen := map[string]struct{}{}
	// From here on the document is known to be valid: every step finds what it
	// looks for.
	rest := bytes.TrimLeft(doc[1:], jsonSpace)
	for rest[0] != '}' {
		n := valueLength(rest)
		name, ok := decodeString(rest[:n])
		if !ok {
			return nil, engine.NewError(engine.CodeInvalidRequest, "a key of the JSON is not valid Unicode")
		}
		if _, repeated := seen[name]; repeated {
			return nil, engine.Errorf(engine.CodeInvalidRequest, "the JSON has the key %s twice", strconv.QuoteToASCII(shorten(name)))
		}
		seen[name] = struct{}{}
		rest = bytes.TrimLeft(rest[n:], jsonSpace+":")
		n = valueLength(rest)
		members = append(members, member{name, rest[:n]})
		rest = bytes.TrimLeft(rest[n:], jsonSpace+",")
	}
	return members, nil
}

// isNull reports whether doc is JSON's null.
func isNull(doc []byte) bool { return string(bytes.Trim(doc, jsonSpace)) == "null" }

const jsonSpace = " \t\r\n"

// valueLength is the length of the JSON value that valid JSON begins with.
func valueLength(doc []byte) int {
	depth := 0
	for i := 0; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			for i++; doc[i] != '"'; i++ {
				if doc[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 { // the end of what a bare value stands in
				return i
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(doc)
}

// decodeString decodes a JSON string. It is not ok if value is none, or holds
// half a surrogate pair, which is no text: two such ids would become one.
func decodeString(value []byte) (s string, ok bool) {
	if len(value) == 0 || value[0] != '"' || hasLoneSurrogate(value) {
		return "", false
	}
	return s, json.Unmarshal(value, &s) == nil
}

// hasLoneSurrogate looks for \uD800..\uDFFF without its other half in valid
// JSON.
func hasLoneSurrogate(value []byte) bool {
	for i := 0; i+1 < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		i++
		if value[i] != 'u' {
			continue
		}
		u := escapedUnit(value[i+1:])
		i += 4
		switch {
		case u >= 0xDC00 && u <= 0xDFFF:
			return true
		case u >= 0xD800 && u <= 0xDBFF:
			if !bytes.HasPrefix(value[i+1:], []byte(`\u`)) {
				return true
			}
			if low := escapedUnit(value[i+3:]); low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 6
		}
	}
	return false
}

// escapedUnit reads the four hex digits that p begins with.
func escapedUnit(p []byte) uint64 {
	if len(p) < 4 {
		return 0
	}
	u, _ := strconv.ParseUint(string(p[:4]), 16, 16)
	return u
}

// malformedJSON tells where the syntax breaks, and nothing of the content.
func malformedJSON(doc []byte) error {
	var syntax *json.SyntaxError
	var v json.RawMessage
	if errors.As(json.Unmarshal(doc, &v), &syntax) && len(doc) > 0 {
		return engine.Errorf(engine.CodeInvalidRequest, "malformed JSON at byte %d", syntax.Offset)
	}
	return engine.NewError(engine.CodeInvalidRequest, "malformed JSON")
}

// shorten bounds what of a client's text an answer repeats.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// fieldErrors gathers everything that is wrong with a request.
type fieldErrors []engine.FieldError

// maxFieldErrors bounds the list: a body can hold a hundred thousand unknown
// keys.
const maxFieldErrors = 50

func (f *fieldErrors) add(field, format string, args ...any) {
	if len(*f) < maxFieldErrors {
		*f = append(*f, engine.FieldError{Field: shorten(field), Message: fmt.Sprintf(format, args...)})
	}
}

// err returns nil if nothing is wrong.
func (f fieldErrors) err(code engine.Code) error {
	if len(f) == 0 {
		return nil
	}
	message := "the request does not fit its schema"
	if code == engine.CodeUploadValidation {
		message = "the files are not accepted"
	}
	e := engine.NewError(code, message)
	e.Fields = f
	return e
}
