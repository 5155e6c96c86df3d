package fanout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestReplayFromEveryPosition(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{RingBytes: 1, PageEntries: 3},
		{RingBytes: 2000, FlushBytes: 1, Loops: 2},
		{TotalBytes: 1, PageEntries: 1, Readers: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			h := mustHub(t, cfg, src)
			defer closeHub(t, h)
			src.append("k", 100, 30, false)
			src.trim("k", 80)
			positions := []ID{{}}
			for _, e := range src.log("k").all {
				positions = append(positions, e.ID)
			}
			var pipes []*pipe
			for _, at := range positions {
				p := attach(h, -1, OutletConfig{})
				p.out.Follow("k", at, opening("k", at))
				pipes = append(pipes, p)
			}
			time.Sleep(time.Second)
			src.append("k", 20, 30, true)
			time.Sleep(10 * time.Second)
			for i, p := range pipes {
				r := mustParse(t, p).keys["k"]
				want, gaps := 120-i, 0
				if i < 20 {
					want, gaps = 100, 1
				}
				if len(r.had) != want || len(r.hidden) != gaps || !r.over {
					t.Errorf("%+v, position %d: %d entries and %d gaps, want %d and %d", cfg, i, len(r.had), len(r.hidden), want, gaps)
				}
			}
		})
	}
}

func TestEqualReadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.lag = func() time.Duration { return time.Millisecond }
		h := mustHub(t, Config{RingBytes: 1, PageEntries: 50, Loops: 3}, src)
		defer closeHub(t, h)
		src.append("k", 500, 10, false)
		first := attach(h, -1, OutletConfig{})
		first.out.Follow("k", src.log("k").last(), nil)
		time.Sleep(time.Second)
		src.reads.Store(0)
		var pipes []*pipe
		for range 1000 {
			p := attach(h, -1, OutletConfig{})
			p.out.Follow("k", ID{}, opening("k", ID{}))
			pipes = append(pipes, p)
		}
		time.Sleep(10 * time.Second)
		for _, p := range pipes {
			if r := mustParse(t, p).keys["k"]; len(r.had) != 500 {
				t.Fatalf("%d entries", len(r.had))
			}
		}
		if n := src.reads.Load(); n > 20 {
			t.Errorf("1000 subscribers at one cursor, 10 pages: %d reads", n)
		}
		if n := src.follows.Load(); n != 1 {
			t.Errorf("%d follows", n)
		}
	})
}

func TestLostLogIsReadByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{}, src)
		defer closeHub(t, h)
		src.append("k", 10, 10, false)
		var pipes []*pipe
		for range 100 {
			p := attach(h, -1, OutletConfig{})
			p.out.Follow("k", ID{}, opening("k", ID{}))
			pipes = append(pipes, p)
		}
		time.Sleep(time.Second)
		src.loseTail("k", 4)
		src.append("k", 8, 10, true)
		time.Sleep(time.Second)
		for _, p := range pipes {
			r := mustParse(t, p).keys["k"]
			if len(r.hidden) != 1 || r.hidden[0].Reason != GapAhead || len(r.had) != 18 || !r.over {
				t.Fatalf("%q", p.text())
			}
		}
	})
}

func TestSourceThatJumpsWithoutSayingSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("k", 30, 10, false)
		all := src.log("k").all
		feeds := make(chan Feed, 1)
		h := mustHub(t, Config{}, &handFed{memSource: src, feeds: feeds})
		defer closeHub(t, h)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, opening("k", ID{}))
		feed := <-feeds
		feed.Push(all[:5])
		feed.Push(all[9:12])   // a hole
		feed.Push(nil)         // nothing
		feed.Push([]Entry{{}}) // no ordinal
		feed.Push(all[2:14])   // back
		feed.Push(all[:0])     //
		feed.Push(all[14:20])  // joins
		time.Sleep(3 * time.Second)
		feed.Lost()
		feed.Lost()
		feed.Push(all[25:26])
		time.Sleep(3 * time.Second)
		feed.Push(all[26:30])
		time.Sleep(3 * time.Second)
		if r := mustParse(t, p).keys["k"]; len(r.had) != 30 || len(r.hidden) != 0 {
			t.Errorf("%d entries: %q", len(r.had), p.text())
		}
	})
}

// handFed leaves the pushing to the test.
type handFed struct {
	*memSource
	feeds chan Feed
}

func (s *handFed) Follow(_ context.Context, _ string, _ ID, feed Feed) (func(), error) {
	s.feeds <- feed
	return nil, nil
}

func TestSlowOutletDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Loops: 1, FlushInterval: -1, RingBytes: 10 << 10}, src)
		defer closeHub(t, h)
		var slow []*pipe
		for range 50 {
			p := attach(h, 10, OutletConfig{})
			p.out.Follow("k", ID{}, opening("k", ID{}))
			slow = append(slow, p)
		}
		fast := attach(h, -1, OutletConfig{})
		fast.out.Follow("k", ID{}, opening("k", ID{}))
		synctest.Wait()
		for i := range 300 {
			src.append("k", 1, 100, false)
			synctest.Wait()
			if n := entries(fast.text()); n != i+1 {
				t.Fatalf("the fast one has %d of %d entries", n, i+1)
			}
		}
		if n := slow[0].writes; n > 2 {
			t.Errorf("%d writes to a full sink", n)
		}
		for _, p := range slow {
			p.open(-1)
		}
		time.Sleep(time.Second)
		for _, p := range append(slow, fast) {
			if r := mustParse(t, p).keys["k"]; len(r.had) != 300 {
				t.Errorf("%d entries", len(r.had))
			}
		}
	})
}

func TestReadingDoesNotStopOtherKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("old", 50, 10, false)
		h := mustHub(t, Config{RingBytes: 1, FlushInterval: -1}, src)
		defer closeHub(t, h)
		first := attach(h, -1, OutletConfig{})
		first.out.Follow("old", src.log("old").last(), nil)
		synctest.Wait()
		down := errors.New("down")
		src.mu.Lock()
		src.fault = func(call, key string) error {
			if call == "read" {
				return down
			}
			return nil
		}
		src.mu.Unlock()
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("old", ID{}, opening("old", ID{}))
		p.out.Follow("live", ID{}, opening("live", ID{}))
		for i := range 20 {
			src.append("live", 1, 10, false)
			synctest.Wait()
			if n := entries(p.text()); n != i+1 {
				t.Fatalf("%d of %d live entries while the other log cannot be read", n, i+1)
			}
		}
		time.Sleep(time.Hour) // an outage is no reason to end
		if _, ok := p.end(); ok || len(p.failed) > 0 {
			t.Fatal("the outage ended the outlet")
		}
		src.mu.Lock()
		src.fault = nil
		src.mu.Unlock()
		time.Sleep(3 * time.Second)
		if r := mustParse(t, p).keys["old"]; len(r.had) != 50 {
			t.Errorf("after the outage: %d entries", len(r.had))
		}
	})
}

func TestFollowThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		var mu sync.Mutex
		left := 3
		down := errors.New("down")
		src.fault = func(call, key string) error {
			mu.Lock()
			defer mu.Unlock()
			if call != "follow" || left == 0 {
				return nil
			}
			left--
			return down
		}
		h := mustHub(t, Config{}, src)
		defer closeHub(t, h)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, opening("k", ID{}))
		src.append("k", 3, 10, false)
		time.Sleep(10 * time.Second)
		if r := mustParse(t, p).keys["k"]; len(r.had) != 3 {
			t.Errorf("%q", p.text())
		}
		mu.Lock()
		left = 1 << 30
		mu.Unlock()
		p.out.Follow("dead", ID{}, opening("dead", ID{}))
		q := attach(h, -1, OutletConfig{})
		q.out.Follow("dead", ID{}, opening("dead", ID{}))
		began := time.Now()
		for _, p := range []*pipe{p, q} {
			p.until(t, "Failed", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.failed["dead"] != nil })
		}
		if d := time.Since(began); d < time.Second || d > 10*time.Second {
			t.Errorf("gave up after %v", d)
		}
		src.append("k", 1, 10, false)
		mu.Lock()
		left = 0
		mu.Unlock()
		p.out.Follow("dead", ID{}, opening("dead", ID{}))
		src.append("dead", 2, 10, false)
		time.Sleep(time.Second)
		tr := mustParse(t, p)
		if len(tr.keys["k"].had) != 4 || len(tr.keys["dead"].had) != 2 {
			t.Errorf("%q", p.text())
		}
	})
}

func TestLogThatIsErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		feeds := make(chan Feed, 1)
		h := mustHub(t, Config{}, &handFed{memSource: src, feeds: feeds})
		defer closeHub(t, h)
		src.append("k", 2, 10, false)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, opening("k", ID{}))
		feed := <-feeds
		feed.Push(src.log("k").all)
		synctest.Wait()
		src.mu.Lock()
		src.fault = func(call, key string) error { return fmt.Errorf("erased: %w", ErrNotFound) }
		src.mu.Unlock()
		feed.Lost()
		p.until(t, "Failed", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return errors.Is(p.failed["k"], ErrNotFound) })
		if s := h.Stats(); s.Subscriptions != 0 || s.RingBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Linger: time.Second}, src)
		defer closeHub(t, h)
		for range 5 {
			p := attach(h, -1, OutletConfig{})
			p.out.Follow("k", ID{}, nil)
			q := attach(h, -1, OutletConfig{})
			q.out.Follow("other", ID{}, nil)
			time.Sleep(100 * time.Millisecond)
			p.out.Gone()
			q.out.Gone()
			time.Sleep(900 * time.Millisecond)
		}
		if n := src.follows.Load(); n != 2 {
			t.Errorf("%d follows for reconnects within the linger time", n)
		}
		if s := h.Stats(); s.Logs != 2 {
			t.Errorf("%+v", s)
		}
		time.Sleep(200 * time.Millisecond)
		if s := h.Stats(); s.Logs != 0 {
			t.Errorf("%+v", s)
		}
		if n := src.log("k").open(); n != 0 {
			t.Errorf("%d follows not stopped", n)
		}
	})
}
