package fanout

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Linger: time.Second, RingBytes: 10 * (10 + entryOverhead)}, src)
		defer closeHub(t, h)
		src.append("k", 20, 10, false)
		all := func() []Entry { return src.log("k").all }
		recent := func(after ID, limit int) (n int, first uint64, more, ok bool) {
			r, ok := h.Recent("k", after, limit)
			if len(r.Entries) > 0 {
				first = r.Entries[0].ID.Ordinal
				for i, e := range r.Entries {
					if want := all()[int(first)-1+i]; e.ID != want.ID {
						t.Errorf("%v, want %v", e.ID, want.ID)
					}
				}
			}
			return len(r.Entries), first, r.More, ok
		}
		want := func(what string, after ID, limit, n int, more, ok bool) {
			t.Helper()
			gotN, first, gotMore, gotOK := recent(after, limit)
			if gotN != n || gotMore != more || gotOK != ok || n > 0 && first != after.Ordinal+1 {
				t.Errorf("%s: %d entries from %d, more %v, %v", what, gotN, first, gotMore, gotOK)
			}
		}
		id := func(ordinal int) ID { return all()[ordinal-1].ID }

		want("nobody follows it", id(20), 5, 0, false, false)
		h.Expect("k", id(2))
		synctest.Wait()
		// 3 to 20 were pushed, and the ring has 11 to 20.
		want("at its base", id(10), 5, 5, true, true)
		want("all", id(10), 100, 10, false, true)
		want("inside", id(15), 5, 5, false, true)
		want("at the head", id(20), 5, 0, false, true)
		want("before the base", id(9), 5, 0, false, false)
		want("the beginning", ID{}, 5, 0, false, false)
		want("another entry", ID{Millis: id(15).Millis + 1, Ordinal: 15}, 5, 0, false, false)
		want("another at the base", ID{Millis: id(10).Millis + 1, Ordinal: 10}, 5, 0, false, false)
		want("another at the head", ID{Millis: id(20).Millis + 1, Ordinal: 20}, 5, 0, false, false)
		want("past the head", ID{Millis: id(20).Millis, Ordinal: 21}, 5, 0, false, false)

		// It lingers as long as somebody asks now and then, and no longer.
		for range 10 {
			time.Sleep(700 * time.Millisecond)
			want("lingering", id(20), 5, 0, false, true)
		}
		time.Sleep(3 * time.Second)
		want("dropped", id(20), 5, 0, false, false)
		if s := h.Stats(); s.Logs != 0 || src.follows.Load() != 1 {
			t.Errorf("%+v, %d follows", s, src.follows.Load())
		}

		h.Expect("k", id(20))
		synctest.Wait()
		src.loseTail("k", 2)
		synctest.Wait()
		want("adrift", id(18), 5, 0, false, false)
		src.append("k", 3, 10, true)
		synctest.Wait()
		want("the ordinal before what came after a loss", id(len(all())-3), 5, 0, false, false)
		want("the final entry", id(len(all())-1), 5, 1, false, true)
		want("behind it", id(len(all())), 5, 0, false, false)
	})
}

// Thousands who wait for one entry are woken a few at a time, each once, and
// nobody is forgotten when the hub closes meanwhile.
func TestWaker(t *testing.T) {
	const n = 5000
	for _, closing := range []bool{false, true} {
		src := newSource()
		h := mustHub(t, Config{}, src)
		last := src.append("k", 1, 10, false)
		var wg sync.WaitGroup
		var woken atomic.Int64
		for range n {
			wg.Go(func() {
				if err := h.Wait(t.Context(), "k", last); err == nil {
					woken.Add(1)
				}
			})
		}
		waiting := func() int {
			lg := h.logs.peek("k")
			if lg == nil {
				return 0
			}
			lg.mu.Lock()
			defer lg.mu.Unlock()
			return len(lg.waits)
		}
		for waiting() < n {
			time.Sleep(time.Millisecond)
		}
		src.append("k", 1, 10, false)
		if closing {
			closeHub(t, h)
		}
		wg.Wait()
		if got := woken.Load(); !closing && got != n {
			t.Errorf("%d woken", got)
		}
		closeHub(t, h)
	}
}
