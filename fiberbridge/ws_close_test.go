package fiberbridge

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

// maskedFrame is a client's frame, masked with zeros.
func maskedFrame(first byte, payload string) []byte {
	f := maskedText(payload)
	f[0] = first
	return f
}

// RFC 6455, section 7.1.1: a connection is over when both close frames are
// there, whichever frame was wrong and in whatever state it left the stream.
func TestWSViolationAndTheAnsweringClose(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		h := startHost(t, setup)
		run := h.task(t)
		subscribe := maskedText(`{"action":"subscribe","taskId":"` + run.Task().ID + `"}`)
		for name, tc := range map[string]struct {
			wire []byte
			code string
		}{
			"not JSON":          {maskedText("x"), "\x03\xf0"},
			"binary":            {maskedFrame(0x82, "x"), "\x03\xf0"},
			"not UTF-8":         {maskedText("ab\xff" + strings.Repeat("c", 500)), "\x03\xef"},
			"too big":           {maskedText(strings.Repeat("x", 5000)), "\x03\xf1"},
			"a reserved bit":    {maskedFrame(0xc1, "xyz"), "\x03\xea"},
			"a reserved opcode": {maskedFrame(0x83, "xyz"), "\x03\xea"},
			"not masked":        {[]byte{0x81, 2, 'h', 'i'}, "\x03\xea"},
			"a close of a byte": {maskedFrame(0x88, "x"), "\x03\xea"},
		} {
			for _, when := range []string{"first", "later", "with its close"} {
				t.Run(name+"/"+when, func(t *testing.T) {
					c := h.get(t, wsPath, wsUpgrade...)
					wire := tc.wire
					if when == "later" {
						wire = append(bytes.Clone(subscribe), wire...)
					}
					answer := append(maskedText("on its way"), maskedFrame(0x88, "\x03\xe8")...)
					if when == "with its close" {
						wire = append(bytes.Clone(wire), answer...)
					}
					if _, err := c.conn.Write(wire); err != nil {
						t.Fatal(err)
					}
					for {
						opcode, payload, err := readFrame(c.raw)
						if err != nil {
							t.Fatal(err)
						}
						if opcode == 0x8 {
							if got := string(payload[:2]); got != tc.code {
								t.Errorf("closed with %q, want %q", got, tc.code)
							}
							break
						}
					}
					begin := time.Now()
					if when != "with its close" {
						_, _ = c.conn.Write(answer) // may be late, if the wrong frame was a close frame
					}
					rest, err := io.ReadAll(c.raw)
					if took := time.Since(begin); len(rest) > 0 || took >= closeAnswerTime {
						t.Errorf("%q %v after %v", rest, err, took)
					}
				})
			}
		}
		h.empty(t)
	})
}

// untilClose reads the payloads of all frames, the close frame's included.
func untilClose(t *testing.T, r io.Reader) string {
	t.Helper()
	var all strings.Builder
	for {
		opcode, payload, err := readFrame(r)
		if err != nil {
			t.Fatalf("%v after %q", err, all.String())
		}
		all.Write(payload)
		if opcode == 0x8 {
			return all.String()
		}
	}
}

// readFrame reads one frame of the server.
func readFrame(r io.Reader) (opcode byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return 0, nil, err
	}
	n := int(head[1])
	switch n {
	case 126:
		if _, err := io.ReadFull(r, head[2:4]); err != nil {
			return 0, nil, err
		}
		n = int(head[2])<<8 | int(head[3])
	case 127:
		if _, err := io.ReadFull(r, head[2:10]); err != nil {
			return 0, nil, err
		}
		n = int(head[6])<<24 | int(head[7])<<16 | int(head[8])<<8 | int(head[9])
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return head[0] & 0xf, payload, err
}
