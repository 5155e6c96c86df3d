package memstore

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func benchAppend(b *bench, id string, n int, payload []byte) {
	_, err := b.Append(b.Context(), engine.Append{
		TaskID: id, Token: strconv.Itoa(n), Events: []engine.Draft{{Type: engine.TypeMessage, Payload: payload}},
	})
	if err != nil {
		b.Error(err)
	}
}

func BenchmarkAppend(b *testing.B) {
	payload := []byte(fmt.Sprintf(`{"message":"%0200d"}`, 0))
	for _, followers := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) {
			s := open(b, Config{})
			id := s.create().ID
			for range followers {
				s.follow(id)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				benchAppend(s, id, n, payload)
			}
		})
	}
	b.Run("each its own task", func(b *testing.B) {
		s := open(b, Config{})
		var n atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			id := s.create().ID
			for pb.Next() {
				benchAppend(s, id, int(n.Add(1)), payload)
			}
		})
	})
}

func BenchmarkFollow(b *testing.B) {
	s := open(b, Config{})
	id := s.create().ID
	for range 1000 {
		s.message(id, 200)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, stop := s.follow(id)
		stop()
	}
}
