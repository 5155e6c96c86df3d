package enginetest

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var registryTests = []storeTest{
	{"create stores the task as it is and gives it an id", testCreate, false},
	{"create finds what is there and changes nothing", testCreateAgain, false},
	{"owner and request id name a task together", testCreateKeys, false},
	{"of many creates at once one creates", testCreateRace, false},
	{"lookup", testLookup, false},
	{"an unknown task is not found", testUnknown, false},
	{"a fresh read sees what a peer wrote, a cached one soon", testFreshness, false},
	{"the first cancel reason stays", testCancel, false},
	{"of many cancels at once one gives the reason", testCancelRace, false},
	{"cancelling what is over changes nothing", testCancelOver, false},
	{"erase removes all", testErase, false},
	{"a task that was erased can be created anew, also while it is erased", testEraseRace, false},
	{"a record that was given out does not change", testRecordIsValue, false},
	{"create keeps nothing of its arguments", testCreateCopies, false},
}

func sameTask(t *testing.T, what string, got, want engine.Task) {
	t.Helper()
	if !got.CreatedAt.Equal(want.CreatedAt) || !got.UpdatedAt.Equal(want.UpdatedAt) {
		t.Errorf("%s: times %v, %v, want %v, %v", what, got.CreatedAt, got.UpdatedAt, want.CreatedAt, want.UpdatedAt)
	}
	got.CreatedAt, got.UpdatedAt = want.CreatedAt, want.UpdatedAt
	if (got.Terminal == nil) != (want.Terminal == nil) {
		t.Errorf("%s: terminal event %v, want %v", what, got.Terminal, want.Terminal)
	} else if got.Terminal != nil {
		sameEvent(t, what+", terminal event", *got.Terminal, *want.Terminal)
	}
	got.Terminal, want.Terminal = nil, nil
	if len(got.Suspensions) == 0 && len(want.Suspensions) == 0 {
		got.Suspensions, want.Suspensions = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is\n%+v, want\n%+v", what, got, want)
	}
}

func testCreate(f *fixture) {
	want := f.draftTask()
	want.ID = "ignored"
	task, created, err := f.store.Create(f.ctx(), want)
	if err != nil || !created {
		f.Fatalf("Create: created %v, %v", created, err)
	}
	if !taskIDForm.MatchString(task.ID) {
		f.Errorf("the id is %q", task.ID)
	}
	want.ID = task.ID
	sameTask(f.T, "what Create gave", task, want)
	sameTask(f.T, "what Get gives", f.get(task.ID), want)
	for _, fresh := range []engine.Freshness{engine.Cached, engine.Fresh} {
		got, err := f.peer.Get(f.ctx(), task.ID, fresh)
		if err != nil {
			f.Fatalf("Get from a peer: %v", err)
		}
		sameTask(f.T, "what a peer's Get gives", got, want)
	}
	if p, err := f.peer.Read(f.ctx(), task.ID, engine.EventID{}, 10); err != nil || len(p.Events) != 0 || p.Expired {
		f.Errorf("a new log is %+v, %v", p, err)
	}
}

func testCreateAgain(f *fixture) {
	draft := f.draftTask()
	first, _, err := f.store.Create(f.ctx(), draft)
	if err != nil {
		f.Fatal(err)
	}
	f.append(first.ID, started())
	first = f.get(first.ID)
	draft.Fingerprint, draft.Input, draft.Type = "other", []byte(`{}`), "other"
	for _, node := range []engine.Store{f.store, f.peer} {
		again, created, err := node.Create(f.ctx(), draft)
		if err != nil || created {
			f.Fatalf("Create again: created %v, %v", created, err)
		}
		sameTask(f.T, "what the second Create gave", again, first)
	}
	sameTask(f.T, "the record afterwards", f.get(first.ID), first)
}

func testCreateKeys(f *fixture) {
	long := strings.Repeat("ü", 255)
	keys := [][2]string{
		{"a", "bc"}, {"ab", "c"}, {"a:b", "c"}, {"a", "b:c"}, {"a", "b c"}, {"a b", "c"}, {"{a}", "b"}, {"a", "{b}"},
		{"a\x00b", "c"}, {"a", "b\x00c"}, {"a|b", "c"}, {"a", "b|c"}, {"a/b", "c"}, {"a", "b/c"}, {"A", "bc"}, {"a", "BC"},
		{long, "x"}, {"x", long}, {"*", "?"}, {"a\n", "b"},
	}
	ids := map[string][2]string{}
	for _, k := range keys {
		draft := f.draftTask()
		draft.Owner, draft.ClientRequestID = k[0], k[1]
		task, created, err := f.store.Create(f.ctx(), draft)
		if err != nil || !created {
			f.Fatalf("Create(%q, %q): created %v, %v", k[0], k[1], created, err)
		}
		if other, ok := ids[task.ID]; ok {
			f.Fatalf("%q and %q got one id", other, k)
		}
		ids[task.ID] = k
	}
	for id, k := range ids {
		task, err := f.store.Lookup(f.ctx(), k[0], k[1])
		if err != nil || task.ID != id {
			f.Errorf("Lookup(%q, %q) gave %s, %v, want %s", k[0], k[1], task.ID, err, id)
		}
	}
}

func testCreateRace(f *fixture) {
	const callers = 30
	for range 20 {
		draft := f.draftTask()
		// Large, so that the calls overlap in a store in memory too.
		draft.Input = []byte(`{"a":"` + strings.Repeat("x", 128<<10) + `"}`)
		var (
			group   sync.WaitGroup
			tasks   [callers]engine.Task
			created [callers]bool
			errs    [callers]error
			gate    starter
		)
		for i := range callers {
			node := []engine.Store{f.store, f.peer}[i%2]
			group.Go(func() {
				gate.wait()
				tasks[i], created[i], errs[i] = node.Create(f.ctx(), draft)
				if errs[i] == nil { // whoever has an id may use it at once
					_, errs[i] = node.Get(f.ctx(), tasks[i].ID, engine.Fresh)
				}
			})
		}
		gate.start()
		group.Wait()
		creators := 0
		for i := range callers {
			if errs[i] != nil {
				f.Fatal(errs[i])
			}
			if created[i] {
				creators++
			}
			if tasks[i].ID != tasks[0].ID {
				f.Errorf("two tasks: %s and %s", tasks[i].ID, tasks[0].ID)
			}
		}
		if creators != 1 {
			f.Errorf("%d of %d calls created", creators, callers)
		}
	}
}

func testLookup(f *fixture) {
	task := f.create()
	for _, node := range []engine.Store{f.store, f.peer} {
		got, err := node.Lookup(f.ctx(), task.Owner, task.ClientRequestID)
		if err != nil {
			f.Fatal(err)
		}
		sameTask(f.T, "what Lookup gives", got, task)
	}
	_, err := f.store.Lookup(f.ctx(), "bob", task.ClientRequestID)
	f.wantCode("Lookup for another owner", err, engine.CodeTaskNotFound)
	_, err = f.store.Lookup(f.ctx(), task.Owner, "another")
	f.wantCode("Lookup of another request", err, engine.CodeTaskNotFound)
}

// operations are all that ask for a task by its id.
func operations(f *fixture, node engine.Store, id string) map[string]error {
	errs := map[string]error{}
	_, errs["Get, cached,"] = node.Get(f.ctx(), id, engine.Cached)
	_, errs["Get, fresh,"] = node.Get(f.ctx(), id, engine.Fresh)
	_, errs["RequestCancel"] = node.RequestCancel(f.ctx(), id, "r")
	_, errs["Append"] = node.Append(f.ctx(), engine.Append{TaskID: id, Token: f.token(), Events: []engine.Draft{started()}})
	_, errs["Append of a terminal event"] = node.Append(f.ctx(), engine.Append{TaskID: id, Token: f.token(), Events: []engine.Draft{completed()}})
	_, errs["Read"] = node.Read(f.ctx(), id, engine.EventID{}, 10)
	stop, err := node.Follow(f.ctx(), id, engine.EventID{}, newCollector(f.T, id, engine.EventID{}))
	if errs["Follow"] = err; err == nil {
		stop()
	}
	if s, ok := node.(engine.Signals); ok {
		stop, err := s.Listen(f.ctx(), id, func(engine.Signal) {})
		if errs["Listen"] = err; err == nil {
			stop()
		}
	}
	return errs
}

func (f *fixture) wantUnknown(id string) {
	f.Helper()
	for _, node := range []engine.Store{f.store, f.peer} {
		for op, err := range operations(f, node, id) {
			f.wantCode(fmt.Sprintf("%s of %q", op, id), err, engine.CodeTaskNotFound)
		}
	}
}

func testUnknown(f *fixture) {
	f.create()
	for _, id := range []string{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", "*", "../x", "{a}", strings.Repeat("a", 5000)} {
		f.wantUnknown(id)
		if err := f.store.Erase(f.ctx(), id); err != nil {
			f.Errorf("Erase of %q: %v", id, err)
		}
	}
}

func testFreshness(f *fixture) {
	for range 20 {
		task := f.create()
		if _, err := f.peer.Get(f.ctx(), task.ID, engine.Cached); err != nil { // now it is cached, where there is a cache
			f.Fatal(err)
		}
		f.append(task.ID, started())
		got, err := f.peer.Get(f.ctx(), task.ID, engine.Fresh)
		if err != nil || got.Status != engine.StatusRunning {
			f.Fatalf("a fresh Get gave %s, %v", got.Status, err)
		}
		eventually(f.T, "a cached Get sees the new status", func() bool {
			got, err := f.peer.Get(f.ctx(), task.ID, engine.Cached)
			return err == nil && got.Status == engine.StatusRunning
		})
	}
}

func testCancel(f *fixture) {
	task := f.create()
	if task.CancelRequested {
		f.Fatal("a new task is cancelled")
	}
	first, err := f.peer.RequestCancel(f.ctx(), task.ID, "first")
	if err != nil {
		f.Fatal(err)
	}
	if !first.CancelRequested || first.CancelReason != "first" || first.Status != engine.StatusAccepted {
		f.Errorf("after the request: %+v", first)
	}
	if first.UpdatedAt.Before(task.UpdatedAt) {
		f.Error("UpdatedAt went back")
	}
	second, err := f.store.RequestCancel(f.ctx(), task.ID, "second")
	if err != nil {
		f.Fatal(err)
	}
	sameTask(f.T, "after the second request", second, first)
	sameTask(f.T, "what Get gives", f.get(task.ID), first)
	if len(f.log(task.ID)) != 0 {
		f.Error("a cancel request appended an event")
	}
	f.append(task.ID, started(), cancelled()) // a request ends nothing by itself
	if got := f.get(task.ID); !got.CancelRequested || got.CancelReason != "first" {
		f.Errorf("after the end: %+v", got)
	}
}

func testCancelRace(f *fixture) {
	task := f.create()
	const callers = 20
	var group sync.WaitGroup
	var reasons [callers]string
	for i := range callers {
		node := []engine.Store{f.store, f.peer}[i%2]
		group.Go(func() {
			got, err := node.RequestCancel(f.ctx(), task.ID, fmt.Sprint("reason ", i))
			if err != nil {
				f.Error(err)
			}
			reasons[i] = got.CancelReason
		})
	}
	group.Wait()
	for _, r := range reasons {
		if r != f.get(task.ID).CancelReason {
			f.Errorf("somebody was given the reason %q, the record has %q", r, f.get(task.ID).CancelReason)
		}
	}
}

func testCancelOver(f *fixture) {
	task := f.create()
	f.append(task.ID, completed())
	before := f.get(task.ID)
	got, err := f.store.RequestCancel(f.ctx(), task.ID, "late")
	if err != nil {
		f.Fatal(err)
	}
	sameTask(f.T, "what a late RequestCancel gives", got, before)
	sameTask(f.T, "the record afterwards", f.get(task.ID), before)
}

func testErase(f *fixture) {
	for _, end := range [][]engine.Draft{nil, {started()}, {started(), suspended("s")}, {started(), completed()}} {
		task := f.create()
		if len(end) > 0 {
			f.append(task.ID, end...)
		}
		if err := f.store.Erase(f.ctx(), task.ID); err != nil {
			f.Fatal(err)
		}
		f.wantUnknown(task.ID)
		_, err := f.store.Lookup(f.ctx(), task.Owner, task.ClientRequestID)
		f.wantCode("Lookup of an erased task", err, engine.CodeTaskNotFound)
		if err := f.peer.Erase(f.ctx(), task.ID); err != nil {
			f.Errorf("Erase again: %v", err)
		}
		again, created, err := f.store.Create(f.ctx(), task)
		if err != nil || !created || again.ID == task.ID {
			f.Errorf("Create after Erase: %s (was %s), created %v, %v", again.ID, task.ID, created, err)
		}
		if n := len(f.log(again.ID)); n != 0 {
			f.Errorf("the new task has %d events of the old one", n)
		}
	}
}

func testEraseRace(f *fixture) {
	draft := f.draftTask()
	var group sync.WaitGroup
	for i := range 8 {
		node := []engine.Store{f.store, f.peer}[i%2]
		group.Go(func() {
			for range 50 {
				task, _, err := node.Create(f.ctx(), draft)
				if err != nil {
					f.Error(err)
					return
				}
				if err := node.Erase(f.ctx(), task.ID); err != nil {
					f.Error(err)
				}
			}
		})
	}
	group.Wait()
	_, err := f.store.Lookup(f.ctx(), draft.Owner, draft.ClientRequestID)
	f.wantCode("Lookup after everybody erased", err, engine.CodeTaskNotFound)
	task, created, err := f.store.Create(f.ctx(), draft)
	if err != nil || !created {
		f.Fatalf("Create: created %v, %v", created, err)
	}
	f.append(task.ID, started())
}

func testRecordIsValue(f *fixture) {
	task := f.create()
	f.append(task.ID, suspended("a"), suspended("b"))
	kept := f.get(task.ID)
	f.append(task.ID, accepted("a"), suspended("c"))
	if len(kept.Suspensions) != 2 || kept.Suspensions[0].SuspendID != "a" || kept.Suspensions[1].SuspendID != "b" {
		f.Errorf("a kept record changed: %+v", kept.Suspensions)
	}
}

func testCreateCopies(f *fixture) {
	draft := f.draftTask()
	input := slices.Clone(draft.Input)
	want := draft
	want.Input = input
	task, _, err := f.store.Create(f.ctx(), draft)
	if err != nil {
		f.Fatal(err)
	}
	clear(draft.Input)
	payload := []byte(`{"message":"one"}`)
	f.append(task.ID, engine.Draft{Type: engine.TypeMessage, Payload: payload})
	clear(payload)
	if got := f.get(task.ID); !bytes.Equal(got.Input, input) {
		f.Errorf("the input became %q", got.Input)
	}
	if got := f.log(task.ID)[0]; string(got.Payload) != `{"message":"one"}` {
		f.Errorf("the payload became %q", got.Payload)
	}
}
