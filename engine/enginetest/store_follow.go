package enginetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var followTests = []storeTest{
	{"what is stored comes first, then what is appended", testFollow, false},
	{"every position gives exactly the rest", testFollowEverywhere, false},
	{"following outlives the context of the call", testFollowContext, false},
	{"appenders and followers that come and go", testFollowRace, false},
	{"nothing comes after stop", testStop, false},
	{"erase loses the followers", testFollowErase, false},
	{"one follower more or less changes nothing for another", testFollowMany, false},
}

func (f *fixture) follow(node engine.Store, taskID string, after engine.EventID) (*collector, func()) {
	f.Helper()
	c := newCollector(f.T, taskID, after)
	stop, err := node.Follow(f.ctx(), taskID, after, c)
	if err != nil {
		f.Fatalf("Follow: %v", err)
	}
	return c, func() { c.stop(stop) }
}

func (c *collector) wantLog(t *testing.T, what string, want []engine.Event) {
	t.Helper()
	got, lost := c.collected()
	if lost != 0 {
		t.Errorf("%s: Lost was called %d times", what, lost)
	}
	sameEvents(t, what, got, want)
}

func testFollow(f *fixture) {
	task := f.create()
	early, stopEarly := f.follow(f.peer, task.ID, engine.EventID{})
	defer stopEarly()
	f.append(task.ID, started(), message("a"))
	late, stopLate := f.follow(f.store, task.ID, engine.EventID{})
	defer stopLate()
	f.messages(task.ID, 3)
	f.append(task.ID, message("z"), completed())
	after, stopAfter := f.follow(f.peer, task.ID, engine.EventID{})
	defer stopAfter()
	log := f.log(task.ID)
	for what, c := range map[string]*collector{"from the start": early, "from the middle": late, "after the end": after} {
		c.waitFor(what+": the terminal event", c.over)
		c.wantLog(f.T, what, log)
	}
}

func testFollowEverywhere(f *fixture) {
	task := f.create()
	f.append(task.ID, started(), message("1"), message("2"))
	f.messages(task.ID, 3)
	stored := f.log(task.ID)
	collectors := make([]*collector, len(stored)+1)
	for i := range collectors {
		var after engine.EventID
		if i > 0 {
			after = stored[i-1].ID
		}
		c, stop := f.follow([]engine.Store{f.store, f.peer}[i%2], task.ID, after)
		defer stop()
		collectors[i] = c
	}
	f.append(task.ID, message("last"), completed())
	log := f.log(task.ID)
	for i, c := range collectors {
		c.waitFor("the terminal event", c.over)
		c.wantLog(f.T, fmt.Sprintf("after event %d", i), log[i:])
	}
}

func testFollowContext(f *fixture) {
	task := f.create()
	ctx, cancel := context.WithCancel(f.ctx())
	c := newCollector(f.T, task.ID, engine.EventID{})
	stop, err := f.store.Follow(ctx, task.ID, engine.EventID{}, c)
	if err != nil {
		f.Fatal(err)
	}
	defer stop()
	cancel()
	f.append(task.ID, started())
	c.waitFor("an event after the context's end", c.has(1))
}

func testFollowRace(f *fixture) {
	const writers, batches, followers, rounds = 4, 50, 6, 12
	task := f.create()
	var writing, following sync.WaitGroup
	for w := range writers {
		node := []engine.Store{f.store, f.peer}[w%2]
		writing.Go(func() {
			for b := range batches {
				var drafts []engine.Draft
				for range 1 + (w+b)%4 {
					drafts = append(drafts, message("m"))
				}
				if _, err := node.Append(f.ctx(), engine.Append{TaskID: task.ID, Token: f.token(), Events: drafts}); err != nil {
					f.Error(err)
				}
			}
		})
	}
	// Each follower leaves and comes back where it was, and keeps what it got.
	got := make([][]engine.Event, followers)
	for i := range followers {
		node := []engine.Store{f.store, f.peer}[i%2]
		following.Go(func() {
			var after engine.EventID
			for round := range rounds + 1 {
				c := newCollector(f.T, task.ID, after)
				stop, err := node.Follow(f.ctx(), task.ID, after, c)
				if err != nil {
					f.Error(err)
					return
				}
				if round == rounds {
					c.waitFor("the terminal event", c.over)
				} else {
					c.waitFor("some events", func() bool { return len(c.events) >= 10*(i+1) || c.over() })
				}
				c.stop(stop)
				events, lost := c.collected()
				if lost != 0 {
					f.Error("events were lost")
				}
				got[i] = append(got[i], events...)
				if n := len(events); n > 0 {
					after = events[n-1].ID
				}
				if n := len(got[i]); n > 0 && got[i][n-1].Type.Terminal() {
					return
				}
			}
		})
	}
	writing.Wait()
	f.append(task.ID, completed())
	following.Wait()
	log := f.log(task.ID)
	checkDense(f.T, log, 1)
	for i := range got {
		sameEvents(f.T, fmt.Sprint("follower ", i), got[i], log)
	}
}

func testStop(f *fixture) {
	task := f.create()
	var group sync.WaitGroup
	quit := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-quit:
				return
			default:
				f.append(task.ID, message("m"))
			}
		}
	})
	for range 50 {
		p, err := f.store.Read(f.ctx(), task.ID, engine.EventID{}, 1)
		if err != nil {
			f.Fatal(err)
		}
		c, stop := f.follow(f.store, task.ID, p.Last)
		c.waitFor("an event", c.has(1))
		stop() // the collector complains about what comes after
	}
	close(quit)
	group.Wait()
}

func testFollowErase(f *fixture) {
	task := f.create()
	f.append(task.ID, started())
	here, stopHere := f.follow(f.store, task.ID, engine.EventID{})
	there, stopThere := f.follow(f.peer, task.ID, engine.EventID{})
	defer stopHere()
	defer stopThere()
	for _, c := range []*collector{here, there} {
		c.waitFor("the backlog", c.has(1))
	}
	if err := f.store.Erase(f.ctx(), task.ID); err != nil {
		f.Fatal(err)
	}
	for _, c := range []*collector{here, there} {
		c.waitFor("Lost after Erase", func() bool { return c.lost > 0 })
	}
}

func testFollowMany(f *fixture) {
	a, b := f.create(), f.create()
	onA, stopA := f.follow(f.store, a.ID, engine.EventID{})
	defer stopA()
	gone, stopGone := f.follow(f.store, a.ID, engine.EventID{})
	onB, stopB := f.follow(f.store, b.ID, engine.EventID{})
	defer stopB()
	f.append(a.ID, started())
	gone.waitFor("an event", gone.has(1))
	stopGone()
	f.append(b.ID, started(), completed())
	f.append(a.ID, completed())
	for c, id := range map[*collector]string{onA: a.ID, onB: b.ID} {
		c.waitFor("the terminal event", c.over)
		c.wantLog(f.T, "one of two tasks", f.log(id))
	}
}
