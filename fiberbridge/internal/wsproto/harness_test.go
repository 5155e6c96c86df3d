package wsproto

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"unicode/utf8"
)

var testKey = [4]byte{0x37, 0xfa, 0x21, 0x3d} // of RFC 6455 section 5.7

// clientFrame is a masked frame; first is FIN, RSV and opcode. It is written
// apart from the code under test, one byte at a time.
func clientFrame(first byte, payload string) []byte {
	var f []byte
	switch n := len(payload); {
	case n < 126:
		f = []byte{first, 0x80 | byte(n)}
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(n))
	default:
		f = binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(n))
	}
	f = append(f, testKey[:]...)
	for i := range len(payload) {
		f = append(f, payload[i]^testKey[i%4])
	}
	return f
}

// heard writes down what a Reader finds.
type heard struct {
	t     testing.TB
	lines []string
}

func (h *heard) Text(p []byte) {
	if !utf8.Valid(p) {
		h.t.Errorf("Text(%q) is not UTF-8", p)
	}
	h.lines = append(h.lines, fmt.Sprintf("text %q", p))
}
func (h *heard) Ping(p []byte)            { h.control("ping", p) }
func (h *heard) Pong(p []byte)            { h.control("pong", p) }
func (h *heard) Fragment()                {}
func (h *heard) Close(code int, r string) { h.control(fmt.Sprintf("close %d", code), []byte(r)) }

func (h *heard) Violation(v *CloseError) {
	if !sendable(v.Code) || v.Reason == "" {
		h.t.Errorf("not a violation to close with: %#v", v)
	}
	h.lines = append(h.lines, fmt.Sprintf("error %d %s", v.Code, v.Reason))
}

func (h *heard) control(what string, p []byte) {
	if len(p) > 125 {
		h.t.Errorf("%s of %d bytes", what, len(p))
	}
	h.lines = append(h.lines, fmt.Sprintf("%s %q", what, p))
}

// feed gives stream to a new Reader in the pieces that cut says (each the next
// piece's length, the rest at last) and returns all that came of it.
func feed(t testing.TB, limit int, stream []byte, cut func() int) []string {
	r := &Reader{MaxMessage: limit}
	h := &heard{t: t}
	rest := slices.Clone(stream)
	for len(rest) > 0 {
		n := min(max(cut(), 0), len(rest))
		r.Feed(rest[:n], h)
		for i := range n { // what was fed is the caller's again
			rest[i] = 0xAA
		}
		rest = rest[n:]
		if held := cap(r.message); held > r.limit() {
			t.Fatalf("holds %d bytes of a message, limit %d", held, r.limit())
		}
		if held := cap(r.control); held > 125 {
			t.Fatalf("holds %d bytes of a control frame", held)
		}
		if r.deaf && (r.message != nil || r.control != nil) {
			t.Fatal("holds a buffer after the end")
		}
		if r.Idle() {
			r = &Reader{MaxMessage: limit} // which must make no difference
		}
	}
	return h.lines
}

func whole() func() int { return func() int { return 1 << 30 } }

func bytewise() func() int { return func() int { return 1 } }
