package bench

import (
	"context"
	"fmt"
	"hash/crc32"
	"runtime"
	"strconv"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// BenchmarkLoops is Ring with sinks that take as long as a send on a socket
// does, all of it CPU: one loop on one core against the default number of loops
// on all, for one log that all outlets follow and for a log each. Twice as many
// deliveries on two cores is what there is to be had.
func BenchmarkLoops(b *testing.B) {
	for _, logs := range []int{1, 10_000} {
		for _, procs := range []int{1, runtime.NumCPU()} {
			b.Run(fmt.Sprintf("cores=%d/logs=%d/outlets=10000", procs, logs), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				benchLoops(b, logs, 10_000)
			})
		}
	}
}

func benchLoops(b *testing.B, logs, outlets int) {
	src := &pusher{feeds: map[string]fanout.Feed{}, all: make(chan struct{}), want: logs}
	hub, err := fanout.New(fanout.Config{FlushInterval: -1, RingBytes: 4 << 10}, src)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := hub.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	left := newCountdown()
	keys := make([]string, logs)
	for i := range keys {
		keys[i] = "log" + strconv.Itoa(i)
	}
	for i := range outlets {
		hub.Open(labour{tally{left}}, fanout.OutletConfig{Framing: lines{}}).Follow(keys[i%logs], fanout.ID{}, nil)
	}
	<-src.all
	entry := fanout.Entry{Body: []byte(`{"message":"` + messageText + `"}`)}
	size := len(lines{}.AppendEntry(nil, "", entry)) * outlets
	deliver := func() {
		left.expect(size)
		entry.ID = fanout.ID{Millis: 1, Ordinal: entry.ID.Ordinal + 1}
		for _, key := range keys {
			src.feeds[key].Push([]fanout.Entry{entry})
		}
		left.wait(b)
	}
	deliver() // everyone is there
	cpu, before := cpuTime(), entry.ID.Ordinal
	for b.Loop() {
		deliver()
	}
	deliveries := float64(entry.ID.Ordinal-before) * float64(outlets)
	b.ReportMetric(deliveries/b.Elapsed().Seconds(), "deliveries/s")
	used := float64(cpuTime() - cpu)
	b.ReportMetric(used/deliveries, "cpu-ns/delivery")
	b.ReportMetric(used/float64(b.Elapsed()), "cores")
}

// labour is a sink that works.
type labour struct{ tally }

var toil = make([]byte, 48<<10)

func (l labour) TryWrite(p []byte) (int, error) {
	if crc32.ChecksumIEEE(toil) == 1 { // never: it has to be reckoned
		return 0, nil
	}
	return l.tally.TryWrite(p)
}
