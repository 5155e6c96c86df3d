package enginetest

import (
	"slices"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func (f *fixture) orphans(node engine.Leases, limit int) []string {
	f.Helper()
	found, err := node.Orphans(f.ctx(), limit)
	if err != nil {
		f.Fatalf("Orphans: %v", err)
	}
	if len(found) > limit {
		f.Fatalf("Orphans gave %d tasks, the limit is %d", len(found), limit)
	}
	return idsOf(found)
}

func idsOf(orphans []engine.Orphan) (ids []string) {
	for _, o := range orphans {
		ids = append(ids, o.TaskID)
	}
	return ids
}

// noOrphans fails if one of ids is named before the lease of another task, which
// ran out later, is.
func (f *fixture) noOrphans(ids ...string) {
	f.Helper()
	later := f.create()
	f.acquire(f.leases(), later.ID, "dead", shortTTL)
	eventually(f.T, "an orphan", func() bool {
		got := append(f.orphans(f.leases(), 100), f.orphans(f.peerLeases(), 100)...)
		for _, id := range ids {
			if slices.Contains(got, id) {
				f.Fatalf("%s is an orphan", id)
			}
		}
		return slices.Contains(got, later.ID)
	})
}

func testOrphans(f *fixture) {
	never, released, ended, long := f.create(), f.create(), f.create(), f.create()
	f.append(never.ID, started())
	for _, task := range []engine.Task{released, ended} {
		f.acquire(f.leases(), task.ID, "a", shortTTL)
	}
	f.acquire(f.leases(), long.ID, "a", longTTL)
	f.release(released.ID, "a")
	f.append(ended.ID, completed())
	f.noOrphans(never.ID, released.ID, ended.ID, long.ID)
}

func testOrphansOnce(f *fixture) {
	const n = 40
	for range n {
		f.acquire(f.leases(), f.create().ID, "dead", shortTTL)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	start := time.Now()
	eventually(f.T, "all orphans", func() bool {
		var group sync.WaitGroup
		for i := range 4 {
			node := []engine.Leases{f.leases(), f.peerLeases()}[i%2]
			group.Go(func() {
				ids, err := node.Orphans(f.ctx(), 10)
				if err != nil {
					f.Errorf("Orphans: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, id := range idsOf(ids) {
					seen[id]++
				}
			})
		}
		group.Wait()
		return len(seen) == n
	})
	for id, times := range seen {
		if times > 1 && time.Since(start) < 2*time.Second { // later they may be offered again
			f.Errorf("%s was offered %d times", id, times)
		}
	}
}

func testOrphansLimit(f *fixture) {
	const n = 9
	want := map[string]bool{}
	for range n {
		task := f.create()
		f.acquire(f.leases(), task.ID, "dead", shortTTL)
		want[task.ID] = true
	}
	eventually(f.T, "all orphans, two at a time", func() bool {
		for _, id := range f.orphans(f.leases(), 2) {
			delete(want, id)
			f.acquire(f.peerLeases(), id, "heir", longTTL)
		}
		return len(want) == 0
	})
}

func testReleaseOrphan(f *fixture) {
	task, other := f.create(), f.create()
	first := f.acquire(f.leases(), task.ID, "a", longTTL)
	f.acquire(f.leases(), other.ID, "b", longTTL)
	for _, id := range []string{task.ID, other.ID, "unknown000000000"} {
		if err := f.leases().Release(f.ctx(), id, "a", true); err != nil {
			f.Errorf("Release of %s: %v", id, err)
		}
	}
	start := time.Now()
	var got []string
	eventually(f.T, "an orphan", func() bool {
		got = append(got, f.orphans(f.peerLeases(), 10)...)
		return len(got) > 0
	})
	if took := time.Since(start); took > felt || !slices.Equal(got, []string{task.ID}) {
		f.Errorf("orphans are %v after %v, want %s", got, took, task.ID)
	}
	if second := f.acquire(f.peerLeases(), task.ID, "b", longTTL); second <= first {
		f.Errorf("the second fence is %d, the first %d", second, first)
	}
	f.noOrphans(task.ID, other.ID)
	// An append ends it, too.
	if err := f.peerLeases().Release(f.ctx(), task.ID, "b", true); err != nil {
		f.Fatal(err)
	}
	f.append(task.ID, completed())
	f.noOrphans(task.ID)
}

func testOpenWithin(f *fixture) {
	create := func(within time.Duration) engine.Task {
		d := f.draftTask()
		d.OpenWithin, d.Restartable = within, true
		task, created, err := f.store.Create(f.ctx(), d)
		if err != nil || !created {
			f.Fatalf("Create: created %v, %v", created, err)
		}
		if task.OpenWithin != 0 || !task.Restartable {
			f.Errorf("created is %+v", task)
		}
		if got, err := f.peer.Get(f.ctx(), task.ID, engine.Fresh); err != nil || got.OpenWithin != 0 || !got.Restartable {
			f.Errorf("the record is %+v, %v", got, err)
		}
		return task
	}
	// A lease that nobody has keeps nobody out.
	opened, late := create(shortTTL), create(shortTTL)
	ended, long := create(shortTTL), create(longTTL)
	f.acquire(f.peerLeases(), opened.ID, "a", longTTL)
	f.append(ended.ID, failure("X"))
	var got []string
	eventually(f.T, "an orphan", func() bool {
		got = append(got, f.orphans(f.peerLeases(), 10)...)
		return len(got) > 0
	})
	if !slices.Equal(got, []string{late.ID}) {
		f.Errorf("orphans are %v, want %s", got, late.ID)
	}
	f.acquire(f.leases(), late.ID, "a", longTTL)
	f.noOrphans(opened.ID, late.ID, ended.ID, long.ID)
}

func testTakeovers(f *fixture) {
	task := f.create()
	orphan := func(want int, released bool) {
		f.Helper()
		eventually(f.T, "an orphan", func() bool {
			found, err := f.peerLeases().Orphans(f.ctx(), 10)
			if err != nil {
				f.Fatal(err)
			}
			if len(found) == 0 {
				return false
			}
			if o := found[0]; len(found) != 1 || o.TaskID != task.ID || o.Takeovers != want || o.Released != released {
				f.Fatalf("orphans are %+v, want %s with %d, released %v", found, task.ID, want, released)
			}
			return true
		})
	}
	f.acquire(f.leases(), task.ID, "a", shortTTL)
	orphan(0, false)
	f.acquire(f.leases(), task.ID, "a", shortTTL) // its own, late
	f.acquire(f.leases(), task.ID, "a", shortTTL)
	for i, holder := range []string{"b", "c", "d"} {
		eventually(f.T, "the lease runs out", func() bool {
			_, err := f.leases().Acquire(f.ctx(), task.ID, holder, shortTTL)
			return err == nil
		})
		if i == 2 {
			orphan(3, false)
		}
	}
	f.acquire(f.leases(), task.ID, "d", shortTTL)
	if err := f.leases().Release(f.ctx(), task.ID, "d", true); err != nil {
		f.Fatal(err)
	}
	orphan(0, true)
	f.acquire(f.leases(), task.ID, "e", shortTTL)
	f.release(task.ID, "e")
	f.acquire(f.leases(), task.ID, "f", shortTTL)
	orphan(0, false)
}
