package fanout

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBudgetsHold(t *testing.T) {
	src := newSource()
	const ring, total = 20 << 10, 100 << 10
	h := mustHub(t, Config{RingBytes: ring, TotalBytes: total, Linger: -1}, src)
	defer closeHub(t, h)
	var pipes []*pipe
	const logs = 40
	for i := range logs {
		key := fmt.Sprint("k", i)
		for range 3 {
			p := attach(h, -1, OutletConfig{})
			p.out.Follow(key, ID{}, opening(key, ID{}))
			pipes = append(pipes, p)
		}
	}
	stop := make(chan struct{})
	var excess atomic.Int64
	var watch, writers sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				// A push is counted before room is made for it, so each that is under
				// way may be over for a moment, by no more than a ring.
				ended := src.ended.Load()
				held := h.Stats().RingBytes
				underWay := src.begun.Load() - ended
				excess.Store(max(excess.Load(), held-total-underWay*ring))
				runtime.Gosched()
			}
		}
	})
	for i := range logs {
		writers.Go(func() {
			for range 100 {
				src.append(fmt.Sprint("k", i), 2, 300, false)
				runtime.Gosched()
			}
		})
	}
	writers.Wait()
	for _, p := range pipes {
		p.until(t, "all entries", func() bool { return entries(p.text()) == 200 })
		mustParse(t, p)
	}
	close(stop)
	watch.Wait()
	if over := excess.Load(); over > 0 {
		t.Errorf("rings held %d bytes more than the %d that are allowed and what was just being pushed", over, total)
	}
	if s := h.Stats(); s.RingBytes > total {
		t.Errorf("rings hold %d bytes, %d allowed", s.RingBytes, total)
	}
	for _, p := range pipes {
		p.out.Gone()
	}
	for _, p := range pipes {
		p.untilEnded(t, EndGone)
	}
	for h.Stats() != (Stats{}) {
		runtime.Gosched()
	}
	listed := func() int {
		h.budget.mu.Lock()
		defer h.budget.mu.Unlock()
		return h.budget.n
	}
	for listed() > 0 { // the last step of dropping a log
		runtime.Gosched()
	}
}

func TestBigEntriesMakeSmallPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("k", 100, 10<<10, false)
		h := mustHub(t, Config{RingBytes: 1, FlushBytes: 4 << 10}, src)
		defer closeHub(t, h)
		first := attach(h, -1, OutletConfig{})
		first.out.Follow("k", src.log("k").last(), nil)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, opening("k", ID{}))
		time.Sleep(time.Second)
		if r := mustParse(t, p).keys["k"]; len(r.had) != 100 {
			t.Errorf("%d entries", len(r.had))
		}
		if p.writes < 100 {
			t.Errorf("%d writes for 100 entries larger than a write may be", p.writes)
		}
		if n := len(strings.Split(p.text(), "\n")); n != 102 {
			t.Errorf("%d records", n)
		}
		// A slow one does not read the same again and again.
		src.reads.Store(0)
		q := attach(h, 0, OutletConfig{})
		q.out.Follow("k", ID{}, opening("k", ID{}))
		for range 2000 {
			q.open(1 << 10)
			synctest.Wait()
		}
		q.open(-1)
		time.Sleep(time.Second)
		if r := mustParse(t, q).keys["k"]; len(r.had) != 100 {
			t.Errorf("%d entries", len(r.had))
		}
		if n := src.reads.Load(); n > 150 {
			t.Errorf("%d reads for 100 entries", n)
		}
	})
}

func TestOneRingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{RingBytes: 10_000}, src)
		defer closeHub(t, h)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, opening("k", ID{}))
		src.append("k", 500, 100, false)
		time.Sleep(time.Second)
		if n := h.Stats().RingBytes; n > 10_000 || n < 9_000 {
			t.Errorf("a ring of %d bytes, 10000 allowed", n)
		}
		src.append("k", 1, 50_000, false) // the newest is always kept
		time.Sleep(time.Second)
		if n := h.Stats().RingBytes; n != 50_000+entryOverhead {
			t.Errorf("a ring of %d bytes", n)
		}
		if len(mustParse(t, p).keys["k"].had) != 501 {
			t.Error("entries are missing")
		}
	})
}
