package bench

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
)

// logged is how many events the logs of these benchmarks have.
const logged = 500

// BenchmarkReplay is subscribers that come at once, each 500 events behind: from
// the ring of a task that somebody follows, and from pages of the store where
// the ring holds next to nothing.
func BenchmarkReplay(b *testing.B) {
	for _, from := range []struct {
		name string
		ring int
	}{{"ring", 0}, {"pages", 1}} {
		b.Run(from.name, func(b *testing.B) {
			for _, outlets := range []int{1, 200} {
				b.Run(fmt.Sprintf("outlets=%d", outlets), func(b *testing.B) {
					onEachStore(b, func(b *testing.B, s *stage) { benchReplay(b, s, outlets, from.ring) })
				})
			}
		})
	}
}

func benchReplay(b *testing.B, s *stage, outlets, ringBytes int) {
	task := s.filled(b)
	eng := s.beside(b, fanout.Config{FlushInterval: -1, RingBytes: ringBytes})
	hub, left := eng.Hub(), newCountdown()
	open := func() *fanout.Outlet {
		o := hub.Open(tally{left}, fanout.OutletConfig{Framing: lines{}})
		o.Follow(task.ID, fanout.ID{}, nil)
		return o
	}
	size := s.framed(b, task.ID)
	left.expect(size)
	open() // it stays, and the ring with it
	left.wait(b)
	all := make([]*fanout.Outlet, outlets)
	s.measured(b, outlets*logged, func(int) {
		left.expect(size * outlets)
		for i := range all {
			all[i] = open()
		}
		left.wait(b)
		for _, o := range all {
			o.Gone()
		}
	})
}

// BenchmarkPoll is a page of 100 events out of the middle of a log.
func BenchmarkPoll(b *testing.B) {
	onEachStore(b, func(b *testing.B, s *stage) {
		task := s.filled(b)
		eng := s.beside(b, fanout.Config{})
		page, err := s.store.Read(b.Context(), task.ID, engine.EventID{}, 200)
		if err != nil {
			b.Fatal(err)
		}
		request := engine.PollRequest{TaskID: task.ID, After: page.Events[199].ID, Max: 100}
		s.measured(b, 100, func(int) {
			if res, err := eng.Poll(b.Context(), ann, request); err != nil || len(res.Events) != 100 {
				b.Fatalf("%d events, %v", len(res.Events), err)
			}
		})
	})
}

// filled is a task with a log.
func (s *stage) filled(b *testing.B) engine.Task {
	task := s.task(b)
	for i := range logged / 100 {
		s.append(b, task.ID, i, messages(100))
	}
	return task
}

// framed is how many bytes lines makes of a task's log.
func (s *stage) framed(b *testing.B, taskID string) (size int) {
	page, err := s.store.Read(b.Context(), taskID, engine.EventID{}, logged)
	if err != nil || len(page.Events) != logged {
		b.Fatalf("%d events, %v", len(page.Events), err)
	}
	for _, ev := range page.Events {
		size += len(lines{}.AppendEntry(nil, taskID, fanout.Entry{ID: fanout.ID(ev.ID), Body: ev.AppendJSON(nil)}))
	}
	return size
}

// beside is a second engine on the same store, for those who read.
func (s *stage) beside(b *testing.B, delivery fanout.Config) *engine.Engine {
	eng, err := engine.New(engine.Config{
		Store: unclosed{s.store}, Ownership: engine.OwnerOnly(), Delivery: delivery,
		Logger: slog.New(slog.NewTextHandler(b.Output(), nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := eng.Shutdown(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return eng
}

// unclosed is a store that another engine closes.
type unclosed struct{ engine.Store }
