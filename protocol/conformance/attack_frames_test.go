package conformance_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

// attackFrame is a stretch of bytes that RFC 6455 or the wire contract forbids,
// and the close code that it must be answered with.
type attackFrame struct {
	name string
	wire []byte
	code int
}

func bits(frame []byte, or byte) []byte { frame[0] |= or; return frame }

func attackFrames() []attackFrame {
	text, part := client.OpText, func(op byte, s string) []byte { return client.MaskedFrame(false, op, s) }
	whole := func(op byte, s string) []byte { return client.MaskedFrame(true, op, s) }
	long := func(first byte, length uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{first, 0xff}, length), 0, 0, 0, 0, '{', '}')
	}
	join := func(frames ...[]byte) (all []byte) {
		for _, f := range frames {
			all = append(all, f...)
		}
		return all
	}
	all := []attackFrame{
		{"a 16-bit length that fits 7 bits", []byte{0x81, 0xfe, 0, 2, 0, 0, 0, 0, '{', '}'}, 1002},
		{"a 64-bit length that fits 7 bits", long(0x81, 2), 1002},
		{"a length with its top bit", long(0x81, 1<<63), 1002},
		{"a length of all ones", long(0x81, 1<<64-1), 1002},
		{"a length of 2^62", long(0x81, 1<<62), 1009},
		{"a ping with a 64-bit length", long(0x89, 1<<40), 1002},
		{"a close of 126 bytes", whole(client.OpClose, "\x03\xe8"+strings.Repeat("x", 124)), 1002},
		{"a pong in pieces", part(client.OpPong, ""), 1002},
		{"a close in pieces", part(client.OpClose, "\x03\xe8"), 1002},
		{"a reserved bit on a ping", bits(whole(client.OpPing, ""), 0x40), 1002},
		{"a reserved bit on a close", bits(whole(client.OpClose, "\x03\xe8"), 0x20), 1002},
		{"an unmasked ping", []byte{0x89, 0}, 1002},
		{"an unfinished continuation of nothing", part(client.OpContinuation, "{"), 1002},
		{"a binary message in pieces", join(part(client.OpBinary, "\xff"), whole(client.OpContinuation, "\xff")), 1008},
		{"a character cut in two, then wrong", join(part(byte(text), "\xce\xba\xe1\xbd"), whole(client.OpContinuation, "\xb9\xed\xa0\x80")), 1007},
		{"a character that does not end", join(part(byte(text), "\"\xe1\xbd"), whole(client.OpContinuation, "\"")), 1007},
		{"a code point past the last", whole(byte(text), "\"\xf4\x90\x80\x80\""), 1007},
		{"an overlong NUL", whole(byte(text), "\"\xc0\x80\""), 1007},
		{"pieces of nothing", join(part(byte(text), ""), part(client.OpContinuation, ""), whole(client.OpContinuation, "")), 1008},
		{"pieces past the limit", join(part(byte(text), " "), []byte(strings.Repeat(string(part(client.OpContinuation, " ")), 5000))), 1009},
		{"pieces with pings between", join(part(byte(text), `{"action"`), whole(client.OpPing, "x"), part(client.OpContinuation, `:"no`), whole(client.OpContinuation, `pe"}`)), 1008},
		{"a bad reason", whole(client.OpClose, "\x03\xe8\xff"), 1007},
	}
	for bit := byte(0x10); bit <= 0x40; bit <<= 1 {
		all = append(all, attackFrame{fmt.Sprintf("reserved bit %#x", bit), bits(whole(byte(text), "{}"), bit), 1002})
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all = append(all, attackFrame{fmt.Sprintf("opcode %d", op), whole(op, ""), 1002})
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		all = append(all, attackFrame{fmt.Sprintf("close code %d", code), whole(client.OpClose, string(binary.BigEndian.AppendUint16(nil, code))), 1002})
	}
	return all
}

// Each frame that must not be is answered with its close code: as the first,
// inside the handshake's packet, and while a task is followed; in one write and
// a byte at a time.
func TestAttackFrames(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	subscribe := client.MaskedFrame(true, client.OpText, fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id))
	for _, tt := range attackFrames() {
		t.Run(tt.name, func(t *testing.T) {
			check := func(how string, s *client.RawSocket) {
				t.Helper()
				if code, err := s.CloseCode(client.Patience); code != tt.code {
					t.Errorf("%s: closed with %d (%v), want %d", how, code, err, tt.code)
				}
			}
			check("in the handshake's packet", c.DialRaw(t, nil, tt.wire))

			s := c.DialRaw(t, nil, subscribe)
			for range 2 { // the confirmation, TASK_STARTED
				if _, _, err := s.Read(client.Patience); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Write(tt.wire); err != nil {
				t.Fatal(err)
			}
			check("later", s)

			if len(tt.wire) > 100 {
				return
			}
			s = c.DialRaw(t, nil, nil)
			for i := range tt.wire {
				if s.Write(tt.wire[i:i+1]) != nil {
					break // closed before the last byte
				}
			}
			check("byte by byte", s)
		})
	}
}
