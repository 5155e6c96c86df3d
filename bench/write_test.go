package bench

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The stages of the write path.

// BenchmarkEncode is what an event costs before any store sees it, and once
// before anyone is told.
func BenchmarkEncode(b *testing.B) {
	message := engine.Message{Text: messageText}
	b.Run("payload", func(b *testing.B) {
		b.ReportAllocs()
		cpu := cpuTime()
		for b.Loop() {
			if _, _, err := engine.EncodePayload(message); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/event")
	})
	b.Run("event", func(b *testing.B) {
		event := engine.Event{
			ID: engine.EventID{Millis: 1_700_000_000_000, Ordinal: 4711}, TaskID: "abcdefghijklmnopqrstuvwxyz",
			Type: engine.TypeMessage, CreatedAt: time.Now(), Payload: messages(1)[0].Payload,
		}
		var buf []byte
		b.ReportAllocs()
		cpu := cpuTime()
		for b.Loop() {
			buf = event.AppendJSON(buf[:0])
		}
		b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/event")
		b.SetBytes(int64(len(buf)))
	})
}

// BenchmarkXadd is the yardstick of the store on Redis: what any has to pay.
func BenchmarkXadd(b *testing.B) {
	a := newAppendBench(b)
	a.pipelining(b)
	(&stage{redis: a.redis}).measured(b, 1, func(int) {
		if err := a.xadd(b.Context(), "bench:xadd"); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkAppend is one append after the other, of one event and of many.
func BenchmarkAppend(b *testing.B) {
	for _, events := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
			onEachStore(b, func(b *testing.B, s *stage) {
				task, drafts := s.task(b), small(events)
				s.measured(b, events, func(round int) {
					s.append(b, task.ID, round, drafts)
				})
			})
		})
	}
}

// BenchmarkEmit is one durable event after the other through a run.
func BenchmarkEmit(b *testing.B) {
	onEachStore(b, func(b *testing.B, s *stage) {
		run := s.open(b)
		s.measured(b, 1, func(int) {
			if err := run.Emit(b.Context(), smallEvent); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkStream is events that run ahead of the store, and the wait for the
// last of them.
func BenchmarkStream(b *testing.B) {
	onEachStore(b, func(b *testing.B, s *stage) {
		run := s.open(b)
		const events = 256
		s.measured(b, events, func(int) {
			for range events {
				run.Stream(smallEvent)
			}
			if err := run.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkTail is the way of one event from its append to a follower: on Redis
// to one in another store, as on another node.
func BenchmarkTail(b *testing.B) {
	onEachStore(b, func(b *testing.B, s *stage) {
		task, drafts := s.task(b), small(1)
		reader := s.store
		if s.redis != nil {
			reader = openStore(b, s.redis, "taskbridge")
		}
		there := make(arrivals, 1)
		stop, err := reader.Follow(b.Context(), task.ID, engine.EventID{}, there)
		if err != nil {
			b.Fatal(err)
		}
		defer stop()
		s.measured(b, 1, func(round int) {
			s.append(b, task.ID, round, drafts)
			if n := <-there; n != 1 {
				b.Fatalf("%d events were pushed, want 1", n)
			}
		})
	})
}

// small are n events of a few bytes.
func small(n int) []engine.Draft {
	drafts := make([]engine.Draft, n)
	for i := range drafts {
		drafts[i] = engine.Draft{Type: engine.TypeProgress, CreatedAt: time.Now(), Payload: []byte(smallPayload)}
	}
	return drafts
}

func (s *stage) append(b *testing.B, taskID string, round int, events []engine.Draft) {
	_, err := s.store.Append(b.Context(), engine.Append{
		TaskID: taskID, Token: "ABCDEFGHIJKLMNOPQRSTUVWXYZ-" + strconv.Itoa(round), Events: events,
	})
	if err != nil {
		b.Fatal(err)
	}
}

// arrivals is an engine.Follower that tells how many events came, -1 for Lost.
type arrivals chan int

func (a arrivals) Push(events []engine.Event) { a <- len(events) }

func (a arrivals) Lost() { a <- -1 }
