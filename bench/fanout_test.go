package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// BenchmarkRing is the hub without sockets: an entry is pushed into each ring,
// and every outlet is given it.
func BenchmarkRing(b *testing.B) {
	sizes := []struct{ logs, outlets int }{{1, 1}, {1, 2000}, {2000, 2000}}
	for _, size := range sizes {
		b.Run(fmt.Sprintf("cores=1/logs=%d/outlets=%d", size.logs, size.outlets), func(b *testing.B) {
			onOneCore(b)
			benchHub(b, size.logs, size.outlets, 1)
		})
	}
	for _, size := range sizes[1:] {
		b.Run(fmt.Sprintf("cores=all/logs=%d/outlets=%d", size.logs, size.outlets), func(b *testing.B) {
			benchHub(b, size.logs, size.outlets, 1)
		})
	}
}

// BenchmarkFlush is the making of one buffer of many entries, which all outlets
// share.
func BenchmarkFlush(b *testing.B) {
	for _, entries := range []int{32, 128} {
		b.Run(fmt.Sprintf("outlets=2000/entries=%d", entries), func(b *testing.B) {
			onOneCore(b)
			benchHub(b, 1, 2000, entries)
		})
	}
}

func benchHub(b *testing.B, logs, outlets, entries int) {
	src := &pusher{feeds: map[string]fanout.Feed{}, all: make(chan struct{}), want: logs}
	hub, err := fanout.New(fanout.Config{FlushInterval: -1, RingBytes: 256 << 10}, src)
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
		hub.Open(tally{left}, fanout.OutletConfig{Framing: lines{}}).Follow(keys[i%logs], fanout.ID{}, nil)
	}
	<-src.all
	body := []byte(`{"message":"` + messageText + `"}`)
	size := len(lines{}.AppendEntry(nil, "", fanout.Entry{Body: body})) * entries * outlets
	round := 0
	deliver := func() {
		left.expect(size)
		batch := make([]fanout.Entry, entries)
		for i := range batch {
			batch[i] = fanout.Entry{ID: fanout.ID{Millis: 1, Ordinal: uint64(round*entries + i + 1)}, Body: body}
		}
		for _, key := range keys {
			src.feeds[key].Push(batch)
		}
		round++
		left.wait(b)
	}
	deliver() // everyone is there
	b.ReportAllocs()
	cpu, before := cpuTime(), round
	for b.Loop() {
		deliver()
	}
	deliveries := float64((round - before) * entries * outlets)
	b.ReportMetric(float64(cpuTime()-cpu)/deliveries, "cpu-ns/delivery")
	b.ReportMetric(float64(b.Elapsed())/deliveries, "ns/delivery")
	b.ReportMetric(allocated(allocRounds, deliver), "allocs/round")
}

// pusher is a Source that pushes when it is told to, and nothing else.
type pusher struct {
	mu    sync.Mutex
	feeds map[string]fanout.Feed
	want  int
	all   chan struct{} // closed when so many logs are followed
}

func (p *pusher) Follow(_ context.Context, key string, _ fanout.ID, f fanout.Feed) (func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.feeds[key] = f
	if len(p.feeds) == p.want {
		close(p.all)
	}
	return nil, nil
}

func (p *pusher) Read(_ context.Context, _ string, after fanout.ID, _ int) (fanout.Page, error) {
	return fanout.Page{Position: after}, nil
}

// countdown waits until so many bytes were written, to whichever sinks.
type countdown struct {
	left atomic.Int64
	zero chan struct{}
}

func newCountdown() *countdown { return &countdown{zero: make(chan struct{}, 1)} }

func (c *countdown) expect(n int) { c.left.Store(int64(n)) }

func (c *countdown) wait(tb testing.TB) {
	select {
	case <-c.zero:
	default:
		late := time.NewTimer(20 * time.Second)
		defer late.Stop()
		select {
		case <-c.zero:
		case <-late.C:
			tb.Fatalf("%d bytes were never written", c.left.Load())
		}
	}
}

// tally is the cheapest fanout.Sink.
type tally struct{ *countdown }

func (t tally) TryWrite(p []byte) (int, error) {
	if t.left.Add(-int64(len(p))) == 0 {
		t.zero <- struct{}{}
	}
	return len(p), nil
}

func (tally) Finished(string)        {}
func (tally) Failed(string, error)   {}
func (tally) Ended(fanout.EndReason) {}

// lines is a Framing like SSE's.
type lines struct{}

func (lines) AppendEntry(dst []byte, _ string, e fanout.Entry) []byte {
	dst = append(dst, "id: "...)
	dst = strconv.AppendUint(dst, e.ID.Millis, 10)
	dst = append(dst, "\ndata: "...)
	dst = append(dst, e.Body...)
	return append(dst, "\n\n"...)
}

func (lines) AppendGap(dst []byte, _ string, _ fanout.Gap) []byte { return append(dst, ": gap\n\n"...) }

func (lines) AppendHeartbeat(dst []byte, _ string, _ time.Time) []byte {
	return append(dst, ":\n\n"...)
}
