package wsproto

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// FuzzFeed: any bytes in any pieces give what they give as a whole, and never
// more than MaxMessage is held.
func FuzzFeed(f *testing.F) {
	f.Add(clientFrame(fin|text, "Hello"), uint64(1), 10)
	f.Add(join(clientFrame(text, "a\xc3"), clientFrame(fin|0x9, "p"), clientFrame(fin, "\xa9")), uint64(2), 300)
	f.Add(join(clientFrame(text, strings.Repeat("€", 90)), clientFrame(0, strings.Repeat("x", 200)), clientFrame(fin, "y")), uint64(3), 1000)
	f.Add(join(clientFrame(fin|0x8, closePayload(1001, "bye")), []byte{1, 2, 3}), uint64(4), 0)
	f.Add([]byte{0x81, 0xfe, 0, 126, 1, 2, 3, 4, 5}, uint64(5), 200)
	f.Add(clientFrame(fin|0x2, "a"), uint64(6), 1)
	f.Add(join(clientFrame(fin|0x2, "a"), clientFrame(fin|text, "b"), clientFrame(fin|0x8, closePayload(1000, ""))), uint64(7), 10)
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64, limit int) {
		limit %= 1 << 16
		rng := rand.New(rand.NewPCG(seed, 0))
		want := feed(t, limit, stream, whole())
		most := 1 + rng.IntN(40)
		if got := feed(t, limit, stream, func() int { return rng.IntN(most + 1) }); !slices.Equal(got, want) {
			t.Fatalf("in pieces %q\nas a whole %q", got, want)
		}
	})
}

// FuzzMessages: fragments of a text, with pings between them, come out whole.
func FuzzMessages(f *testing.F) {
	f.Add("Hello, wörld", uint64(1))
	f.Add(strings.Repeat("€", 5000), uint64(2))
	f.Add("\xff", uint64(3))
	f.Fuzz(func(t *testing.T, message string, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var stream []byte
		var want []string
		rest, opcode := message, byte(text)
		for {
			n := rng.IntN(len(rest) + 1)
			if rng.IntN(4) == 0 {
				n = len(rest)
			}
			last := n == len(rest)
			first := opcode
			if last {
				first |= fin
			}
			stream = append(stream, clientFrame(first, rest[:n])...)
			rest, opcode = rest[n:], 0
			if last {
				break
			}
			stream = append(stream, clientFrame(fin|0x9, "p")...)
			want = append(want, `ping "p"`)
		}
		got := feed(t, len(message)+1, stream, func() int { return rng.IntN(100) })
		if strings.ToValidUTF8(message, "") != message {
			if len(got) == 0 || got[len(got)-1] != "error 1007 text is not UTF-8" {
				t.Fatalf("got %q", got)
			}
			return
		}
		want = append(want, feed(t, len(message)+1, clientFrame(fin|text, message), whole())...)
		if !slices.Equal(got, want) {
			t.Fatalf("got %.200q, want %.200q", got, want)
		}
	})
}
