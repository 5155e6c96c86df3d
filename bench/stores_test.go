package bench

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// stage is a store with an engine on it.
type stage struct {
	store engine.Store
	eng   *engine.Engine
	redis *redistest.Instance // nil on the embedded store
}

// onEachStore runs a benchmark on the embedded store and on Redis.
func onEachStore(b *testing.B, do func(b *testing.B, s *stage)) {
	b.Helper()
	b.Run("memory", func(b *testing.B) { do(b, memoryStage(b)) })
	b.Run("redis", func(b *testing.B) {
		a := newAppendBench(b)
		a.pipelining(b)
		do(b, &stage{store: a.store, eng: a.eng, redis: a.redis})
	})
}

// memory is an embedded store. An engine closes it.
func memory(tb testing.TB) engine.Store {
	tb.Helper()
	store, err := memstore.New(memstore.Config{Logger: slog.New(slog.NewTextHandler(tb.Output(), nil))})
	if err != nil {
		tb.Fatal(err)
	}
	return store
}

func memoryStage(tb testing.TB) *stage {
	tb.Helper()
	store := memory(tb)
	eng, err := engine.New(engine.Config{Store: store, Logger: slog.New(slog.NewTextHandler(tb.Output(), nil))})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		if err := eng.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
	})
	return &stage{store: store, eng: eng}
}

// measured runs do as often as the benchmark wants it, each time for so many
// events, and reports what one costs: this process's CPU time and the server's.
func (s *stage) measured(b *testing.B, events int, do func(round int)) {
	b.Helper()
	b.ReportAllocs()
	redis, cpu := s.redisTime(b), cpuTime()
	rounds := 0
	for b.Loop() {
		do(rounds)
		rounds++
	}
	all := float64(rounds * events)
	b.ReportMetric(float64(cpuTime()-cpu)/all, "cpu-ns/event")
	if s.redis != nil {
		b.ReportMetric(float64(s.redisTime(b)-redis)/all, "redis-ns/event")
	}
}

func (s *stage) redisTime(tb testing.TB) time.Duration {
	if s.redis == nil {
		return 0
	}
	return redisCPU(tb, s.redis)
}

// task creates one that nobody works on.
func (s *stage) task(tb testing.TB) engine.Task {
	tb.Helper()
	task, err := createTask(tb, s.store)
	if err != nil {
		tb.Fatal(err)
	}
	return task
}

// open returns a run of a new task.
func (s *stage) open(tb testing.TB) *engine.Run {
	tb.Helper()
	run, err := s.eng.Emitter().Open(tb.Context(), s.task(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = run.Close(context.Background()) })
	return run
}
