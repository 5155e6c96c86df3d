package engine

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-json"
)

// tidyJSON returns raw as compact JSON in a buffer of its own, or says in
// words fit for a client why it is not acceptable: over maxBytes, not UTF-8,
// nested deeper than maxDepth, or no JSON at all.
//
// Neither goccy/go-json nor encoding/json looks at the bytes from 0x80 up in raw
// JSON, so UTF-8 is checked here. FuzzCheckPayload holds the rest against
// encoding/json.
func tidyJSON(raw []byte, maxBytes, maxDepth int) (json.RawMessage, error) {
	if len(raw) > maxBytes {
		return nil, fmt.Errorf("is %d bytes long, at most %d are allowed", len(raw), maxBytes)
	}
	if !utf8.Valid(raw) {
		return nil, errors.New("is not valid UTF-8")
	}
	if tooDeep(raw, maxDepth) {
		return nil, fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	var buf bytes.Buffer
	buf.Grow(len(raw))
	if err := json.Compact(&buf, raw); err != nil {
		return nil, fmt.Errorf("is not valid JSON: %w", err)
	}
	return buf.Bytes(), nil
}

// tidyObject is tidyJSON for what must be a JSON object; nothing stands for {}.
func tidyObject(raw []byte, maxBytes, maxDepth int) (json.RawMessage, error) {
	if len(raw) == 0 {
		return json.RawMessage("{}"), nil
	}
	out, err := tidyJSON(raw, maxBytes, maxDepth)
	if err != nil {
		return nil, err
	}
	if out[0] != '{' {
		return nil, errors.New("must be a JSON object")
	}
	return out, nil
}

// tooDeep reports whether raw opens more than limit brackets at once. raw need
// not be valid JSON; the answer only has to be right if it is.
func tooDeep(raw []byte, limit int) bool {
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = endOfString(raw, i) - 1
		case '{', '[':
			if depth++; depth > limit {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// endOfString returns the index after the string literal that begins at i.
func endOfString(raw []byte, i int) int {
	for i++; i < len(raw); {
		quote := bytes.IndexByte(raw[i:], '"')
		if quote < 0 {
			break
		}
		// Each byte is searched once for quotes and once for escapes, however many there
		// are.
		for quote += i; i <= quote; {
			escape := bytes.IndexByte(raw[i:quote], '\\')
			if escape < 0 {
				return quote + 1
			}
			i += escape + 2 // beyond quote if that is what was escaped
		}
	}
	return len(raw)
}

// endOfValue returns the index after the value that begins at i of compact,
// valid JSON.
func endOfValue(raw []byte, i int) int {
	depth := 0
	for i < len(raw) {
		switch raw[i] {
		case '"':
			if i = endOfString(raw, i); depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the bracket around a number or a literal
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}

// members calls yield for each member of a compact, valid JSON object, in
// order, until it returns false. A name that comes twice is given twice.
func members(object []byte, yield func(name string, value json.RawMessage) bool) {
	for i := 1; i < len(object)-1; {
		end := endOfString(object, i)
		name := unquote(object[i:end])
		start := end + 1 // past the colon
		end = endOfValue(object, start)
		if !yield(name, object[start:end]) {
			return
		}
		i = end + 1 // past the comma
	}
}

// elements calls yield for each element of a compact, valid JSON array.
func elements(array []byte, yield func(value json.RawMessage) bool) {
	for i := 1; i < len(array)-1; {
		end := endOfValue(array, i)
		if !yield(array[i:end]) {
			return
		}
		i = end + 1
	}
}

// unquote decodes a valid JSON string literal. Half a surrogate pair becomes
// U+FFFD, as in every decoder of Go's.
func unquote(literal []byte) string {
	if bytes.IndexByte(literal, '\\') < 0 {
		return string(literal[1 : len(literal)-1])
	}
	var s string
	if json.Unmarshal(literal, &s) != nil {
		return strings.Trim(string(literal), `"`) // not reached: the literal is valid
	}
	return s
}
