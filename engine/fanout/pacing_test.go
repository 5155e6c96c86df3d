package fanout

import (
	"testing"
	"testing/synctest"
	"time"
)

// laborious opens outlets whose writes take a millisecond each, all on one
// loop, and follows "k" with them.
func laborious(h *Hub, n int) []*pipe {
	pipes := make([]*pipe, n)
	for i := range pipes {
		pipes[i] = attach(h, -1, OutletConfig{})
		pipes[i].onWrite = func() { time.Sleep(time.Millisecond) }
		pipes[i].out.Follow("k", ID{}, opening("k", ID{}))
	}
	time.Sleep(time.Second)
	synctest.Wait()
	for _, p := range pipes {
		p.mu.Lock()
		p.times = nil
		p.mu.Unlock()
	}
	return pipes
}

// TestOneInFlightIsNotHeldUp: whoever emits when everyone has the last entry
// waits for nothing, however long a pass takes.
func TestOneInFlightIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Loops: 1}, src)
		defer closeHub(t, h)
		pipes := laborious(h, 100)
		began := time.Now()
		for i := range 10 {
			src.append("k", 1, 10, false)
			for entries(pipes[99].text()) <= i {
				time.Sleep(50 * time.Microsecond)
			}
		}
		if took := time.Since(began); took > 1010*time.Millisecond {
			t.Errorf("10 entries to 100 outlets of 1ms each took %v", took)
		}
	})
}

// TestBusyLogRests: entries that come faster than they are written go into
// larger writes.
func TestBusyLogRests(t *testing.T) {
	for _, c := range []struct {
		outlets int
		limit   time.Duration
		period  time.Duration
	}{
		{outlets: 1, period: 5 * time.Millisecond},   // FlushInterval
		{outlets: 5, period: 15 * time.Millisecond},  // three times what a pass takes
		{outlets: 20, period: 32 * time.Millisecond}, // MaxFlushInterval
		{outlets: 20, limit: time.Second, period: 60 * time.Millisecond},
		{outlets: 20, limit: 1, period: 20 * time.Millisecond}, // not below FlushInterval: one pass after the other
		{outlets: 70, period: 70 * time.Millisecond},           // a pass takes longer than it may rest
	} {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			h := mustHub(t, Config{Loops: 1, MaxFlushInterval: c.limit}, src)
			defer closeHub(t, h)
			pipes := laborious(h, c.outlets)
			const count = 1000
			for range count {
				src.append("k", 1, 10, false)
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			for i, p := range pipes {
				if n := entries(p.text()); n != count {
					t.Fatalf("outlet %d has %d entries", i, n)
				}
				mustParse(t, p)
				want := int(time.Duration(count) * time.Millisecond / c.period)
				if n := len(p.times); n < want*85/100 || n > want*110/100+3 {
					t.Errorf("%d outlets: %d writes to outlet %d in a second, want about %d", c.outlets, n, i, want)
				}
			}
		})
	}
}

// TestLongPassTakesInWhatComes: who has a late turn in a pass gets what has
// come since it began.
func TestLongPassTakesInWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Loops: 1}, src)
		defer closeHub(t, h)
		pipes := laborious(h, 2*passVisits)
		src.append("k", 1, 10, false)
		time.Sleep(passVisits / 2 * time.Millisecond)
		src.append("k", 1, 10, false)
		time.Sleep(time.Second)
		synctest.Wait()
		first, last := pipes[0], pipes[len(pipes)-1]
		if len(first.times) != 2 {
			t.Errorf("%d writes to the first outlet", len(first.times))
		}
		if n := entries(last.text()); len(last.times) != 1 || n != 2 {
			t.Errorf("%d writes to the last outlet, with %d entries", len(last.times), n)
		}
	})
}

// TestTheEndDoesNotRest: the final entry often comes right behind the one
// before it; a rest would gather nothing.
func TestTheEndDoesNotRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Loops: 1, MaxFlushInterval: time.Second}, src)
		defer closeHub(t, h)
		pipes := laborious(h, 20)
		began := time.Now()
		src.append("k", 1, 10, false)
		time.Sleep(10 * time.Millisecond) // half of a pass
		src.append("k", 1, 10, true)
		for entries(pipes[0].text()) < 2 || entries(pipes[19].text()) < 2 {
			time.Sleep(50 * time.Microsecond)
		}
		if took := time.Since(began); took > 41*time.Millisecond {
			t.Errorf("two passes of 20ms took %v", took)
		}
	})
}
