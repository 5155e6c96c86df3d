package fanout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func mustHub(t testing.TB, cfg Config, src Source) *Hub {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	h, err := New(cfg, src)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func closeHub(t testing.TB, h *Hub) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := h.Close(ctx); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if s := h.Stats(); s != (Stats{}) {
		t.Errorf("after Close the hub holds %+v", s)
	}
}

// erratic is a Sink that takes what it likes and becomes writable again by
// itself, later.
type erratic struct {
	*pipe
	rng  *rand.Rand // used by the loop only
	lazy time.Duration
	wg   *sync.WaitGroup
}

func (e *erratic) TryWrite(b []byte) (int, error) {
	n := len(b)
	switch e.rng.IntN(4) {
	case 0:
		n = e.rng.IntN(len(b) + 1)
	case 1:
		n = min(n, e.rng.IntN(40))
	}
	if n < len(b) {
		pause := time.Duration(e.rng.Int64N(int64(e.lazy)))
		e.wg.Go(func() {
			time.Sleep(pause)
			e.out.Writable()
		})
	}
	return e.pipe.TryWrite(b[:n])
}

// TestModel drives hubs with everything at once and then holds each sink's
// bytes against the logs.
func TestModel(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runModel(t, uint64(seed)) })
		})
	}
}

func runModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	src := newSource()
	var faultMu sync.Mutex
	faults := rand.New(rand.NewPCG(seed, 8))
	src.fault = func(string, string) error {
		faultMu.Lock()
		defer faultMu.Unlock()
		if faults.IntN(20) == 0 {
			return errors.New("passing fault")
		}
		return nil
	}
	src.lag = func() time.Duration { return rand.N(3 * time.Millisecond) }
	cfg := Config{
		Loops:         1 + rng.IntN(3),
		FlushInterval: []time.Duration{-1, time.Millisecond, 5 * time.Millisecond}[rng.IntN(3)],
		RingBytes:     []int{1, 2 << 10, 16 << 10}[rng.IntN(3)],
		TotalBytes:    []int{1, 4 << 10, 1 << 20}[rng.IntN(3)],
		FlushBytes:    []int{1, 300, 4 << 10}[rng.IntN(3)],
		PageEntries:   1 + rng.IntN(20),
		Readers:       1 + rng.IntN(4),
		Linger:        []time.Duration{-1, 20 * time.Millisecond}[rng.IntN(2)],
	}
	lossy := rng.IntN(2) == 0
	h := mustHub(t, cfg, src)
	defer closeHub(t, h)
	keys := []string{"a", "b", "c", "d", "e"}
	var network, actors sync.WaitGroup

	for i, key := range keys {
		src.append(key, rng.IntN(60), 10, false)
		actors.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 100+uint64(i)))
			for range 60 {
				time.Sleep(rand.N(4 * time.Millisecond))
				src.append(key, 1+rng.IntN(8), rng.IntN(120), false)
				switch rng.IntN(12) {
				case 0:
					src.trim(key, 5+rng.IntN(60))
				case 1:
					if lossy {
						src.loseTail(key, 1+rng.IntN(10))
					}
				}
			}
			src.append(key, 1, 10, true)
		})
	}

	var sinks []*erratic
	for i := range 40 {
		e := &erratic{
			pipe: newPipe(-1),
			rng:  rand.New(rand.NewPCG(seed, 1000+uint64(i))),
			lazy: []time.Duration{time.Millisecond, 30 * time.Millisecond}[rng.IntN(2)],
			wg:   &network,
		}
		sinks = append(sinks, e)
		e.out = h.Open(e, OutletConfig{Framing: textFraming{}, Heartbeat: 10 * time.Millisecond, WriteTimeout: time.Minute})
		actors.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 2000+uint64(i)))
			n := 1
			if rng.IntN(2) == 0 {
				n += rng.IntN(len(keys))
			}
			for j := range n {
				time.Sleep(rand.N(40 * time.Millisecond))
				start(src, e.out, keys[(i+j)%len(keys)], rng)
			}
			for j := range rng.IntN(12) {
				time.Sleep(rand.N(20 * time.Millisecond))
				key := keys[rng.IntN(len(keys))]
				switch rng.IntN(6) {
				case 0:
					start(src, e.out, key, rng)
				case 1:
					e.out.Unfollow(key, []byte("U "+key+"\n"))
				case 2:
					e.out.Writable()
				default:
					e.out.Send(fmt.Appendf(nil, "C %d %d\n", j, rng.IntN(100)))
				}
			}
			if i%10 == 9 {
				time.Sleep(rand.N(50 * time.Millisecond))
				if i == 19 {
					e.mu.Lock()
					e.broken = errBroken
					e.mu.Unlock()
				} else {
					e.out.Gone()
				}
			}
		})
	}
	actors.Wait()
	// Everything is written; give the last bytes their time.
	time.Sleep(30 * time.Second)
	network.Wait()
	synctest.Wait()

	for i, e := range sinks {
		alive := i%10 != 9
		e.verify(t)
		tr, err := parse(e.text(), alive)
		if err != nil {
			t.Fatalf("sink %d, cfg %+v: %v", i, cfg, err)
		}
		if !alive {
			continue
		}
		for key, r := range tr.keys {
			if !r.on {
				continue
			}
			for _, entry := range src.log(key).all {
				if entry.ID.Ordinal > r.start.Ordinal && !r.had[entry.ID] && !r.excused(entry.ID) {
					t.Fatalf("sink %d, cfg %+v: %s misses %v of %d; it stands at %v, gaps %v", i, cfg, key, entry.ID, len(src.log(key).all), r.at, r.hidden)
				}
			}
			if !r.over && r.start != src.log(key).last() {
				t.Fatalf("sink %d: %s did not get the final entry; at %v of %v", i, key, r.at, src.log(key).last())
			}
		}
	}
	if s := h.Stats(); s.Subscriptions != 0 {
		t.Errorf("all logs are over, and there are %+v", s)
	}
}

// start follows key from some position that exists.
func start(src *memSource, o *Outlet, key string, rng *rand.Rand) {
	lg := src.log(key)
	lg.mu.Lock()
	var at ID
	if n := len(lg.all); n > 0 && rng.IntN(4) > 0 {
		at = lg.all[rng.IntN(n)].ID
	}
	lg.mu.Unlock()
	o.Follow(key, at, fmt.Appendf(nil, "O %s %d %d\n", key, at.Millis, at.Ordinal))
}
