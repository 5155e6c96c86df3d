package fiberbridge

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// What SSE and WebSocket framings share: the JSON of gaps and closing notices,
// and the guards that keep a body inside its line or frame.

// wireTime is RFC 3339 UTC with exactly six decimals, the form of createdAt.
const wireTime = "2006-01-02T15:04:05.000000Z"

// closingReason says in a closing notice why a stream ends.
type closingReason string

// The reasons of the wire contract, but for closed_by_operator.
const (
	closingDraining    closingReason = "server_draining"
	closingAuthExpired closingReason = "auth_expired"
	closingAuthRevoked closingReason = "auth_revoked"
	closingMaxAge      closingReason = "max_age"
)

// appendString appends s as a JSON string. Ids and keys are checked long
// before, so this nearly always copies.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(s)
			if err != nil { // a string always encodes
				return append(dst, `""`...)
			}
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendIDOrNull appends the id as a JSON string, null for the zero one.
func appendIDOrNull(dst []byte, id fanout.ID) []byte {
	if id == (fanout.ID{}) {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = appendID(dst, id)
	return append(dst, '"')
}

// appendID appends the text form of an event id.
func appendID(dst []byte, id fanout.ID) []byte {
	dst = strconv.AppendUint(dst, id.Millis, 10)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, id.Ordinal, 10)
}

// appendGap appends {"reason","afterEventId","firstEventId"}.
func appendGap(dst []byte, g fanout.Gap) []byte {
	dst = append(dst, `{"reason":`...)
	dst = appendString(dst, string(g.Reason))
	dst = append(dst, `,"afterEventId":`...)
	dst = appendIDOrNull(dst, g.After)
	dst = append(dst, `,"firstEventId":`...)
	dst = appendIDOrNull(dst, g.First)
	return append(dst, '}')
}

// appendClosing appends {"reason","retryAfterMs"}.
func appendClosing(dst []byte, reason closingReason, retryAfter time.Duration) []byte {
	dst = append(dst, `{"reason":`...)
	dst = appendString(dst, string(reason))
	dst = append(dst, `,"retryAfterMs":`...)
	dst = strconv.AppendInt(dst, retryAfter.Milliseconds(), 10)
	return append(dst, '}')
}

// oneLine returns body without line ends. In JSON they can only stand between
// tokens, where a space means the same; anywhere else they would begin a line
// of the SSE stream that nobody meant.
func oneLine(body []byte) []byte {
	if bytes.IndexByte(body, '\n') < 0 && bytes.IndexByte(body, '\r') < 0 {
		return body
	}
	line := bytes.Clone(body)
	for i, c := range line {
		if c == '\n' || c == '\r' {
			line[i] = ' '
		}
	}
	return line
}

// validText returns body as valid UTF-8: a browser fails a WebSocket whose
// text is not (RFC 6455 section 8.1), and with it every other task on it.
func validText(body []byte) []byte {
	if utf8.Valid(body) {
		return body
	}
	return bytes.ToValidUTF8(body, []byte("\uFFFD"))
}
