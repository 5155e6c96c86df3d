package fanout

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// merging is a source whose entries are joined, with a plus between bodies.
type merging struct {
	*memSource
	calls int
}

func (m *merging) Merge(entries []Entry, room int) (Entry, int) {
	m.calls++
	e := entries[0]
	body := bytes.Clone(e.Body)
	n := 1
	for n < len(entries) && !entries[n].Final && len(body)+1+len(entries[n].Body) <= room {
		body = append(append(body, '+'), entries[n].Body...)
		e.ID = entries[n].ID
		n++
	}
	return Entry{ID: e.ID, Body: body, Final: n == 1 && e.Final}, n
}

// received reads what a pipe got: the number of writes' entries, and the bodies
// in a row.
func received(p *pipe) (entries int, last ID, bodies string) {
	var all []string
	for line := range strings.Lines(p.text()) {
		var key, body string
		var id ID
		var final int
		if n, _ := fmt.Sscanf(line, "E %s %d %d %d %s", &key, &id.Millis, &id.Ordinal, &final, &body); n < 5 {
			continue
		}
		entries, last = entries+1, id
		all = append(all, body)
	}
	return entries, last, strings.Join(all, "+")
}

// TestSlowSubscriberGetsMergedEntries: from the ring and from pages, and only
// it; what there is in all is the same.
func TestSlowSubscriberGetsMergedEntries(t *testing.T) {
	for _, ring := range []int{4 << 20, 1} {
		synctest.Test(t, func(t *testing.T) {
			src := &merging{memSource: newSource()}
			h := mustHub(t, Config{Loops: 1, RingBytes: ring, FlushBytes: 2000}, src)
			defer closeHub(t, h)
			fast, slow := attach(h, -1, OutletConfig{}), attach(h, 300, OutletConfig{})
			fast.out.FollowMerged("k", ID{}, nil)
			slow.out.FollowMerged("k", ID{}, nil)
			unmerged := attach(h, 300, OutletConfig{})
			unmerged.out.Follow("other", ID{}, nil)
			for range 1000 {
				src.append("k", 1, 10, false)
				src.append("other", 1, 10, false)
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			for range 4 {
				slow.open(5000)
				unmerged.open(5000)
				time.Sleep(time.Second)
			}
			synctest.Wait()
			n, last, want := received(fast)
			if n != 1000 || last.Ordinal != 1000 {
				t.Errorf("ring %d: who keeps up got %d entries", ring, n)
			}
			n, last, got := received(slow)
			if n > 200 || last.Ordinal != 1000 || got != want {
				t.Errorf("ring %d: the slow one got %d entries up to %d, all of it %v", ring, n, last.Ordinal, got == want)
			}
			if n, last, _ := received(unmerged); n > 900 || last.Ordinal > 900 {
				t.Errorf("ring %d: without merging the slow one got %d entries up to %d", ring, n, last.Ordinal)
			}

			// Who has caught up sees every entry again.
			for range 10 {
				src.append("k", 1, 10, false)
				time.Sleep(time.Second)
				slow.open(100)
			}
			synctest.Wait()
			if again, last, _ := received(slow); again-n != 10 || last.Ordinal != 1010 {
				t.Errorf("ring %d: it got %d entries of 10, up to %d", ring, again-n, last.Ordinal)
			}
		})
	}
}

// TestWhoCatchesUpAtOnceGetsEveryEntry: a long replay through a sink that is
// full again and again, and soon takes more, is not merged.
func TestWhoCatchesUpAtOnceGetsEveryEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &merging{memSource: newSource()}
		h := mustHub(t, Config{FlushBytes: 2000}, src)
		defer closeHub(t, h)
		src.append("k", 1000, 10, false)
		p := attach(h, 0, OutletConfig{})
		p.out.FollowMerged("k", ID{}, []byte("opening\n"))
		time.Sleep(time.Second) // the sink does not take the first byte yet
		for range 100 {
			p.open(500)
			time.Sleep(2 * time.Millisecond)
		}
		p.open(-1)
		time.Sleep(time.Second)
		synctest.Wait()
		if n, _, _ := received(p); n != 1000 {
			t.Errorf("%d entries of 1000", n)
		}
		if p.out.errand != &noErrand {
			t.Errorf("%+v", *p.out.errand)
		}
	})
}

// TestMergedEntriesAreShared: slow subscribers at one cursor share the bytes.
func TestMergedEntriesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &merging{memSource: newSource()}
		h := mustHub(t, Config{Loops: 1}, src)
		defer closeHub(t, h)
		var pipes []*pipe
		for range 100 {
			p := attach(h, 50, OutletConfig{})
			p.out.FollowMerged("k", ID{}, nil)
			pipes = append(pipes, p)
		}
		time.Sleep(time.Second)
		src.append("k", 10, 10, false)
		time.Sleep(time.Second)
		src.append("k", 1000, 10, false)
		time.Sleep(time.Second)
		for _, p := range pipes {
			p.open(-1)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if src.calls > 4 {
			t.Errorf("merged %d times", src.calls)
		}
		for _, p := range pipes {
			if _, last, _ := received(p); last.Ordinal != 1010 {
				t.Fatalf("at %d", last.Ordinal)
			}
		}
	})
}
