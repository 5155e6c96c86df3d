package localexec

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestPlacesAtRandom takes, submits and leaves at random and looks at the bounds
// after each step: no bound is passed, and no worker is free while somebody
// waits who may have it.
func TestPlacesAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		cfg := Config{
			Workers: 1 + rng.IntN(6), Queue: rng.IntN(8), WorkersPerSubject: rng.IntN(4) - 1, QueuePerSubject: rng.IntN(5) - 1,
		}.withDefaults()
		p := newPlaces(cfg)
		var jobs []*job
		var slots []string
		for step := range 500 {
			switch name := fmt.Sprint("subject ", rng.IntN(4)); {
			case rng.IntN(2) == 0:
				if p.take(name) == accepted {
					slots = append(slots, name)
				}
			case len(slots) > 0 && rng.IntN(2) == 0:
				owner := slots[0]
				slots = slots[1:]
				if rng.IntN(5) == 0 {
					p.give(owner)
					continue
				}
				j := &job{owner: owner, turn: make(chan struct{})}
				p.submit(j)
				jobs = append(jobs, j)
			case len(jobs) > 0:
				i := rng.IntN(len(jobs))
				p.leave(jobs[i])
				jobs = append(jobs[:i], jobs[i+1:]...)
			}
			checkPlaces(t, seed, step, &p, jobs, len(slots))
		}
		for _, j := range jobs {
			p.leave(j)
		}
		for _, owner := range slots {
			p.give(owner)
		}
		if p.held != 0 || p.running != 0 || p.waiting != 0 || p.ready.Len() != 0 || len(p.subjects) != 0 {
			t.Fatalf("seed %d: something is left: %+v", seed, p)
		}
	}
}

func checkPlaces(t *testing.T, seed uint64, step int, p *places, jobs []*job, slots int) {
	t.Helper()
	running, waiting, couldRun := map[string]int{}, map[string]int{}, false
	total := 0
	for _, j := range jobs {
		select {
		case <-j.turn:
			running[j.owner]++
			total++
		default:
			waiting[j.owner]++
		}
	}
	for owner := range waiting {
		couldRun = couldRun || running[owner] < p.subjectWorkers
	}
	for owner, n := range running {
		if n > p.subjectWorkers {
			t.Fatalf("seed %d, step %d: %s has %d workers, want at most %d", seed, step, owner, n, p.subjectWorkers)
		}
	}
	switch {
	case total != p.running || len(jobs)-total != p.waiting || len(jobs)+slots != p.held:
		t.Fatalf("seed %d, step %d: counted %d running, %d waiting, %d held, want %d, %d, %d",
			seed, step, p.running, p.waiting, p.held, total, len(jobs)-total, len(jobs)+slots)
	case total > p.workers || p.held > p.workers+p.queue:
		t.Fatalf("seed %d, step %d: %d running and %d held pass the bounds %d and %d", seed, step, total, p.held, p.workers, p.workers+p.queue)
	case couldRun && total < p.workers:
		t.Fatalf("seed %d, step %d: a worker is free and a task waits for it", seed, step)
	}
}
