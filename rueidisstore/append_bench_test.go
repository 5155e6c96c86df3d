package rueidisstore

import (
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// BenchmarkAppend is one event at a time.
func BenchmarkAppend(b *testing.B) {
	s := open(b, testConfig(b))
	task := s.create()
	fence, err := s.Acquire(b.Context(), task.ID, "a", time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		a := engine.Append{TaskID: task.ID, Token: s.token(), Fence: fence, Events: []engine.Draft{message("a")}}
		if _, err := s.Append(b.Context(), a); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSave is one checkpoint at a time: alone, and with an event.
func BenchmarkSave(b *testing.B) {
	for name, c := range map[string]struct {
		size   int
		events []engine.Draft
	}{
		"100B":           {100, nil},
		"100B and event": {100, []engine.Draft{message("a")}},
		"60KB and event": {60 << 10, []engine.Draft{message("a")}},
	} {
		b.Run(name, func(b *testing.B) {
			s := open(b, testConfig(b))
			task := s.create()
			fence, err := s.Acquire(b.Context(), task.ID, "a", time.Hour)
			if err != nil {
				b.Fatal(err)
			}
			data := []byte(`"` + strings.Repeat("x", c.size) + `"`)
			number := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				number++
				a := engine.Append{
					TaskID: task.ID, Token: s.token(), Fence: fence, Events: c.events, Checkpoint: &engine.Checkpoint{Data: data, Number: number},
				}
				if _, err := s.Append(b.Context(), a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
