// Package wire reads what a server sends to subscribers: the head of an HTTP
// answer, chunked server-sent events, WebSocket frames, and the JSON of an
// event. Its parsers take bytes as they come, keep only what is incomplete,
// and allocate nothing for a complete event.
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Event is an event's JSON taken apart. Its slices are parts of what was
// parsed.
type Event struct {
	Type    []byte
	TaskID  []byte
	ID      []byte
	Millis  uint64
	Ordinal uint64
	// Created is createdAt in Unix microseconds.
	Created int64
	Payload []byte
}

// ParseEvent parses an event: an object with exactly the protocol's five keys
// in any order. Heartbeats have the same keys and an id of another form, which
// is no error here: their Ordinal is 0.
func ParseEvent(body []byte, e *Event) error {
	*e = Event{}
	var createdAt []byte
	seen := 0
	err := object(body, func(key, value []byte) error {
		var text []byte
		switch string(key) {
		case "type", "taskId", "eventId", "createdAt":
			if len(value) < 2 || value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 {
				return fmt.Errorf("%s is not a plain string", key)
			}
			text = value[1 : len(value)-1]
		}
		var slot *[]byte
		switch string(key) {
		case "type":
			slot = &e.Type
		case "taskId":
			slot = &e.TaskID
		case "eventId":
			slot = &e.ID
		case "createdAt":
			slot = &createdAt
		case "payload":
			slot, text = &e.Payload, value
		default:
			return fmt.Errorf("unknown key %q", key)
		}
		if *slot != nil {
			return fmt.Errorf("%s comes twice", key)
		}
		*slot = text
		seen++
		return nil
	})
	if err != nil {
		return err
	}
	if seen != 5 {
		return errors.New("a key is missing")
	}
	if e.Created, err = ParseTime(createdAt); err != nil {
		return err
	}
	if string(e.Type) == "HEARTBEAT" {
		return nil
	}
	var ok bool
	if e.Millis, e.Ordinal, ok = ParseID(e.ID); !ok || e.Ordinal == 0 {
		return fmt.Errorf("bad eventId %q", e.ID)
	}
	return nil
}

// Terminal reports whether nothing may follow the event.
func (e *Event) Terminal() bool {
	switch string(e.Type) {
	case "TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED":
		return true
	}
	return false
}

// Text is the raw text of a TASK_MESSAGE between its quotes; plain says that
// nothing in it is escaped.
func (e *Event) Text() (text []byte, plain bool, err error) {
	err = object(e.Payload, func(key, value []byte) error {
		if string(key) == "message" && len(value) >= 2 && value[0] == '"' {
			text = value[1 : len(value)-1]
		}
		return nil
	})
	if err == nil && text == nil {
		err = errors.New("no message")
	}
	return text, bytes.IndexByte(text, '\\') < 0, err
}

// ParseID parses milliseconds-ordinal.
func ParseID(b []byte) (millis, ordinal uint64, ok bool) {
	dash := bytes.IndexByte(b, '-')
	if dash < 0 {
		return 0, 0, false
	}
	millis, ok1 := digits(b[:dash])
	ordinal, ok2 := digits(b[dash+1:])
	return millis, ordinal, ok1 && ok2
}

func digits(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 { // 19 nines are within 64 bits
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

var errTime = errors.New("createdAt is not RFC 3339 UTC with six decimals")

// ParseTime parses 2006-01-02T15:04:05.000000Z to Unix microseconds.
func ParseTime(b []byte) (int64, error) {
	const form = "0000-00-00T00:00:00.000000Z"
	if len(b) != len(form) {
		return 0, errTime
	}
	for i := range len(form) {
		if form[i] == '0' && (b[i] < '0' || b[i] > '9') || form[i] != '0' && b[i] != form[i] {
			return 0, errTime
		}
	}
	num := func(from, to int) int64 {
		var n int64
		for _, c := range b[from:to] {
			n = n*10 + int64(c-'0')
		}
		return n
	}
	year, month, day := num(0, 4), num(5, 7), num(8, 10)
	hour, minute, second := num(11, 13), num(14, 16), num(17, 19)
	if month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 {
		return 0, errTime
	}
	// Days from civil, Hinnant's algorithm: years begin in March.
	if month <= 2 {
		year--
		month += 12
	}
	days := 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468
	return ((days*24+hour)*60+minute)*60_000_000 + second*1_000_000 + num(20, 26), nil
}

var errJSON = errors.New("not a JSON object")

// object calls field for each member of the object b, with the raw key between
// its quotes and the raw value.
func object(b []byte, field func(key, value []byte) error) error {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return errJSON
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return end(b, i+1)
	}
	for {
		keyEnd := str(b, i)
		if keyEnd < 0 {
			return errJSON
		}
		key := b[i+1 : keyEnd-1]
		i = space(b, keyEnd)
		if i >= len(b) || b[i] != ':' {
			return errJSON
		}
		i = space(b, i+1)
		valueEnd := value(b, i)
		if valueEnd < 0 {
			return errJSON
		}
		if err := field(key, b[i:valueEnd]); err != nil {
			return err
		}
		i = space(b, valueEnd)
		switch {
		case i < len(b) && b[i] == ',':
			i = space(b, i+1)
		case i < len(b) && b[i] == '}':
			return end(b, i+1)
		default:
			return errJSON
		}
	}
}

func end(b []byte, i int) error {
	if space(b, i) != len(b) {
		return errJSON
	}
	return nil
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// str returns where the string that begins at i ends, or -1.
func str(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	for i++; ; {
		quote := bytes.IndexByte(b[i:], '"')
		if quote < 0 {
			return -1
		}
		back := bytes.IndexByte(b[i:i+quote], '\\')
		if back < 0 {
			return i + quote + 1
		}
		if i += back + 2; i > len(b) {
			return -1
		}
	}
}

// value returns where the value that begins at i ends, or -1. Of nested values
// it looks at strings and brackets only.
func value(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return str(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				if i = str(b, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	}
	from := i
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	if i == from {
		return -1
	}
	return i
}

// Valid reports whether a text is UTF-8, as frames and streams must be.
func Valid(b []byte) bool { return utf8.Valid(b) }
