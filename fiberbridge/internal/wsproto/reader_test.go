package wsproto

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const (
	fin  = 0x80
	text = 0x1
)

func join(frames ...[]byte) []byte { return slices.Concat(frames...) }

func closePayload(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// Each case is fed whole, byte by byte, and cut at every place.
func TestReader(t *testing.T) {
	const limit = 300
	long := strings.Repeat("é", 100)
	unmasked := []byte{fin | text, 2, 'h', 'i'}
	cases := []struct {
		name   string
		stream []byte
		want   []string
	}{
		{"the RFC's masked hello", []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}, []string{`text "Hello"`}},
		{"empty text", clientFrame(fin|text, ""), []string{`text ""`}},
		{"16-bit length", clientFrame(fin|text, long), []string{`text "` + long + `"`}},
		{"several", join(clientFrame(fin|text, "a"), clientFrame(fin|0x9, "p"), clientFrame(fin|0xA, ""), clientFrame(fin|text, "b")),
			[]string{`text "a"`, `ping "p"`, `pong ""`, `text "b"`}},
		{"fragments with control frames between", join(clientFrame(text, "a\xc3"), clientFrame(fin|0x9, "p"), clientFrame(0, ""), clientFrame(0, "\xa9b"), clientFrame(fin|0xA, "q"), clientFrame(fin, "c"), clientFrame(fin|text, "d")),
			[]string{`ping "p"`, `pong "q"`, `text "aébc"`, `text "d"`}},
		{"a rune of four bytes, one at a time", join(clientFrame(text, "\xf0"), clientFrame(0, "\x9f"), clientFrame(0, "\x98"), clientFrame(fin, "\x80")), []string{`text "😀"`}},
		{"empty fragments", join(clientFrame(text, ""), clientFrame(0, ""), clientFrame(fin, "")), []string{`text ""`}},
		{"ping of 125", clientFrame(fin|0x9, strings.Repeat("x", 125)), []string{`ping "` + strings.Repeat("x", 125) + `"`}},
		{"at the limit", clientFrame(fin|text, strings.Repeat("x", limit)), []string{`text "` + strings.Repeat("x", limit) + `"`}},

		{"close", join(clientFrame(fin|0x8, closePayload(1000, "bye")), clientFrame(fin|text, "late")), []string{`close 1000 "bye"`}},
		{"close without a code", clientFrame(fin|0x8, ""), []string{`close 1005 ""`}},
		{"close inside a message", join(clientFrame(text, "a"), clientFrame(fin|0x8, closePayload(4999, ""))), []string{`close 4999 ""`}},
		{"close of one byte", clientFrame(fin|0x8, "\x03"), []string{"error 1002 close frame of one byte", `close 1005 ""`}},
		{"close with a reason that is not UTF-8", clientFrame(fin|0x8, closePayload(1000, "\xff")), []string{"error 1007 text is not UTF-8", `close 1005 ""`}},

		{"not masked", unmasked, []string{"error 1002 frame is not masked"}},
		{"RSV1", clientFrame(fin|0x40|text, "a"), []string{"error 1002 reserved bits are set"}},
		{"RSV2", clientFrame(fin|0x20|text, "a"), []string{"error 1002 reserved bits are set"}},
		{"RSV3 on a ping", clientFrame(fin|0x10|0x9, "a"), []string{"error 1002 reserved bits are set"}},
		{"opcode 3", clientFrame(fin|0x3, ""), []string{"error 1002 reserved opcode"}},
		{"opcode 7", clientFrame(fin|0x7, ""), []string{"error 1002 reserved opcode"}},
		{"opcode 11", clientFrame(fin|0xB, ""), []string{"error 1002 reserved opcode"}},
		{"opcode 15", clientFrame(fin|0xF, ""), []string{"error 1002 reserved opcode"}},
		{"fragmented ping", clientFrame(0x9, ""), []string{"error 1002 fragmented control frame"}},
		{"ping of 126", clientFrame(fin|0x9, strings.Repeat("x", 126)), []string{"error 1002 control frame over 125 bytes"}},
		{"continuation of nothing", clientFrame(fin, "a"), []string{"error 1002 continuation of nothing"}},
		{"continuation after the end", join(clientFrame(fin|text, "a"), clientFrame(0, "b")), []string{`text "a"`, "error 1002 continuation of nothing"}},
		{"text inside a message", join(clientFrame(text, "a"), clientFrame(fin|text, "b")), []string{"error 1002 new message inside a fragmented one"}},
		{"binary inside a message", join(clientFrame(text, "a"), clientFrame(fin|0x2, "b")), []string{"error 1002 new message inside a fragmented one"}},
		{"length 125 in 16 bits", []byte{fin | text, 0x80 | 126, 0, 125}, []string{"error 1002 length is not encoded minimally"}},
		{"length 65535 in 64 bits", []byte{fin | text, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, []string{"error 1002 length is not encoded minimally"}},
		{"top bit", []byte{fin | text, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, []string{"error 1002 length has its top bit set"}},

		{"binary", clientFrame(fin|0x2, "a"), []string{"error 1008 binary message"}},
		{"over the limit, header only", []byte{fin | text, 0x80 | 126, limit >> 8, limit&0xff + 1}, []string{"error 1009 message too big"}},
		{"huge", []byte{fin | text, 0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []string{"error 1009 message too big"}},
		{"over the limit in fragments", join(clientFrame(text, strings.Repeat("x", limit)), clientFrame(0, ""), clientFrame(fin|0x9, "p"), clientFrame(fin, "y")[:2]),
			[]string{`ping "p"`, "error 1009 message too big"}},

		{"not UTF-8", clientFrame(fin|text, "a\xff"), []string{"error 1007 text is not UTF-8"}},
		{"surrogate", clientFrame(fin|text, "\xed\xa0\x80"), []string{"error 1007 text is not UTF-8"}},
		{"overlong", clientFrame(fin|text, "\xc0\xaf"), []string{"error 1007 text is not UTF-8"}},
		{"a rune cut off", clientFrame(fin|text, "a\xe2\x82"), []string{"error 1007 text is not UTF-8"}},
		{"a rune cut off at the last fragment", join(clientFrame(text, "a\xe2"), clientFrame(fin, "\x82")), []string{"error 1007 text is not UTF-8"}},
		{"not UTF-8, found before the message ends", join(clientFrame(text, "ab\xffcd"), clientFrame(fin|0x9, "never")), []string{"error 1007 text is not UTF-8"}},
		{"not UTF-8, found in half a frame", clientFrame(fin|text, "ab\xf5"+long)[:20], []string{"error 1007 text is not UTF-8"}},
		{"a rune that cannot go on", clientFrame(text, "\xf4\x90"), []string{"error 1007 text is not UTF-8"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			check := func(how string, got []string) {
				t.Helper()
				if !slices.Equal(got, c.want) {
					t.Fatalf("%s:\n got %q\nwant %q", how, got, c.want)
				}
			}
			check("whole", feed(t, limit, c.stream, whole()))
			check("byte by byte", feed(t, limit, c.stream, bytewise()))
			for at := range c.stream {
				pieces := []int{at, len(c.stream)}
				check("cut in two", feed(t, limit, c.stream, func() int {
					n := pieces[0]
					pieces = pieces[1:]
					return n
				}))
			}
		})
	}
}

// After whatever violation the peer's answering close frame is found, behind
// what it had sent before it knew.
func TestCloseAfterAViolation(t *testing.T) {
	const limit = 300
	hello := []byte{fin | text, 2, 'h', 'i'} // not masked
	for _, bad := range [][]byte{
		hello, clientFrame(fin|0x40|text, "a"), clientFrame(fin|0x3, "abc"), clientFrame(0x9, ""),
		clientFrame(fin|0x9, strings.Repeat("x", 126)), clientFrame(fin, "a"),
		join(clientFrame(text, "a"), clientFrame(fin|text, "b")), join([]byte{fin | text, 0x80 | 126, 0, 5}, testKey[:], []byte("12345")),
		clientFrame(fin|0x2, "a"), clientFrame(fin|text, strings.Repeat("x", 70000)), clientFrame(fin|text, strings.Repeat("x", limit+1)),
		clientFrame(fin|text, "a\xffb"), join(clientFrame(text, "a\xe2"), clientFrame(0, "!!"), clientFrame(fin, "b")),
	} {
		stream := join(bad, clientFrame(fin|text, "more"), clientFrame(fin|0x9, "p"), hello, clientFrame(fin|0x8, closePayload(1000, "bye")), []byte("late"))
		for name, cut := range map[string]func() int{"whole": whole(), "bytewise": bytewise()} {
			got := feed(t, limit, stream, cut)
			if len(got) != 2 || !strings.HasPrefix(got[0], "error 100") || got[1] != `close 1005 ""` {
				t.Errorf("%.20q %s: %q", bad, name, got)
			}
		}
	}
	// What cannot be followed is gone over for ever.
	endless := join([]byte{fin | text, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, clientFrame(fin|0x8, ""))
	if got := feed(t, limit, endless, bytewise()); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestReceivedCloseCodes(t *testing.T) {
	for code := range 1 << 16 {
		valid := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
		got := feed(t, 0, clientFrame(fin|0x8, closePayload(code, "")), whole())
		if valid != strings.HasPrefix(got[0], "close ") || !valid && got[0] != "error 1002 invalid close code" {
			t.Fatalf("close code %d gives %q", code, got)
		}
	}
}

func TestDefaultLimit(t *testing.T) {
	if got := feed(t, 0, clientFrame(fin|text, strings.Repeat("x", 4097)), whole()); got[0] != "error 1009 message too big" {
		t.Fatalf("got %.50q", got)
	}
	if got := feed(t, 0, clientFrame(fin|text, strings.Repeat("x", 4096)), bytewise()); !strings.HasPrefix(got[0], "text ") {
		t.Fatalf("got %.50q", got)
	}
}

type stopper struct {
	heard
	r *Reader
}

func (s *stopper) Text(p []byte) {
	s.heard.Text(p)
	s.r.Stop()
}

func TestStopInsideFeed(t *testing.T) {
	r := &Reader{}
	s := &stopper{heard: heard{t: t}, r: r}
	stream := join(clientFrame(fin|text, "a"), clientFrame(fin|text, "b"), clientFrame(fin|0x8, closePayload(1000, "")), []byte{0xff, 0xff})
	for range 2 {
		r.Feed(slices.Clone(stream), s)
	}
	if !slices.Equal(s.lines, []string{`text "a"`, `close 1005 ""`}) {
		t.Fatalf("got %q", s.lines)
	}
}

func TestUnmask(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	key := binary.LittleEndian.Uint32(testKey[:])
	for size := range 70 {
		plain := make([]byte, size)
		for i := range plain {
			plain[i] = byte(rng.Uint32())
		}
		got := slices.Clone(plain)
		for first := range size + 1 {
			copy(got, plain)
			next := unmask(got[:first], key)
			unmask(got[first:], next)
			for i := range got {
				if got[i] != plain[i]^testKey[i%4] {
					t.Fatalf("size %d cut at %d: byte %d", size, first, i)
				}
			}
		}
	}
}

type ignore struct{}

func (ignore) Text([]byte)       {}
func (ignore) Ping([]byte)       {}
func (ignore) Pong([]byte)       {}
func (ignore) Fragment()         {}
func (ignore) Close(int, string) {}

func (ignore) Violation(*CloseError) {}

// A whole message costs no allocation, and an idle Reader holds nothing.
func TestAllocations(t *testing.T) {
	frame := clientFrame(fin|text, `{"action":"subscribe","taskId":"0123456789abcdef"}`)
	stream := join(frame, clientFrame(fin|0x9, "ping"), clientFrame(fin|0xA, ""))
	buf := make([]byte, len(stream))
	var r Reader
	if n := testing.AllocsPerRun(100, func() {
		copy(buf, stream)
		r.Feed(buf, ignore{})
	}); n != 0 {
		t.Errorf("a whole message costs %v allocations", n)
	}
	for _, b := range stream {
		r.Feed([]byte{b}, ignore{})
	}
	if r.message != nil || r.control != nil {
		t.Error("an idle Reader holds a buffer")
	}
	var dst []byte
	payload := []byte(strings.Repeat("x", 200))
	dst = AppendText(dst, payload)
	if n := testing.AllocsPerRun(100, func() { dst = AppendText(dst[:0], payload) }); n != 0 {
		t.Errorf("AppendText costs %v allocations", n)
	}
}

func BenchmarkFeed(b *testing.B) {
	frame := clientFrame(fin|text, `{"action":"subscribe","taskId":"0123456789abcdef"}`)
	buf := make([]byte, len(frame))
	var r Reader
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		copy(buf, frame)
		r.Feed(buf, ignore{})
	}
}

// TestReaderIdle: between messages only. That a new Reader would then do as
// well, feed tries at each place.
func TestReaderIdle(t *testing.T) {
	stream := join(clientFrame(text, "a"), clientFrame(fin|0x9, "p"), clientFrame(fin, "b"), clientFrame(fin|text, "c"), clientFrame(fin|0x8, ""))
	r := &Reader{}
	var idle []int
	for i := range stream {
		if r.Feed([]byte{stream[i]}, &heard{t: t}); r.Idle() {
			idle = append(idle, i+1)
		}
	}
	if want := []int{7 + 7 + 7, 7 + 7 + 7 + 7}; !slices.Equal(idle, want) {
		t.Errorf("idle after %v bytes, want %v", idle, want)
	}
}
