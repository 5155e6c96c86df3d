package fanout

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPagesInHandAreBounded: whoever stands at a cursor of its own has a page of
// its own. Reading stops at the bound while nobody can be written to, and goes on
// when somebody can; what was read is counted off in whatever way it ends.
func TestPagesInHandAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const outlets, entries, size = 40, 150, 256
		src := newSource()
		src.lag = func() time.Duration { return time.Millisecond } // all are there before any page is
		src.append("k", entries, size, true)
		cfg := Config{Loops: 1, Readers: 4, RingBytes: 1, PageEntries: 64, FlushBytes: 4 << 10, TotalBytes: 1 << 20}
		h := mustHub(t, cfg, src)
		defer closeHub(t, h)
		limit := int64(cfg.TotalBytes / 8)
		most := limit + int64(cfg.Readers*64*(size+entryOverhead))

		// No sink may block; here that stands for a loop that has much to do.
		open := make(chan struct{})
		var pipes []*pipe
		for i := range outlets {
			p := attach(h, -1, OutletConfig{})
			after := src.log("k").id(uint64(i + 1))
			begun := false
			p.onWrite = func() {
				if begun { // the opening is written
					<-open
				}
				begun = true
			}
			p.out.Follow("k", after, opening("k", after))
			pipes = append(pipes, p)
		}
		// One that takes nothing, and one that goes, let go of theirs.
		parked := attach(h, 1<<10, OutletConfig{})
		parked.out.Follow("k", ID{}, opening("k", ID{}))
		gone := attach(h, -1, OutletConfig{})
		gone.out.Follow("k", ID{}, opening("k", ID{}))
		gone.out.Gone()

		time.Sleep(time.Second)
		if n := h.Stats().PageBytes; n < limit || n > most {
			t.Errorf("%d bytes of pages are in hand, want %d to %d", n, limit, most)
		}
		close(open)
		time.Sleep(time.Minute)
		for i, p := range pipes {
			if r := mustParse(t, p).keys["k"]; len(r.had) != entries-1-i || !r.over {
				t.Fatalf("position %d: %d entries", i+1, len(r.had))
			}
		}
		if n := h.Stats().PageBytes; n != 0 {
			t.Errorf("%d bytes of pages are in hand of nobody", n)
		}
	})
}
