package rueidisstore

import (
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// BenchmarkGetCached is what the ownership check of a poll costs.
func BenchmarkGetCached(b *testing.B) {
	s := open(b, testConfig(b))
	task := s.create()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(b.Context(), task.ID, engine.Cached); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	s := open(b, testConfig(b))
	task := s.create()
	for range 20 {
		s.append(task.ID, message("a"), message("b"), message("c"), message("d"), message("e"))
	}
	last := s.read(task.ID, engine.EventID{}, 1000).Last
	for name, after := range map[string]engine.EventID{"all": {}, "nothing": last} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.read(task.ID, after, 100)
			}
		})
	}
}
