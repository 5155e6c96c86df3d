package rueidisstore

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// What no invalidation tells of, the sweep finds.
func TestTailSweep(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Tail.SweepInterval = 200 * time.Millisecond
	b := open(t, cfg)
	var followers []*witness
	for range 200 { // several slices
		w, stop := b.follow(b.create().ID, engine.EventID{})
		t.Cleanup(stop)
		followers = append(followers, w)
	}
	client := b.tail.nodes[""].client
	if err := client.Do(t.Context(), client.B().Arbitrary("CLIENT", "TRACKING", "OFF").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for _, w := range followers {
		b.append(w.taskID, message("m"))
	}
	for _, w := range followers {
		eventually(t, "the event", func() bool { _, n, _ := w.state(); return n == 1 })
	}
}

// However many follow a log, it is read once.
func TestTailLinesJoin(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	unbounded(&cfg)
	b := open(t, cfg)
	task := b.create()
	for i := range 300 {
		b.append(task.ID, message(fmt.Sprint(i)), message("x"))
	}
	page := b.read(task.ID, engine.EventID{}, 1000)
	var quit sync.WaitGroup
	done := make(chan struct{})
	quit.Go(func() {
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-done:
				return
			case <-pace.C:
				_, _ = b.try(task.ID, message("more"))
			}
		}
	})
	followers := map[*witness]engine.EventID{}
	for i := 0; i < len(page.Events); i += 7 {
		after := page.Events[i].ID
		w, stop := b.follow(task.ID, after)
		t.Cleanup(stop)
		followers[w] = after
	}
	lines := func() int {
		b.tail.mu.Lock()
		defer b.tail.mu.Unlock()
		n := 0
		for u := b.tail.units[b.keys.log(task.ID)]; u != nil; u = u.next {
			n++
		}
		return n
	}
	eventually(t, "one line, while events come", func() bool { return lines() == 1 })
	close(done)
	quit.Wait()
	b.append(task.ID, completed())
	for w, after := range followers {
		eventually(t, "the end", w.over)
		w.wantTail(b, after)
		if n := w.losses(); n > 0 {
			t.Errorf("%d losses", n)
		}
	}
}

// A line that is behind another does not join it: its followers would miss what
// lies between the two.
func TestTailLineBehindStays(t *testing.T) {
	id := func(ordinal uint64) engine.EventID { return engine.EventID{Millis: 1, Ordinal: ordinal} }
	f := &feed{key: "k"}
	tl := &tail{units: map[string]*unit{}}
	add := func(from engine.EventID) *line {
		l := &line{feed: f, tail: tl, from: from, atEnd: true}
		l.unit = unit{key: "k", read: l}
		l.followers = []*follower{{feed: f, line: l, at: from}}
		f.lines = append(f.lines, l)
		return l
	}
	ahead, behind := add(id(9)), add(id(8))
	behind.join()
	if len(f.lines) != 2 {
		t.Fatal("a line that was behind has joined")
	}
	ahead.join()
	if len(f.lines) != 1 || len(behind.followers) != 2 || behind.followers[1].line != behind {
		t.Errorf("%d lines, %d followers", len(f.lines), len(behind.followers))
	}
}

// A connection that was replaced unseen: what it answers is not taken for
// granted, and nothing is lost or repeated.
func TestTailConnectionReplacedUnseen(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Tail.SweepInterval = time.Hour
	b := open(t, cfg)
	task := b.create()
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	for i := range 5 {
		b.tail.nodes[""].dials.Add(1)
		b.append(task.ID, message("m"))
		eventually(t, "an event", func() bool { _, n, lost := w.state(); return n == i+1 && lost == 0 })
	}
}

// stop is safe at any time: twice, from two goroutines, during pushes, after
// Close. Close ends all calls.
func TestTailStops(t *testing.T) {
	t.Parallel()
	b := open(t, testConfig(t))
	task := b.create()
	var writing sync.WaitGroup
	done := make(chan struct{})
	writing.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_, _ = b.try(task.ID, message("m"))
			}
		}
	})
	for range 100 {
		w := &witness{tb: t, taskID: task.ID, adrift: true}
		stop, err := b.Follow(t.Context(), task.ID, b.read(task.ID, engine.EventID{}, 1).Last, w)
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				stop()
				w.mu.Lock()
				w.stopped = true
				w.mu.Unlock()
			})
		}
		both.Wait()
		stop()
	}
	b.wantIdle()
	w, stop := b.follow(task.ID, b.read(task.ID, engine.EventID{}, 1).Last)
	for range 5 { // Follow and Close at once
		writing.Go(func() {
			if _, stop, err := b.tryFollow(task.ID, engine.EventID{}); err == nil {
				stop()
			} else if engine.CodeOf(err) != engine.CodeStoreUnavailable {
				t.Errorf("Follow during Close: %v", err)
			}
		})
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	close(done)
	writing.Wait()
	stop()
	if _, _, err := b.tryFollow(task.ID, engine.EventID{}); engine.CodeOf(err) != engine.CodeStoreUnavailable {
		t.Errorf("Follow after Close: %v", err)
	}
	b.wantIdle()
}

// A log far larger than a round comes in order and whole, beside small ones.
func TestTailLargeLog(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	unbounded(&cfg)
	b := open(t, cfg)
	large, small := b.create(), b.create()
	text := strings.Repeat("x", 50_000)
	for range 100 {
		b.append(large.ID, message(text), message(text))
	}
	w, stop := b.follow(large.ID, engine.EventID{})
	defer stop()
	v, stopSmall := b.follow(small.ID, engine.EventID{})
	defer stopSmall()
	b.append(small.ID, completed())
	eventually(t, "a small log beside it", v.over)
	b.append(large.ID, completed())
	eventually(t, "a large log", w.over)
	w.wantTail(b, engine.EventID{})
}

// Followed tasks are cheap.
func TestTailMemory(t *testing.T) {
	const tasks = 2000
	b := open(t, testConfig(t))
	ids := make([]string, tasks)
	for i := range ids {
		ids[i] = b.create().ID
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	stops := make([]func(), tasks)
	var group sync.WaitGroup
	for part := range 20 {
		group.Go(func() {
			for i := part; i < tasks; i += 20 {
				stop, err := b.Follow(t.Context(), ids[i], engine.EventID{}, nobody{})
				if err != nil {
					t.Error(err)
					stop = func() {}
				}
				stops[i] = stop
			}
		})
	}
	group.Wait()
	each := (int64(heap()) - int64(before)) / tasks
	t.Logf("%d bytes each", each)
	if each > 2048 {
		t.Errorf("a followed task takes %d bytes, want at most 2048", each)
	}
	for _, stop := range stops {
		stop()
	}
	b.wantIdle()
}

// nobody is a follower that does not listen.
type nobody struct{}

func (nobody) Push([]engine.Event) {}
func (nobody) Lost()               {}
