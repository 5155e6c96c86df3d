package bench

import (
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// BenchmarkEndToEnd is one event after the other from Run.Emit until its
// subscriber has read it from its socket: with one in flight, ns/op is the
// latency. The server has one core, its subscriber (and Redis) another.
func BenchmarkEndToEnd(b *testing.B) {
	for _, via := range []transport{overSSE, overWebSocket} {
		b.Run(string(via), func(b *testing.B) {
			b.Run("memory", func(b *testing.B) { benchEndToEnd(b, via, memory(b), nil) })
			b.Run("redis", func(b *testing.B) {
				a := newAppendBench(b) // before this process keeps to one core, and the server with it
				a.pipelining(b)
				benchEndToEnd(b, via, openStore(b, a.redis, "endtoend"), a)
			})
		})
	}
}

func benchEndToEnd(b *testing.B, via transport, store engine.Store, a *appendBench) {
	d := newDelivery(b, store, via, 1, 1, 1)
	task, err := store.Get(b.Context(), d.tasks[0], engine.Fresh)
	if err != nil {
		b.Fatal(err)
	}
	run, err := d.host.eng.Emitter().Open(b.Context(), task)
	if err != nil {
		b.Fatal(err)
	}
	message := engine.Message{Text: messageText}
	emit := func() {
		d.crowd.expect(1)
		if err := run.Emit(b.Context(), message); err != nil {
			b.Fatal(err)
		}
		d.crowd.wait()
	}
	emit()
	s := stage{}
	if a != nil {
		s.redis = a.redis
	}
	s.measured(b, 1, func(int) { emit() })
	before := time.Now()
	const rounds = 500
	d.bare.run(b, rounds)
	b.ReportMetric(float64(time.Since(before))/rounds, "bare-ns/op")
	if err := run.Close(b.Context()); err != nil {
		b.Error(err)
	}
	if err := d.crowd.settle(); err != nil {
		b.Error(err)
	}
}
