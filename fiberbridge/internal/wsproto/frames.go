package wsproto

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// AppendText appends one unmasked, unfragmented text frame. payload must be
// valid UTF-8: a client has to fail the connection on anything else.
func AppendText(dst, payload []byte) []byte {
	switch n := len(payload); {
	case n < length16:
		dst = append(dst, finBit|opText, byte(n))
	case n <= max16:
		dst = append(dst, finBit|opText, length16, byte(n>>8), byte(n))
	default:
		dst = append(dst, finBit|opText, length64)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, payload...)
}

// AppendPing appends a ping. payload is at most 125 bytes; more is cut off,
// since a longer control frame would break the stream.
func AppendPing(dst, payload []byte) []byte { return appendControl(dst, opPing, payload) }

// AppendPong appends a pong, with the payload of the ping that it answers; see
// AppendPing.
func AppendPong(dst, payload []byte) []byte { return appendControl(dst, opPong, payload) }

func appendControl(dst []byte, opcode byte, payload []byte) []byte {
	payload = payload[:min(len(payload), maxControl)]
	dst = append(dst, finBit|opcode, byte(len(payload)))
	return append(dst, payload...)
}

// AppendClose appends a close frame; reason is cut to fit, at a rune. A code
// that must not go over the wire (1005, 1006, 1015, anything out of range)
// makes a close frame without code and reason.
func AppendClose(dst []byte, code int, reason string) []byte {
	if !sendable(code) {
		return append(dst, finBit|opClose, 0)
	}
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) > maxReason {
		cut := maxReason
		for !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut]
	}
	dst = append(dst, finBit|opClose, byte(2+len(reason)), byte(code>>8), byte(code))
	return append(dst, reason...)
}
