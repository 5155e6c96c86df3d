package enginetest

import (
	"slices"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// restartable creates a task that may be run again.
func (f *fixture) restartable() engine.Task {
	f.Helper()
	d := f.draftTask()
	d.Restartable = true
	task, created, err := f.store.Create(f.ctx(), d)
	if err != nil || !created {
		f.Fatalf("Create: created %v, %v", created, err)
	}
	return task
}

// awaitOrphan waits until a task is named, and gives what was said of it.
func (f *fixture) awaitOrphan(taskID string) (o engine.Orphan) {
	f.Helper()
	eventually(f.T, "an orphan", func() bool {
		found, err := f.peerLeases().Orphans(f.ctx(), 100)
		if err != nil {
			f.Fatal(err)
		}
		i := slices.IndexFunc(found, func(o engine.Orphan) bool { return o.TaskID == taskID })
		if i >= 0 {
			o = found[i]
		}
		return i >= 0
	})
	return o
}

// A task that waits and that nobody holds is to be cancelled: no run would hear of
// it, so it becomes an orphan, whichever comes first.
func testCancelledOrphan(f *fixture) {
	cancel := func(taskID string) {
		f.Helper()
		task, err := f.peer.RequestCancel(f.ctx(), taskID, "enough")
		if err != nil || task.CancelRequested == task.Status.Terminal() {
			f.Fatalf("RequestCancel: %+v, %v", task, err)
		}
	}
	released, cancelled := f.restartable(), f.restartable()
	for _, task := range []engine.Task{released, cancelled} {
		f.acquire(f.leases(), task.ID, "a", longTTL)
		f.append(task.ID, started(), asking("s", time.Time{}, nil))
	}
	f.release(released.ID, "a")
	cancel(released.ID)
	cancel(released.ID) // again
	cancel(cancelled.ID)
	f.release(cancelled.ID, "a")
	// None of these is one.
	plain, held, ended, asked := f.create(), f.restartable(), f.restartable(), f.restartable()
	for _, task := range []engine.Task{plain, held, ended, asked} {
		f.acquire(f.leases(), task.ID, "a", longTTL)
	}
	f.release(plain.ID, "a")
	f.append(ended.ID, completed())
	f.release(asked.ID, "a")
	for _, task := range []engine.Task{plain, held, ended} {
		cancel(task.ID)
	}
	want := map[string]bool{released.ID: true, cancelled.ID: true}
	eventually(f.T, "both are orphans", func() bool {
		for _, id := range f.orphans(f.peerLeases(), 100) {
			if !want[id] {
				f.Errorf("%s is an orphan", id)
			}
			// Whoever ends it acquires it first.
			fence := f.acquire(f.peerLeases(), id, "reaper", longTTL)
			_, err := f.peer.Append(f.ctx(), engine.Append{
				TaskID: id, Token: f.token(), Fence: fence, Events: []engine.Draft{failure("X")},
			})
			f.wantCode("the end", err, "")
			delete(want, id)
		}
		return len(want) == 0
	})
	f.noOrphans(released.ID, cancelled.ID, plain.ID, held.ID, ended.ID, asked.ID)
}

// An orphan that nobody takes says for how long; whoever held it in between begins
// that anew.
func testOrphanWaits(f *fixture) {
	task := f.create()
	begin := func(holder string) {
		f.acquire(f.leases(), task.ID, holder, longTTL)
		if err := f.leases().Release(f.ctx(), task.ID, holder, true); err != nil {
			f.Fatal(err)
		}
	}
	begin("a")
	start := time.Now()
	if o := f.awaitOrphan(task.ID); o.Waited != 0 {
		f.Errorf("the first time it has waited for %v", o.Waited)
	}
	first := time.Now()
	o := f.awaitOrphan(task.ID)
	if least, most := time.Since(first)-felt, time.Since(start); o.Waited < min(least, time.Second) || o.Waited > most {
		f.Errorf("the second time it has waited for %v, not %v to %v", o.Waited, least, most)
	}
	if again := f.awaitOrphan(task.ID); again.Waited <= o.Waited {
		f.Errorf("the third time it has waited for %v, after %v", again.Waited, o.Waited)
	}
	begin("b")
	if o := f.awaitOrphan(task.ID); o.Waited != 0 {
		f.Errorf("after another has held it, it has waited for %v", o.Waited)
	}
}

// An answer that nobody takes says for how long nobody has held its task.
func testAnswerWaits(f *fixture) {
	if _, ok := f.store.(engine.ActionStore); !ok {
		f.Skip("the store is no ActionStore")
	}
	free, held := f.restartable(), f.restartable()
	for _, task := range []engine.Task{free, held} {
		f.acquire(f.leases(), task.ID, "a", longTTL)
		f.append(task.ID, started(), asking("of "+task.ID, time.Time{}, nil))
	}
	f.release(free.ID, "a")
	for _, task := range []engine.Task{free, held} {
		f.resolve(f.actions(), answer(task.ID, "of "+task.ID, "c", "approve", `{}`), engine.VerdictAccepted)
	}
	start := time.Now()
	last := map[string]time.Duration{}
	times := map[string]int{}
	eventually(f.T, "both are offered three times", func() bool {
		_, all := f.due(10)
		for _, d := range all {
			switch n := times[d.TaskID]; {
			case d.TaskID == held.ID && d.Waited != 0, n == 0 && d.Waited != 0:
				f.Errorf("offer %d: it has waited for %v", n+1, d.Waited)
			case d.TaskID == free.ID && n > 0 && (d.Waited <= last[d.TaskID] || d.Waited > time.Since(start)):
				f.Errorf("offer %d: it has waited for %v, before that %v", n+1, d.Waited, last[d.TaskID])
			}
			times[d.TaskID]++
			last[d.TaskID] = d.Waited
		}
		return times[free.ID] >= 3 && times[held.ID] >= 3
	})
}
