package fanout

import (
	"math/rand/v2"
	"testing"
)

func TestRingAgainstASlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var r ring
		var model []Entry
		next := uint64(1)
		var bytes int64
		grow := rng.IntN(2) == 0
		for range 2000 {
			if rng.IntN(200) == 0 {
				grow = !grow
			}
			if push := rng.IntN(10) < 7; len(model) == 0 || push == grow {
				e := Entry{ID: ID{next * 3, next}, Body: make([]byte, rng.IntN(50))}
				next++
				r.push(e)
				model = append(model, e)
				bytes += cost(&e)
			} else {
				freed := r.evict()
				if freed != cost(&model[0]) || r.base != model[0].ID {
					t.Fatal("evicted something else")
				}
				bytes -= freed
				model = model[1:]
			}
			if r.n != len(model) || r.bytes != bytes {
				t.Fatalf("%d entries of %d bytes, want %d of %d", r.n, r.bytes, len(model), bytes)
			}
			for range 3 {
				if len(model) > 0 {
					i := rng.IntN(len(model))
					if id := model[i].ID; r.at(i).ID != id || r.id(id.Ordinal) != id {
						t.Fatalf("entry %d is %v, want %v", i, r.at(i).ID, id)
					}
				}
			}
		}
		if len(r.slots) > 64 && r.n < len(r.slots)/16 {
			t.Errorf("%d slots for %d entries", len(r.slots), r.n)
		}
	}
}

func TestQueueAgainstASlice(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var q queue[int]
	var model []int
	for i := range 100_000 {
		if len(model) == 0 || rng.IntN(100) < 50+40*(i/1000%2) {
			q.push(i)
			model = append(model, i)
		} else {
			if got := q.pop(); got != model[0] {
				t.Fatalf("popped %d, want %d", got, model[0])
			}
			model = model[1:]
		}
		if q.len() != len(model) || q.len() > 0 && q.peek() != model[0] {
			t.Fatal("out of step")
		}
		if i%10_000 == 0 {
			for q.len() > 0 {
				q.pop()
			}
			model = nil
		}
	}
}
