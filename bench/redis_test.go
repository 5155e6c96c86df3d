package bench

import (
	"strconv"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The benchmarks of the stages on Redis. redis-ns/event is the server's CPU time.

// BenchmarkRedisXadd is the yardstick: what any store on Redis has to pay.
func BenchmarkRedisXadd(b *testing.B) {
	a := newAppendBench(b)
	a.measured(b, 1, func(int) {
		if err := a.xadd(b.Context(), "bench:xadd"); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkRedisAppend is one append after the other, of one event and of many.
func BenchmarkRedisAppend(b *testing.B) {
	for _, events := range []int{1, 8, 64} {
		b.Run(strconv.Itoa(events), func(b *testing.B) {
			a := newAppendBench(b)
			task, err := createTask(b, a.store)
			if err != nil {
				b.Fatal(err)
			}
			drafts := make([]engine.Draft, events)
			for i := range drafts {
				drafts[i] = engine.Draft{Type: engine.TypeProgress, CreatedAt: time.Now(), Payload: []byte(smallPayload)}
			}
			a.measured(b, events, func(i int) {
				_, err := a.store.Append(b.Context(), engine.Append{
					TaskID: task.ID, Token: "ABCDEFGHIJKLMNOPQRSTUVWXYZ-" + strconv.Itoa(i), Events: drafts,
				})
				if err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkRedisEmit is one durable event after the other through a run.
func BenchmarkRedisEmit(b *testing.B) {
	a := newAppendBench(b)
	run := a.open(b)
	a.measured(b, 1, func(int) {
		if err := run.Emit(b.Context(), smallEvent); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkRedisStream is events that run ahead of the store.
func BenchmarkRedisStream(b *testing.B) {
	a := newAppendBench(b)
	run := a.open(b)
	a.measured(b, 1, func(i int) {
		run.Stream(smallEvent)
		if i == b.N-1 {
			if err := run.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRedisTail is the way of one event from its append to a follower in
// another store.
func BenchmarkRedisTail(b *testing.B) {
	a := newAppendBench(b)
	task, err := createTask(b, a.store)
	if err != nil {
		b.Fatal(err)
	}
	there := make(arrivals, 1)
	stop, err := openStore(b, a.redis, "taskbridge").Follow(b.Context(), task.ID, engine.EventID{}, there)
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	drafts := []engine.Draft{{Type: engine.TypeProgress, CreatedAt: time.Now(), Payload: []byte(smallPayload)}}
	a.measured(b, 1, func(i int) {
		if _, err := a.store.Append(b.Context(), engine.Append{TaskID: task.ID, Token: strconv.Itoa(i), Events: drafts}); err != nil {
			b.Fatal(err)
		}
		if n := <-there; n != 1 {
			b.Fatalf("%d events were pushed, want 1", n)
		}
	})
}

// arrivals is an engine.Follower that tells how many events came, -1 for Lost.
type arrivals chan int

func (a arrivals) Push(events []engine.Event) { a <- len(events) }

func (a arrivals) Lost() { a <- -1 }

// measured runs do b.N times and reports what it cost.
func (a *appendBench) measured(b *testing.B, events int, do func(i int)) {
	b.Helper()
	b.ReportAllocs()
	a.pipelining(b)
	b.ResetTimer()
	redis, cpu := redisCPU(b, a.redis), cpuTime()
	for i := range b.N {
		do(i)
	}
	b.StopTimer()
	all := float64(b.N * events)
	b.ReportMetric(float64(redisCPU(b, a.redis)-redis)/all, "redis-ns/event")
	b.ReportMetric(float64(cpuTime()-cpu)/all, "cpu-ns/event")
}
