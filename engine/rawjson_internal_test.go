package engine

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// byHand is endOfString, a byte at a time.
func byHand(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(raw)
}

func TestEndOfString(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		raw := make([]byte, random.IntN(12))
		for i := range raw {
			raw[i] = `"\ab`[random.IntN(4)]
		}
		raw = append([]byte{'"'}, raw...)
		if got, want := endOfString(raw, 0), byHand(raw, 0); got != want {
			t.Fatalf("%q: %d, want %d", raw, got, want)
		}
	}
}

// A string of escapes takes as long as another one: it is not gone through again
// for each.
func TestEndOfStringIsLinear(t *testing.T) {
	raw := append(append([]byte{'"'}, bytes.Repeat([]byte(`\\`), 4<<20)...), '"')
	began := time.Now()
	if got := endOfString(raw, 0); got != len(raw) {
		t.Fatal(got)
	}
	if took := time.Since(began); took > 10*time.Second { // 4M times 8 MiB take minutes
		t.Errorf("%v", took)
	}
}

func BenchmarkEndOfString(b *testing.B) {
	raw := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 1<<20)...), '"')
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		endOfString(raw, 0)
	}
}
