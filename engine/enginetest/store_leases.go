package enginetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var leaseTests = []storeTest{
	{"one holder at a time, and fences that grow", testAcquire, false},
	{"what cannot be held", testAcquireRefused, false},
	{"of many who acquire, one holds", testAcquireRace, false},
	{"a lease that ran out is anybody's", testAcquireExpired, false},
	{"an append with an older fence is refused", testFence, false},
	{"a terminal event ends the lease", testLeaseEnds, false},
	{"renewal says what is lost", testRenew, false},
	{"a lease that ran out is renewed if nobody took it", testRenewLate, false},
	{"who renews is no orphan", testRenewed, true},
	{"orphans are those whose lease ran out", testOrphans, false},
	{"an orphan is offered to one at a time", testOrphansOnce, false},
	{"a limit bounds what is offered, not what is found", testOrphansLimit, false},
	{"a lease that is released for others makes an orphan at once", testReleaseOrphan, false},
	{"a task that nobody opens in time is an orphan", testOpenWithin, false},
	{"takeovers in a row are counted", testTakeovers, true},
	{"who is to be cancelled while nobody holds it is an orphan", testCancelledOrphan, true},
	{"an orphan says how long it waits", testOrphanWaits, true},
	{"an answer says how long nobody has held its task", testAnswerWaits, true},
}

const (
	// longTTL does not run out in a test; shortTTL does, soon.
	longTTL  = time.Minute
	shortTTL = 150 * time.Millisecond
)

func (f *fixture) leases() engine.Leases     { return f.store.(engine.Leases) }
func (f *fixture) peerLeases() engine.Leases { return f.peer.(engine.Leases) }

func (f *fixture) acquire(node engine.Leases, taskID, holder string, ttl time.Duration) uint64 {
	f.Helper()
	fence, err := node.Acquire(f.ctx(), taskID, holder, ttl)
	if err != nil {
		f.Fatalf("Acquire for %s: %v", holder, err)
	}
	if fence == 0 {
		f.Fatal("Acquire gave the fence 0")
	}
	return fence
}

func (f *fixture) release(taskID, holder string) {
	f.Helper()
	if err := f.leases().Release(f.ctx(), taskID, holder, false); err != nil {
		f.Fatalf("Release: %v", err)
	}
}

func (f *fixture) renew(holder string, ttl time.Duration, taskIDs ...string) (lost []string) {
	f.Helper()
	lost, err := f.leases().Renew(f.ctx(), holder, taskIDs, ttl)
	if err != nil {
		f.Fatalf("Renew: %v", err)
	}
	return lost
}

func testAcquire(f *fixture) {
	task := f.create()
	first := f.acquire(f.leases(), task.ID, "a", longTTL)
	if again := f.acquire(f.leases(), task.ID, "a", longTTL); again != first {
		f.Errorf("the holder's fence became %d from %d", again, first)
	}
	_, err := f.peerLeases().Acquire(f.ctx(), task.ID, "b", longTTL)
	f.wantCode("Acquire of what another holds", err, engine.CodeTaskConflict)
	f.release(task.ID, "b") // not b's to release
	_, err = f.peerLeases().Acquire(f.ctx(), task.ID, "b", longTTL)
	f.wantCode("Acquire after a stranger's Release", err, engine.CodeTaskConflict)
	f.release(task.ID, "a")
	second := f.acquire(f.peerLeases(), task.ID, "b", longTTL)
	if second <= first {
		f.Errorf("the second holder's fence is %d, the first one's %d", second, first)
	}
	f.release(task.ID, "b")
	if third := f.acquire(f.leases(), task.ID, "a", longTTL); third <= second {
		f.Errorf("the third fence is %d, the second %d", third, second)
	}
	if got := f.get(task.ID); got.Status != engine.StatusAccepted || !got.UpdatedAt.Equal(task.UpdatedAt) {
		f.Errorf("leases changed the record: %s, %v", got.Status, got.UpdatedAt)
	}
}

func testAcquireRefused(f *fixture) {
	_, err := f.leases().Acquire(f.ctx(), "unknown000000000", "a", longTTL)
	f.wantCode("Acquire of an unknown task", err, engine.CodeTaskNotFound)
	over := f.create()
	f.append(over.ID, completed())
	_, err = f.leases().Acquire(f.ctx(), over.ID, "a", longTTL)
	f.wantCode("Acquire of a task that is over", err, engine.CodeTaskAlreadyTerminal)
	erased := f.create()
	f.acquire(f.leases(), erased.ID, "a", longTTL)
	if err := f.store.Erase(f.ctx(), erased.ID); err != nil {
		f.Fatal(err)
	}
	_, err = f.leases().Acquire(f.ctx(), erased.ID, "a", longTTL)
	f.wantCode("Acquire of an erased task", err, engine.CodeTaskNotFound)
	for _, id := range []string{over.ID, erased.ID, "unknown000000000"} {
		f.release(id, "a")
	}
}

func testAcquireRace(f *fixture) {
	for range 10 {
		task := f.create()
		const n = 16
		fences := make([]uint64, n)
		var line starter
		var group sync.WaitGroup
		for i := range n {
			node := []engine.Leases{f.leases(), f.peerLeases()}[i%2]
			group.Go(func() {
				line.wait()
				fence, err := node.Acquire(f.ctx(), task.ID, fmt.Sprint("holder-", i), longTTL)
				if err == nil {
					fences[i] = fence
				} else if engine.CodeOf(err) != engine.CodeTaskConflict {
					f.Errorf("Acquire: %v", err)
				}
			})
		}
		line.start()
		group.Wait()
		if held := len(slices.DeleteFunc(fences, func(fence uint64) bool { return fence == 0 })); held != 1 {
			f.Fatalf("%d hold the task", held)
		}
	}
}

func testAcquireExpired(f *fixture) {
	task := f.create()
	first := f.acquire(f.leases(), task.ID, "a", shortTTL)
	var second uint64
	eventually(f.T, "the lease runs out", func() bool {
		fence, err := f.peerLeases().Acquire(f.ctx(), task.ID, "b", longTTL)
		second = fence
		if err != nil {
			f.wantCode("Acquire of what another holds", err, engine.CodeTaskConflict)
		}
		return err == nil
	})
	if second <= first {
		f.Errorf("the second holder's fence is %d, the first one's %d", second, first)
	}
	if lost := f.renew("a", longTTL, task.ID); !slices.Equal(lost, []string{task.ID}) {
		f.Errorf("the first holder lost %v", lost)
	}
}

func testFence(f *fixture) {
	task := f.create()
	add := func(node engine.Store, token string, fence uint64, drafts ...engine.Draft) ([]engine.EventID, error) {
		return node.Append(f.ctx(), engine.Append{TaskID: task.ID, Token: token, Fence: fence, Events: drafts})
	}
	old := f.acquire(f.leases(), task.ID, "a", longTTL)
	ids, err := add(f.store, "t1", old, started())
	if err != nil {
		f.Fatalf("the holder's Append: %v", err)
	}
	f.release(task.ID, "a")
	if _, err := add(f.store, "t2", old, message("still")); err != nil {
		f.Errorf("Append after a release that nobody followed: %v", err)
	}
	current := f.acquire(f.peerLeases(), task.ID, "b", longTTL)
	_, err = add(f.store, "t3", old, message("late"))
	f.wantCode("Append with an older fence", err, engine.CodeTaskConflict)
	_, err = add(f.peer, "t3", old, completed())
	f.wantCode("a terminal Append with an older fence", err, engine.CodeTaskConflict)
	again, err := add(f.peer, "t1", old, started())
	if err != nil || !slices.Equal(again, ids) {
		f.Errorf("a repeat with an older fence gave %v, %v, want %v", again, err, ids)
	}
	if _, err := add(f.store, "t4", current, message("mine")); err != nil {
		f.Errorf("the new holder's Append: %v", err)
	}
	if _, err := add(f.store, "t5", 0, message("anybody's")); err != nil {
		f.Errorf("Append without a fence: %v", err)
	}
	if n := len(f.log(task.ID)); n != 4 {
		f.Errorf("the log has %d events, want 4", n)
	}
	if _, err := add(f.store, "t6", current, completed()); err != nil {
		f.Errorf("the new holder's end: %v", err)
	}
	for _, fence := range []uint64{0, old, current} {
		_, err := add(f.store, fmt.Sprint("t7-", fence), fence, message("after"))
		f.wantCode("Append after the end", err, engine.CodeTaskAlreadyTerminal)
	}
}

func testLeaseEnds(f *fixture) {
	var ids []string
	for _, fenced := range []bool{true, false} {
		task := f.create()
		fence := f.acquire(f.leases(), task.ID, "a", shortTTL)
		if !fenced {
			fence = 0
		}
		if _, err := f.store.Append(f.ctx(), engine.Append{
			TaskID: task.ID, Token: "t", Fence: fence, Events: []engine.Draft{completed()},
		}); err != nil {
			f.Fatal(err)
		}
		ids = append(ids, task.ID)
	}
	if lost := f.renew("a", shortTTL, ids...); !sameIDs(lost, ids) {
		f.Errorf("Renew of ended tasks lost %v, want %v", lost, ids)
	}
	f.noOrphans(ids...)
}

func sameIDs(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func testRenew(f *fixture) {
	mine, others, released, over, erased := f.create(), f.create(), f.create(), f.create(), f.create()
	for _, task := range []engine.Task{mine, released, over, erased} {
		f.acquire(f.leases(), task.ID, "a", longTTL)
	}
	f.acquire(f.leases(), others.ID, "b", longTTL)
	f.release(released.ID, "a")
	f.append(over.ID, completed())
	if err := f.store.Erase(f.ctx(), erased.ID); err != nil {
		f.Fatal(err)
	}
	lost := f.renew("a", longTTL, mine.ID, others.ID, released.ID, over.ID, erased.ID, "unknown000000000")
	if want := []string{others.ID, released.ID, over.ID, erased.ID, "unknown000000000"}; !sameIDs(lost, want) {
		f.Errorf("lost %v, want %v", lost, want)
	}
	if lost := f.renew("a", longTTL); len(lost) != 0 {
		f.Errorf("Renew of nothing lost %v", lost)
	}
	// A renewal does not bring back what was released.
	f.acquire(f.peerLeases(), released.ID, "c", longTTL)
}

func testRenewLate(f *fixture) {
	task := f.create()
	fence := f.acquire(f.leases(), task.ID, "a", shortTTL)
	eventually(f.T, "an orphan", func() bool { return slices.Contains(f.orphans(f.peerLeases(), 10), task.ID) })
	if lost := f.renew("a", longTTL, task.ID); len(lost) != 0 {
		f.Fatalf("a late renewal lost %v", lost)
	}
	_, err := f.peerLeases().Acquire(f.ctx(), task.ID, "b", longTTL)
	f.wantCode("Acquire after a late renewal", err, engine.CodeTaskConflict)
	if _, err := f.store.Append(f.ctx(), engine.Append{
		TaskID: task.ID, Token: "t", Fence: fence, Events: []engine.Draft{started()},
	}); err != nil {
		f.Errorf("Append after a late renewal: %v", err)
	}
	if again := f.acquire(f.leases(), task.ID, "a", longTTL); again != fence {
		f.Errorf("the fence is %d, was %d", again, fence)
	}
}

func testRenewed(f *fixture) {
	live, dead := f.create(), f.create()
	const ttl = 2 * time.Second
	f.acquire(f.leases(), live.ID, "a", ttl)
	f.acquire(f.leases(), dead.ID, "b", ttl)
	renewed := time.Now()
	eventually(f.T, "the other's lease runs out", func() bool {
		if time.Since(renewed) > ttl/10 {
			renewed = time.Now()
			if lost := f.renew("a", ttl, live.ID); len(lost) > 0 {
				f.Fatal("a lease that was renewed in time is lost")
			}
		}
		got := f.orphans(f.peerLeases(), 10)
		if slices.Contains(got, live.ID) {
			f.Fatal("a lease that was renewed in time has an orphan")
		}
		return slices.Contains(got, dead.ID)
	})
}
