package bench

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// An event of the loader says when it was sent: its payload begins with it.
const (
	stampStart  = `{"message":"`
	stampDigits = 19 // Unix nanoseconds
)

// padding makes a payload about as long as a short line of text.
const padding = " the quick brown fox jumps over the lazy dog, and over again"

func stamped(at time.Time) []byte {
	b := make([]byte, 0, len(stampStart)+stampDigits+len(padding)+2)
	b = append(b, stampStart...)
	b = strconv.AppendInt(b, at.UnixNano(), 10)
	b = append(b, padding...)
	return append(b, `"}`...)
}

// stampOf finds the stamp in a payload, or in whatever has one in it.
func stampOf(b []byte) (int64, error) {
	at := bytes.Index(b, []byte(stampStart))
	if at < 0 || len(b) < at+len(stampStart)+stampDigits {
		return 0, errors.New("an event without a stamp")
	}
	return strconv.ParseInt(string(b[at+len(stampStart):][:stampDigits]), 10, 64)
}

// latencies collects how long events took. Concurrent use is fine.
type latencies struct {
	// received counts all events, measured or not.
	received  atomic.Int64
	bad       atomic.Int64
	measuring atomic.Bool
	next      atomic.Int64
	samples   []int64
}

func newLatencies() *latencies { return &latencies{samples: make([]int64, 1<<20)} }

// arrived takes an event.
func (l *latencies) arrived(payload []byte, now int64) {
	stamp, err := stampOf(payload)
	if err != nil {
		l.bad.Add(1)
		return
	}
	if l.measuring.Load() {
		if i := l.next.Add(1) - 1; i < int64(len(l.samples)) {
			l.samples[i] = now - stamp
		}
	}
	l.received.Add(1)
}

// quantiles are those of what was measured.
func (l *latencies) quantiles() (n int, p50, p99, most time.Duration) {
	got := slices.Clone(l.samples[:min(l.next.Load(), int64(len(l.samples)))])
	if len(got) == 0 {
		return 0, 0, 0, 0
	}
	slices.Sort(got)
	at := func(q float64) time.Duration { return time.Duration(got[int(q*float64(len(got)-1))]) }
	return len(got), at(0.5), at(0.99), at(1)
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
