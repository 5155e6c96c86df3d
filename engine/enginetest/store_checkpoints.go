package enginetest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var checkpointTests = []storeTest{
	{"the newest one is kept", testCheckpoint, false},
	{"it is as of the newest event", testCheckpointAt, false},
	{"it is stored with its events or not at all", testCheckpointAtomic, false},
	{"of many at once one is the last", testCheckpointRace, false},
	{"a repeat saves nothing", testCheckpointRepeat, false},
	{"a repeat that is late saves nothing", testCheckpointLate, false},
	{"who lost the lease saves nothing", testCheckpointFence, true},
	{"it goes with the end of its task", testCheckpointEnd, false},
	{"an unknown task has none", testCheckpointUnknown, false},
	{"the record counts restarts", testRestarts, false},
}

// save appends drafts with a checkpoint and returns their ids.
func (f *fixture) save(taskID, data string, drafts ...engine.Draft) []engine.EventID {
	f.Helper()
	ids, err := f.trySave(taskID, data, 0, 0, drafts...)
	if err != nil || len(ids) != len(drafts) {
		f.Fatalf("Append of a checkpoint: %v, %v", ids, err)
	}
	return ids
}

func (f *fixture) trySave(taskID, data string, fence, number uint64, drafts ...engine.Draft) ([]engine.EventID, error) {
	return f.store.Append(f.ctx(), engine.Append{
		TaskID: taskID, Token: f.token(), Fence: fence, Events: drafts,
		Checkpoint: &engine.Checkpoint{Data: []byte(data), Number: number},
	})
}

// checkpoint is what both nodes say of the task's.
func (f *fixture) checkpoint(taskID string) engine.Checkpoint {
	f.Helper()
	var found [2]engine.Checkpoint
	for i, s := range []engine.Store{f.store, f.peer} {
		var err error
		if found[i], err = s.(engine.Checkpoints).Checkpoint(f.ctx(), taskID); err != nil {
			f.Fatalf("Checkpoint: %v", err)
		}
	}
	if string(found[0].Data) != string(found[1].Data) || found[0].At != found[1].At {
		f.Fatalf("one node has the checkpoint %+v, another %+v", found[0], found[1])
	}
	return found[0]
}

func (f *fixture) wantCheckpoint(taskID, data string, at engine.EventID) {
	f.Helper()
	if got := f.checkpoint(taskID); string(got.Data) != data || got.At != at {
		f.Errorf("the checkpoint is %.100q at %v, want %.100q at %v", got.Data, got.At, data, at)
	}
}

func testCheckpoint(f *fixture) {
	task, other := f.create(), f.create()
	f.wantCheckpoint(task.ID, "", engine.EventID{})
	at := f.append(task.ID, started())[0]
	f.wantCheckpoint(task.ID, "", engine.EventID{})
	large := `"` + strings.Repeat("ü\\u0000:", 8<<10) + `"`
	for _, data := range []string{`{"n":616581622363398142,"x":[1.0,1e400]}`, `null`, `0`, large, `{}`} {
		f.save(task.ID, data)
		f.wantCheckpoint(task.ID, data, at)
	}
	f.wantCheckpoint(other.ID, "", engine.EventID{})
	if log := f.log(task.ID); len(log) != 1 {
		f.Errorf("a checkpoint without events made %d", len(log)-1)
	}
}

func testCheckpointAt(f *fixture) {
	task := f.create()
	f.save(task.ID, `1`)
	f.wantCheckpoint(task.ID, `1`, engine.EventID{})
	ids := f.save(task.ID, `2`, started(), message("a"))
	f.wantCheckpoint(task.ID, `2`, ids[1])
	last := f.messages(task.ID, 3)[2]
	f.wantCheckpoint(task.ID, `2`, ids[1]) // events do not move it
	f.save(task.ID, `3`)
	f.wantCheckpoint(task.ID, `3`, last)
	if _, ok := f.store.(engine.ActionStore); ok {
		ids = f.save(task.ID, `4`, message("b"), suspended("s"))
		f.wantCheckpoint(task.ID, `4`, ids[1])
		if open := f.get(task.ID).Suspensions; len(open) != 1 {
			f.Errorf("%d suspensions", len(open))
		}
		closed := f.append(task.ID, accepted("s"))[0]
		f.save(task.ID, `5`)
		f.wantCheckpoint(task.ID, `5`, closed)
	}
	checkDense(f.T, f.log(task.ID), 1)
}

func testCheckpointAtomic(f *fixture) {
	task := f.create()
	at := f.save(task.ID, `"kept"`, started())[0]
	for what, drafts := range map[string][]engine.Draft{
		"a terminal event":               {completed()},
		"one in the middle of its batch": {completed(), message("m")},
	} {
		if _, err := f.trySave(task.ID, `"lost"`, 0, 0, drafts...); err == nil {
			f.Errorf("%s: no error", what)
		}
	}
	f.wantCheckpoint(task.ID, `"kept"`, at)
	if log := f.log(task.ID); len(log) != 1 {
		f.Errorf("%d events", len(log))
	}
}

func testCheckpointRace(f *fixture) {
	task := f.create()
	const n = 32
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		at    = map[string]engine.EventID{}
		start starter
	)
	for i := range n {
		store, data := f.store, fmt.Sprintf(`"w%d"`, i)
		if i%2 == 1 {
			store = f.peer
		}
		group.Go(func() {
			start.wait()
			ids, err := store.Append(f.ctx(), engine.Append{
				TaskID: task.ID, Token: data, Events: []engine.Draft{message("m"), message("n")}, Checkpoint: &engine.Checkpoint{Data: []byte(data)},
			})
			if err != nil || len(ids) != 2 {
				f.Errorf("Append: %v, %v", ids, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			at[data] = ids[1]
		})
	}
	start.start()
	group.Wait()
	got := f.checkpoint(task.ID)
	log := f.log(task.ID)
	if len(log) != 2*n || got.At != log[2*n-1].ID || got.At != at[string(got.Data)] {
		f.Errorf("the checkpoint is %s at %v; its events ended at %v, the log with %v", got.Data, got.At, at[string(got.Data)], log[len(log)-1].ID)
	}
}

func testCheckpointRepeat(f *fixture) {
	task := f.create()
	first := engine.Append{
		TaskID: task.ID, Token: "first", Events: []engine.Draft{message("a"), message("b")}, Checkpoint: &engine.Checkpoint{Data: []byte(`1`)},
	}
	ids, err := f.store.Append(f.ctx(), first)
	if err != nil {
		f.Fatal(err)
	}
	at := f.save(task.ID, `2`, message("c"))[0]
	again, err := f.peer.Append(f.ctx(), first)
	if err != nil || len(again) != 2 || again[0] != ids[0] || again[1] != ids[1] {
		f.Errorf("the repeat gave %v, %v, want %v", again, err, ids)
	}
	f.wantCheckpoint(task.ID, `2`, at)
	if log := f.log(task.ID); len(log) != 3 {
		f.Errorf("%d events", len(log))
	}
}

func testCheckpointLate(f *fixture) {
	if _, ok := f.store.(engine.Leases); !ok {
		f.Skip("without leases nothing comes late")
	}
	task := f.create()
	fence := f.acquire(f.leases(), task.ID, "a", longTTL)
	save := func(data string, fence, number uint64) {
		f.Helper()
		if _, err := f.trySave(task.ID, data, fence, number); err != nil {
			f.Fatal(err)
		}
	}
	save(`5`, fence, 5)
	save(`5`, fence, 5)
	save(`4`, fence, 4)
	f.wantCheckpoint(task.ID, `5`, engine.EventID{})
	at := f.append(task.ID, started())[0]
	save(`4`, fence, 4)
	f.wantCheckpoint(task.ID, `5`, engine.EventID{})
	save(`10`, fence, 10)
	f.wantCheckpoint(task.ID, `10`, at)
	// The next holder counts anew.
	f.release(task.ID, "a")
	save(`"b"`, f.acquire(f.peerLeases(), task.ID, "b", longTTL), 1)
	f.wantCheckpoint(task.ID, `"b"`, at)
}

func testCheckpointFence(f *fixture) {
	if _, ok := f.store.(engine.Leases); !ok {
		f.Skip("the store has no leases")
	}
	task := f.create()
	old := f.acquire(f.leases(), task.ID, "a", shortTTL)
	if _, err := f.trySave(task.ID, `"old"`, old, 1, started()); err != nil {
		f.Fatal(err)
	}
	var fence uint64
	eventually(f.T, "the lease runs out", func() bool {
		var err error
		fence, err = f.peerLeases().Acquire(f.ctx(), task.ID, "b", longTTL)
		return err == nil
	})
	at := f.log(task.ID)[0].ID
	f.wantCheckpoint(task.ID, `"old"`, at) // it outlives its holder
	_, err := f.trySave(task.ID, `"late"`, old, 2)
	f.wantCode("a checkpoint of the old holder", err, engine.CodeTaskConflict)
	_, err = f.trySave(task.ID, `"late"`, old, 3, message("m"))
	f.wantCode("one with an event", err, engine.CodeTaskConflict)
	f.wantCheckpoint(task.ID, `"old"`, at)
	if _, err := f.trySave(task.ID, `"new"`, fence, 1); err != nil {
		f.Fatal(err)
	}
	f.wantCheckpoint(task.ID, `"new"`, at)
	if log := f.log(task.ID); len(log) != 1 {
		f.Errorf("%d events", len(log))
	}
}

func testCheckpointEnd(f *fixture) {
	for _, end := range []engine.Draft{completed(), failure("X"), cancelled()} {
		task := f.create()
		f.save(task.ID, `1`, started())
		f.append(task.ID, end)
		f.wantCheckpoint(task.ID, "", engine.EventID{})
		_, err := f.trySave(task.ID, `2`, 0, 0)
		f.wantCode("a checkpoint after the end", err, engine.CodeTaskAlreadyTerminal)
		_, err = f.trySave(task.ID, `2`, 0, 0, message("m"))
		f.wantCode("one with an event", err, engine.CodeTaskAlreadyTerminal)
		f.wantCheckpoint(task.ID, "", engine.EventID{})
	}
}

func testCheckpointUnknown(f *fixture) {
	task := f.create()
	f.save(task.ID, `1`, started())
	if err := f.peer.Erase(f.ctx(), task.ID); err != nil {
		f.Fatal(err)
	}
	for _, id := range []string{task.ID, "unknown000000000"} {
		_, err := f.store.(engine.Checkpoints).Checkpoint(f.ctx(), id)
		f.wantCode("Checkpoint", err, engine.CodeTaskNotFound)
		_, err = f.trySave(id, `1`, 0, 0)
		f.wantCode("a checkpoint", err, engine.CodeTaskNotFound)
		_, err = f.trySave(id, `1`, 0, 0, message("m"))
		f.wantCode("one with an event", err, engine.CodeTaskNotFound)
	}
	// One that is created again under the same name begins without.
	d := f.draftTask()
	d.ClientRequestID = task.ClientRequestID
	again, created, err := f.store.Create(f.ctx(), d)
	if err != nil || !created {
		f.Fatalf("Create: %v, %v", created, err)
	}
	f.wantCheckpoint(again.ID, "", engine.EventID{})
}

func testRestarts(f *fixture) {
	task := f.create()
	begin := func(payload string, want int) {
		f.Helper()
		f.append(task.ID, message("before"), draft(engine.TypeStarted, payload), message("after"))
		for _, s := range []engine.Store{f.store, f.peer} {
			got, err := s.Get(f.ctx(), task.ID, engine.Fresh)
			if err != nil || got.Restarts != want || got.Status != engine.StatusRunning {
				f.Errorf("after %s: %d restarts, %s, %v", payload, got.Restarts, got.Status, err)
			}
		}
	}
	begin(`{}`, 0)
	begin(`{"restarts":1}`, 1)
	if _, ok := f.store.(engine.ActionStore); ok { // beside suspensions
		f.append(task.ID, suspended("s"))
		begin(`{"restarts":2,"resumesAfter":"1-1"}`, 2)
		f.append(task.ID, accepted("s"))
	}
	begin(`{"message":"m","restarts":10}`, 10)
	begin(`{}`, 10) // an executor that does not count
	f.append(task.ID, completed())
	if got := f.get(task.ID); got.Restarts != 10 {
		f.Errorf("after the end: %d restarts", got.Restarts)
	}
	checkDense(f.T, f.log(task.ID), 1)
}
