package fiberbridge

import (
	"bytes"
	"strings"
	"testing"
)

// masked is one frame of a client, without a payload or with one of a byte.
func masked(first byte, payload string) []byte {
	return append([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
}

// Frames that ask for nothing end a socket on which nothing else comes. Many
// more than a client has reason to send are let pass.
func TestWSFramesThatAskForNothing(t *testing.T) {
	const text, continuation, ping, pong, fin = 1, 0, 9, 10, 0x80
	for name, frames := range map[string]struct{ first, then []byte }{
		"pings":           {nil, masked(fin|ping, "")},
		"pongs":           {nil, masked(fin|pong, "")},
		"empty fragments": {masked(text, ""), masked(continuation, "")},
	} {
		t.Run(name, func(t *testing.T) {
			eachWSPath(t, func(t *testing.T, portable bool) {
				h := startHost(t, hostSetup{bridge: func(c *Config) { c.Streams.DisableFastPath = portable }})
				dial := func() *sseClient {
					return h.get(t, wsPath, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
						"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
				}
				c := dial()
				flood := append(frames.first, bytes.Repeat(frames.then, 200_000)...)
				go func() { _, _ = c.conn.Write(flood) }()
				if all := untilClose(t, c.raw); !strings.Contains(all, "\x03\xf0too many control frames") {
					t.Errorf("%d bytes, end %q", len(all), all[max(0, len(all)-60):])
				}
				await(t, "place free", func() bool { return h.streams() == 0 })

				// Some hundreds, and then a message in pieces of one byte.
				task := h.task(t).Task().ID
				c = dial()
				if frames.first == nil {
					_, _ = c.conn.Write(bytes.Repeat(frames.then, 250))
				}
				message := `{"action":"subscribe","taskId":"` + task + `"}`
				message += strings.Repeat(" ", 4096-len(message))
				pieces := masked(text, message[:1])
				for i := 1; i < len(message)-1; i++ {
					pieces = append(pieces, masked(continuation, message[i:i+1])...)
				}
				pieces = append(pieces, masked(fin|continuation, message[len(message)-1:])...)
				if _, err := c.conn.Write(pieces); err != nil {
					t.Fatal(err)
				}
				var all strings.Builder
				for !strings.Contains(all.String(), "SUBSCRIPTION_CONFIRMED") {
					b, err := c.raw.ReadByte()
					if err != nil {
						t.Fatalf("%v after %q", err, all.String())
					}
					all.WriteByte(b)
				}
			})
		})
	}
}
