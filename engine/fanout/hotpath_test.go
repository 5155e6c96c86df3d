package fanout

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counter is the cheapest sink: it counts bytes, for all.
type counter struct{ bytes, writes *atomic.Int64 }

func (c counter) TryWrite(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	c.writes.Add(1)
	return len(p), nil
}
func (counter) Finished(string)      {}
func (counter) Failed(string, error) {}
func (counter) Ended(EndReason)      {}

// lineFraming is like SSE's, without fmt.
type lineFraming struct{}

func (lineFraming) AppendEntry(dst []byte, _ string, e Entry) []byte {
	dst = append(dst, "data: "...)
	dst = append(dst, e.Body...)
	return append(dst, "\n\n"...)
}
func (lineFraming) AppendGap(dst []byte, _ string, _ Gap) []byte { return dst }
func (lineFraming) AppendHeartbeat(dst []byte, _ string, _ time.Time) []byte {
	return append(dst, ":\n\n"...)
}

// bare is a Source that pushes when told to, and nothing else.
type bare struct {
	mu    sync.Mutex
	feeds map[string]Feed
	next  map[string]uint64
}

func (b *bare) Follow(_ context.Context, key string, _ ID, f Feed) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.feeds[key] = f
	return nil, nil
}

func (b *bare) Read(_ context.Context, _ string, after ID, _ int) (Page, error) {
	return Page{Position: after}, nil
}

func (b *bare) push(key string, n int, body []byte) {
	batch := make([]Entry, n)
	for i := range batch {
		b.next[key]++
		batch[i] = Entry{ID: ID{1, b.next[key]}, Body: body}
	}
	b.feeds[key].Push(batch)
}

// crowd opens outlets that follow logs in turn, and waits until all are.
func crowd(tb testing.TB, cfg Config, logs, outlets int) (*Hub, *bare, counter) {
	tb.Helper()
	src := &bare{feeds: map[string]Feed{}, next: map[string]uint64{}}
	h := mustHub(tb, cfg, src)
	c := counter{new(atomic.Int64), new(atomic.Int64)}
	for i := range outlets {
		o := h.Open(c, OutletConfig{Framing: lineFraming{}, Heartbeat: time.Hour, WriteTimeout: time.Hour})
		o.Follow(fmt.Sprint("log", i%logs), ID{}, nil)
	}
	for {
		src.mu.Lock()
		n := len(src.feeds)
		src.mu.Unlock()
		if n == logs && h.Stats().Subscriptions == outlets {
			return h, src, c
		}
		runtime.Gosched()
	}
}

func (c counter) await(writes int64) {
	for c.writes.Load() < writes {
		runtime.Gosched()
	}
}

// TestDeliveryAllocatesOncePerFlush: the buffer, and what the test's own push
// takes, whatever the number of outlets.
func TestDeliveryAllocatesOncePerFlush(t *testing.T) {
	for _, n := range []int{10, 2000} {
		h, src, c := crowd(t, Config{Loops: 1, FlushInterval: -1, RingBytes: 10 << 10}, 1, n)
		body := make([]byte, 200)
		want := int64(0)
		deliver := func() {
			src.push("log0", 1, body)
			want += int64(n)
			c.await(want)
		}
		for range 200 {
			deliver()
		}
		if a := testing.AllocsPerRun(500, deliver); a > 3 {
			t.Errorf("%v allocations to deliver one entry to %d outlets", a, n)
		}
		closeHub(t, h)
	}
}

// TestIdleOutletIsSmall measures what an outlet costs beside its sink.
func TestIdleOutletIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("measures the heap")
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, logs := range []int{1, 20_000} {
		const outlets = 20_000
		before, goroutines := heap(), runtime.NumGoroutine()
		h, src, _ := crowd(t, Config{}, logs, outlets)
		more := runtime.NumGoroutine() - goroutines
		for more > len(h.loops)+1 { // the last Follows return
			runtime.Gosched()
			more = runtime.NumGoroutine() - goroutines
		}
		each := (heap() - before) / outlets
		t.Logf("%d outlets on %d logs: %d bytes each, %d goroutines in all", outlets, logs, each, more)
		limit := int64(300)
		if logs > 1 {
			limit = 1500 // with a log, a group and the test's own maps for each
		}
		if each > limit {
			t.Errorf("%d outlets on %d logs: %d bytes each", outlets, logs, each)
		}
		runtime.KeepAlive(src)
		closeHub(t, h)
	}
}

func BenchmarkOneLog2000Sinks(b *testing.B) {
	h, src, c := crowd(b, Config{FlushInterval: -1}, 1, 2000)
	defer closeHub(b, h)
	body := make([]byte, 200)
	want := int64(0)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		src.push("log0", 1, body)
		want += 2000
		c.await(want)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(want), "ns/delivery")
}

func Benchmark2000LogsOneSink(b *testing.B) {
	h, src, c := crowd(b, Config{FlushInterval: -1}, 2000, 2000)
	defer closeHub(b, h)
	body := make([]byte, 200)
	var keys []string
	for i := range 2000 {
		keys = append(keys, fmt.Sprint("log", i))
	}
	want := int64(0)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		for _, key := range keys {
			src.push(key, 1, body)
		}
		want += 2000
		c.await(want)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(want), "ns/delivery")
}

// BenchmarkReplay is a subscriber that reads 500 entries from the ring while
// 1000 others do the same.
func BenchmarkReplay(b *testing.B) {
	h, src, c := crowd(b, Config{}, 1, 1)
	defer closeHub(b, h)
	src.push("log0", 500, make([]byte, 200))
	c.await(1)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		before := c.bytes.Load()
		var all []*Outlet
		for range 1000 {
			o := h.Open(c, OutletConfig{Framing: lineFraming{}})
			o.Follow("log0", ID{}, nil)
			all = append(all, o)
		}
		for c.bytes.Load() < before+1000*500*208 {
			runtime.Gosched()
		}
		for _, o := range all {
			o.Gone()
		}
	}
}

// BenchmarkFrame is what each loop does once for all its outlets that stand at
// one cursor: the bytes of 16 entries, a busy log's flush.
func BenchmarkFrame(b *testing.B) {
	l := &loop{hub: &Hub{cfg: Config{FlushBytes: 64 << 10}}}
	all := make([]Entry, 16)
	for i := range all {
		all[i] = Entry{ID: ID{1, uint64(i + 1)}, Body: make([]byte, 360)}
	}
	b.ReportAllocs()
	for b.Loop() {
		l.frame(lineFraming{}, "k", all, false)
	}
}
