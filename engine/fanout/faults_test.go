package fanout

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A cursor of a lost tail names an ordinal that the log has again, with
// another entry: it must not be taken for that one.
func TestCursorOfALostTail(t *testing.T) {
	for _, over := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			h := mustHub(t, Config{}, src)
			defer closeHub(t, h)
			src.append("k", 20, 10, false)
			old := src.log("k").all
			src.loseTail("k", 10)
			src.append("k", 5, 10, over)
			for _, at := range []int{9, 10, 14, 15, 19} {
				// The first subscriber's cursor begins the ring: follow from 0 so
				// that it covers all of it.
				first := attach(h, -1, OutletConfig{})
				first.out.Follow("k", ID{}, nil)
				time.Sleep(time.Second)
				p := attach(h, -1, OutletConfig{})
				p.out.Follow("k", old[at].ID, opening("k", old[at].ID))
				time.Sleep(time.Second)
				r := mustParse(t, p).keys["k"]
				gaps := 1
				if at == 9 {
					gaps = 0
				}
				if len(r.had) != 5 || len(r.hidden) != gaps || r.over != over {
					t.Errorf("from the old entry %d: %q", at+1, p.text())
				}
			}
		})
	}
}

// Reads may know of a lost tail before the feed does. What the ring still
// holds of it must not follow on what was read.
func TestReadKnowsOfALostTailFirst(t *testing.T) {
	for _, fresh := range []int{0, 5} {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			src.append("k", 20, 10, false)
			old := src.log("k").all
			feeds := make(chan Feed, 1)
			h := mustHub(t, Config{}, &handFed{memSource: src, feeds: feeds})
			defer closeHub(t, h)
			first := attach(h, -1, OutletConfig{})
			first.out.Follow("k", ID{}, opening("k", ID{}))
			feed := <-feeds
			feed.Push(old[:18])
			synctest.Wait()
			src.loseTail("k", 10)
			src.append("k", fresh, 10, false)
			p := attach(h, -1, OutletConfig{})
			p.out.Follow("k", old[19].ID, opening("k", old[19].ID)) // ahead of the ring: read
			time.Sleep(10 * time.Second)
			if n := entries(p.text()); n != fresh {
				t.Errorf("%d entries, want %d: %q", n, fresh, p.text())
			}
			feed.Lost()
			src.append("k", 5, 10, true)
			feed.Push(src.log("k").all[10+fresh:])
			time.Sleep(10 * time.Second)
			for _, p := range []*pipe{first, p} {
				if r := mustParse(t, p).keys["k"]; !r.over || len(r.hidden) != 1 {
					t.Errorf("%q", p.text())
				}
			}
		})
	}
}

// A page that was read before the log was lost may still be in hand after it.
// What it holds is history: nobody else may be given it.
func TestPageOfALostTailIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("k", 2000, 1, false)
		old := src.log("k").all
		feeds := make(chan Feed, 1)
		h := mustHub(t, Config{Loops: 1, FlushBytes: 1, PageEntries: 2000, FlushInterval: -1}, &handFed{memSource: src, feeds: feeds})
		defer closeHub(t, h)
		first := attach(h, -1, OutletConfig{})
		first.out.Follow("k", old[1999].ID, nil)
		feed := <-feeds
		synctest.Wait()

		late := attach(h, -1, OutletConfig{})
		p := attach(h, -1, OutletConfig{})
		n := 0
		p.onWrite = func() {
			n++
			switch n {
			case 5:
				src.loseTail("k", 1900)
				src.append("k", 1900, 1, false)
				feed.Lost()
			case 1900:
				late.out.Follow("k", old[1500].ID, opening("k", old[1500].ID))
			}
		}
		p.out.Follow("k", ID{}, opening("k", ID{}))
		time.Sleep(time.Minute)
		text := late.text()
		if i := strings.IndexByte(text, '\n'); !strings.HasPrefix(text[i+1:], "G k ahead") {
			t.Errorf("a lost entry was delivered: %q", clip(text))
		}
		for _, p := range []*pipe{p, late} {
			if r := mustParse(t, p).keys["k"]; r.at != src.log("k").last() {
				t.Errorf("stands at %v: %q", r.at, clip(p.text()))
			}
		}
	})
}

// What comes while a large group is being gone through reaches those who had
// their turn before it came.
func TestPushInTheMiddleOfAPass(t *testing.T) {
	for _, interval := range []time.Duration{-1, 5 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			src.append("k", 3, 5, false)
			feeds := make(chan Feed, 1)
			h := mustHub(t, Config{Loops: 1, FlushInterval: interval}, &handFed{memSource: src, feeds: feeds})
			defer closeHub(t, h)
			all := src.log("k").all
			var feed Feed
			var pipes []*pipe
			var once sync.Once
			for i := range 1000 {
				p := attach(h, -1, OutletConfig{})
				if i == 500 {
					p.onWrite = func() {
						once.Do(func() {
							feed.Push(all[1:2])
							pipes[100].out.Gone()
							pipes[700].out.Gone()
							pipes[999].out.Gone()
						})
					}
				}
				p.out.Follow("k", ID{}, nil)
				pipes = append(pipes, p)
			}
			feed = <-feeds
			synctest.Wait()
			feed.Push(all[:1])
			time.Sleep(time.Second)
			for i, p := range pipes {
				if _, gone := p.end(); !gone && entries(p.text()) != 2 {
					t.Fatalf("outlet %d has %q", i, p.text())
				}
			}
		})
	}
}

// A read that nobody waits for any more gives its reader back.
func TestAbandonedReadFreesItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("k", 30, 10, false)
		h := mustHub(t, Config{RingBytes: 1, Readers: 1, Loops: 2}, &stuckReads{src})
		defer closeHub(t, h)
		first := attach(h, -1, OutletConfig{})
		first.out.Follow("k", src.log("k").last(), nil)
		synctest.Wait()
		began := time.Now()
		var stuck []*pipe
		for i := range 40 { // from the first ten positions: reads that hang
			p := attach(h, -1, OutletConfig{})
			p.out.Follow("k", src.log("k").all[i%10].ID, nil)
			stuck = append(stuck, p)
		}
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", src.log("k").all[15].ID, nil)
		synctest.Wait()
		for _, p := range stuck {
			p.out.Gone()
		}
		synctest.Wait()
		if n := entries(p.text()); n != 14 || time.Since(began) > 0 {
			t.Errorf("%d entries after %v", n, time.Since(began))
		}
		if n := len(h.reads.flights); n != 0 {
			t.Errorf("%d reads left", n)
		}
	})
}

type stuckReads struct{ *memSource }

func (s *stuckReads) Read(ctx context.Context, key string, after ID, limit int) (Page, error) {
	if after.Ordinal <= 10 {
		<-ctx.Done()
		return Page{}, ctx.Err()
	}
	return s.memSource.Read(ctx, key, after, limit)
}

func TestPagingTakesTurnsBetweenKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{RingBytes: 1, PageEntries: 10, Loops: 1}, src)
		defer closeHub(t, h)
		p := newPipe(-1)
		p.out = h.Open(p, OutletConfig{Framing: textFraming{}})
		for i, n := range []int{1000, 50, 50, 1000} {
			key := fmt.Sprint("k", i)
			src.append(key, n, 10, false)
			first := attach(h, -1, OutletConfig{})
			first.out.Follow(key, src.log(key).last(), nil)
		}
		synctest.Wait()
		// However the goroutines are scheduled, all are followed before any page comes.
		src.mu.Lock()
		src.lag = func() time.Duration { return time.Millisecond }
		src.mu.Unlock()
		for i := range 4 {
			p.out.Follow(fmt.Sprint("k", i), ID{}, opening(fmt.Sprint("k", i), ID{}))
		}
		time.Sleep(time.Second)
		tr := mustParse(t, p)
		for key, r := range tr.keys {
			if r.at != src.log(key).last() {
				t.Errorf("%s stands at %v", key, r.at)
			}
		}
		text := p.text()
		for _, key := range []string{"k1", "k2"} {
			end := strings.LastIndex(text, "E "+key)
			if n := entries(text[:end]); n > 400 {
				t.Errorf("%s had to wait for %d entries", key, n)
			}
		}
	})
}

// A subscriber ahead of the ring is asked about once, not again and again.
func TestCursorAheadOfTheRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("k", 12, 10, false)
		all := src.log("k").all
		src.log("k").all = all[:10]
		feeds := make(chan Feed, 1)
		h := mustHub(t, Config{Loops: 1}, &handFed{memSource: src, feeds: feeds})
		defer closeHub(t, h)
		first := attach(h, -1, OutletConfig{})
		first.out.Follow("k", ID{}, opening("k", ID{}))
		feed := <-feeds
		feed.Push(all[:5])
		ahead := attach(h, -1, OutletConfig{})
		ahead.out.Follow("k", all[9].ID, opening("k", all[9].ID))
		time.Sleep(time.Hour)
		if n := src.reads.Load(); n != 1 {
			t.Errorf("%d reads", n)
		}
		feed.Push(all[5:11])
		synctest.Wait()
		if len(mustParse(t, first).keys["k"].had) != 11 || len(mustParse(t, ahead).keys["k"].had) != 1 {
			t.Errorf("%q %q", first.text(), ahead.text())
		}
		// The same while the log is adrift.
		src.log("k").set(all[:11])
		src.reads.Store(0)
		feed.Lost()
		time.Sleep(time.Hour)
		if n := src.reads.Load(); n != 1 {
			t.Errorf("%d reads of a lost log by two at one cursor", n)
		}
		src.log("k").set(all)
		feed.Push(all[11:])
		time.Sleep(time.Second)
		if len(mustParse(t, first).keys["k"].had) != 12 || len(mustParse(t, ahead).keys["k"].had) != 2 {
			t.Errorf("%q %q", first.text(), ahead.text())
		}
	})
}

// A Source whose reads lag behind its pushes is asked again, with pauses.
func TestReadsThatLagBehindThePushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("k", 20, 10, false)
		all := src.log("k").all
		src.log("k").all = all[:5]
		feeds := make(chan Feed, 1)
		h := mustHub(t, Config{RingBytes: 1, FlushInterval: -1}, &handFed{memSource: src, feeds: feeds})
		defer closeHub(t, h)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, opening("k", ID{}))
		feed := <-feeds
		feed.Push(all)
		time.Sleep(time.Minute)
		if n := src.reads.Load(); n < 10 || n > 100 {
			t.Errorf("%d reads in a minute", n)
		}
		if n := entries(p.text()); n != 5 {
			t.Errorf("%d entries", n)
		}
		src.log("k").set(all)
		feed.Lost() // no use in waiting any longer
		synctest.Wait()
		if len(mustParse(t, p).keys["k"].had) != 20 {
			t.Errorf("%q", p.text())
		}
	})
}

func TestParkedOutletHoldsOneTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("k", 100, 100, false)
		h := mustHub(t, Config{RingBytes: 1, FlushBytes: 500}, src)
		defer closeHub(t, h)
		first := attach(h, -1, OutletConfig{})
		first.out.Follow("k", src.log("k").last(), nil)
		synctest.Wait()
		p := attach(h, 250, OutletConfig{})
		p.out.Follow("k", ID{}, nil)
		time.Sleep(time.Second)
		src.append("k", 100, 100, false)
		time.Sleep(time.Second)
		synctest.Wait()
		o := p.out
		if o.rest == nil || o.catch != nil || len(o.rest.tail) > 500 || o.rest.control != nil {
			t.Errorf("rest %v, catch %v", o.rest, o.catch)
		}
		if s := h.Stats(); s.RingBytes > 200 {
			t.Errorf("%+v", s)
		}
		p.out.Gone()
		first.out.Gone()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		// Nothing is kept for those who left.
		l := o.class.loop
		if len(l.spans.spans) != 0 || l.spans.hot.bytes != nil || len(l.trips) != 0 || len(l.active) != 0 || len(l.classes.of) != 0 {
			t.Errorf("the loop keeps %d spans, %d trips, %d classes", len(l.spans.spans), len(l.trips), len(l.classes.of))
		}
	})
}
