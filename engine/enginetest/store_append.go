package enginetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var appendTests = []storeTest{
	{"events come back as they were given, densely numbered", testAppend, false},
	{"a repeat with the same token writes nothing", testToken, false},
	{"a repeat is answered after the end too", testTokenAfterEnd, false},
	{"a token counts for its own task", testTokenPerTask, false},
	{"of many repeats at once one writes", testTokenRace, false},
	{"an append without a token is refused", testNoToken, false},
	{"nothing follows a terminal event", testTerminal, false},
	{"a terminal event may only be the last of a batch", testTerminalLast, false},
	{"of many terminal events at once one is stored", testTerminalRace, false},
	{"no append slips in behind a terminal event", testTerminalGuardRace, false},
	{"concurrent batches stay whole, dense and in their writers' order", testConcurrentAppends, false},
	{"large payloads and batches", testLargeAppend, false},
}

func testAppend(f *fixture) {
	task := f.create()
	before := uint64(time.Now().Add(-time.Hour).UnixMilli())
	drafts := []engine.Draft{
		started(), message("a"), message("ü\\u0000 \\n\\\"<&>\u2028"), draft(engine.TypeProgress, `{"progress":12.50}`), suspended("s"), accepted("s"),
		draft(engine.TypeCompleted, `{ "result" : {"z":1, "a":1e400}, "other": null }`),
	}
	ids := append(f.append(task.ID, drafts[:3]...), f.append(task.ID, drafts[3])...)
	ids = append(ids, f.append(task.ID, drafts[4:]...)...)
	if ids[0].Millis < before {
		f.Errorf("the first id is %s: not a time of today", ids[0])
	}
	events := f.log(task.ID)
	checkDense(f.T, events, 1)
	sameEvents(f.T, "the log", events, asEvents(task.ID, ids, drafts))
	sameEvents(f.T, "the log on a peer", readAll(f.T, f.peer, task.ID), events)
}

func testToken(f *fixture) {
	task := f.create()
	a := engine.Append{TaskID: task.ID, Token: "t", Events: []engine.Draft{started(), message("a")}}
	first, err := f.store.Append(f.ctx(), a)
	if err != nil {
		f.Fatal(err)
	}
	f.messages(task.ID, 20) // others write meanwhile
	for _, node := range []engine.Store{f.store, f.peer} {
		again, err := node.Append(f.ctx(), a)
		if err != nil || !slices.Equal(again, first) {
			f.Errorf("the repeat gave %v, %v, want %v", again, err, first)
		}
	}
	if n := len(f.log(task.ID)); n != 22 {
		f.Errorf("%d events, want 22", n)
	}
}

func testTokenAfterEnd(f *fixture) {
	task := f.create()
	open := engine.Append{TaskID: task.ID, Token: "open", Events: []engine.Draft{started()}}
	end := engine.Append{TaskID: task.ID, Token: "end", Events: []engine.Draft{message("m"), completed()}}
	var first [2][]engine.EventID
	for i, a := range []engine.Append{open, end} {
		ids, err := f.store.Append(f.ctx(), a)
		if err != nil {
			f.Fatal(err)
		}
		first[i] = ids
	}
	record := f.get(task.ID)
	for i, a := range []engine.Append{open, end} {
		ids, err := f.peer.Append(f.ctx(), a)
		if err != nil || !slices.Equal(ids, first[i]) {
			f.Errorf("repeat %q gave %v, %v, want %v", a.Token, ids, err, first[i])
		}
	}
	if n := len(f.log(task.ID)); n != 3 {
		f.Errorf("%d events, want 3", n)
	}
	sameTask(f.T, "the record after the repeats", f.get(task.ID), record)
}

func testTokenPerTask(f *fixture) {
	a, b := f.create(), f.create()
	for _, id := range []string{a.ID, b.ID} {
		if _, err := f.store.Append(f.ctx(), engine.Append{TaskID: id, Token: "same", Events: []engine.Draft{started()}}); err != nil {
			f.Fatal(err)
		}
		if len(f.log(id)) != 1 {
			f.Error("a token of another task was taken for this one's")
		}
	}
}

func testTokenRace(f *fixture) {
	task := f.create()
	const callers = 20
	var group sync.WaitGroup
	var ids [callers][]engine.EventID
	for i := range callers {
		node := []engine.Store{f.store, f.peer}[i%2]
		group.Go(func() {
			var err error
			ids[i], err = node.Append(f.ctx(), engine.Append{TaskID: task.ID, Token: "t", Events: []engine.Draft{started(), completed()}})
			if err != nil {
				f.Error(err)
			}
		})
	}
	group.Wait()
	for _, got := range ids {
		if !slices.Equal(got, ids[0]) {
			f.Errorf("one call got %v, another %v", got, ids[0])
		}
	}
	if n := len(f.log(task.ID)); n != 2 {
		f.Errorf("%d events, want 2", n)
	}
}

func testNoToken(f *fixture) {
	task := f.create()
	if _, err := f.store.Append(f.ctx(), engine.Append{TaskID: task.ID, Events: []engine.Draft{started()}}); err == nil {
		f.Error("no error")
	}
	if len(f.log(task.ID)) != 0 {
		f.Error("it was written")
	}
}

func testTerminal(f *fixture) {
	for _, end := range []engine.Draft{completed(), failure("F"), cancelled()} {
		task := f.create()
		f.append(task.ID, started(), end)
		log, record := f.log(task.ID), f.get(task.ID)
		for _, late := range []engine.Draft{started(), message("late"), suspended("s"), accepted("s"), completed(), failure("G"), cancelled()} {
			for _, node := range []engine.Store{f.store, f.peer} {
				_, err := node.Append(f.ctx(), engine.Append{TaskID: task.ID, Token: f.token(), Events: []engine.Draft{late}})
				f.wantCode(fmt.Sprintf("%s after %s", late.Type, end.Type), err, engine.CodeTaskAlreadyTerminal)
			}
		}
		sameEvents(f.T, "the log afterwards", f.log(task.ID), log)
		sameTask(f.T, "the record afterwards", f.get(task.ID), record)
	}
}

func testTerminalLast(f *fixture) {
	task := f.create()
	before := f.get(task.ID)
	for _, end := range []engine.Draft{completed(), failure("F"), cancelled()} {
		for _, batch := range [][]engine.Draft{{end, message("late")}, {started(), end, end}, {started(), end, message("late"), end}} {
			if _, err := f.store.Append(f.ctx(), engine.Append{TaskID: task.ID, Token: f.token(), Events: batch}); err == nil {
				f.Errorf("%s in the middle of a batch was taken", end.Type)
			}
		}
	}
	if n := len(f.log(task.ID)); n != 0 {
		f.Errorf("%d events of refused batches were written", n)
	}
	sameTask(f.T, "the record afterwards", f.get(task.ID), before)
	f.append(task.ID, started(), completed())
}

func testTerminalRace(f *fixture) {
	for range 10 {
		task := f.create()
		const callers = 20
		var group sync.WaitGroup
		var won [callers]bool
		var gate starter
		for i := range callers {
			node := []engine.Store{f.store, f.peer}[i%2]
			group.Go(func() {
				gate.wait()
				_, err := node.Append(f.ctx(), engine.Append{
					TaskID: task.ID, Token: fmt.Sprint(i), Events: []engine.Draft{message("bye"), failure(fmt.Sprint("F", i))},
				})
				if won[i] = err == nil; !won[i] {
					wantCode(f.T, "a late terminal event", err, engine.CodeTaskAlreadyTerminal)
				}
			})
		}
		gate.start()
		group.Wait()
		winner := slices.Index(won[:], true)
		if winner < 0 || slices.Contains(won[winner+1:], true) {
			f.Fatalf("not exactly one winner: %v", won)
		}
		log := f.log(task.ID)
		if len(log) != 2 || !strings.Contains(string(log[1].Payload), fmt.Sprintf(`"F%d"`, winner)) {
			f.Fatalf("caller %d won, the log is %s", winner, log)
		}
		if got := f.get(task.ID); got.Terminal == nil || got.Status != engine.StatusFailed {
			f.Errorf("the record is %+v", got)
		} else {
			sameEvent(f.T, "the record's terminal event", *got.Terminal, log[1])
		}
	}
}

func testTerminalGuardRace(f *fixture) {
	task := f.create()
	var group sync.WaitGroup
	var stored [8]int
	for i := range stored {
		node := []engine.Store{f.store, f.peer}[i%2]
		group.Go(func() {
			for {
				_, err := node.Append(f.ctx(), engine.Append{TaskID: task.ID, Token: f.token(), Events: []engine.Draft{message("m")}})
				if err != nil {
					wantCode(f.T, "an append behind the end", err, engine.CodeTaskAlreadyTerminal)
					return
				}
				stored[i]++
				if i == 0 && stored[0] == 20 {
					f.append(task.ID, completed())
				}
			}
		})
	}
	group.Wait()
	want := 1
	for _, n := range stored {
		want += n
	}
	p, err := f.store.Read(f.ctx(), task.ID, engine.EventID{}, 1)
	if err != nil {
		f.Fatal(err)
	}
	if p.Last.Ordinal != uint64(want) {
		f.Errorf("%d appends succeeded, the log ends with %s", want, p.Last)
	}
	checkDense(f.T, f.log(task.ID), p.First.Ordinal)
}

func testConcurrentAppends(f *fixture) {
	const writers, batches = 8, 20
	task := f.create()
	var group sync.WaitGroup
	for w := range writers {
		node := []engine.Store{f.store, f.peer}[w%2]
		group.Go(func() {
			for b := range batches {
				var drafts []engine.Draft
				for e := range 1 + (w+b)%3 {
					drafts = append(drafts, message(fmt.Sprintf("%d.%d.%d", w, b, e)))
				}
				ids, err := node.Append(f.ctx(), engine.Append{TaskID: task.ID, Token: f.token(), Events: drafts})
				if err != nil || len(ids) != len(drafts) {
					f.Errorf("Append: %v, %v", ids, err)
				}
				for i := range ids {
					if ids[i].Ordinal != ids[0].Ordinal+uint64(i) {
						f.Errorf("a batch got %v", ids)
					}
				}
			}
		})
	}
	group.Wait()
	log := f.log(task.ID)
	checkDense(f.T, log, 1)
	var next [writers]int // each writer's batches, in order and whole
	for i := 0; i < len(log); {
		var w, b, e int
		if _, err := fmt.Sscanf(string(log[i].Payload), `{"message":"%d.%d.%d"}`, &w, &b, &e); err != nil {
			f.Fatal(err)
		}
		if b != next[w] {
			f.Fatalf("writer %d: batch %d where %d was due", w, b, next[w])
		}
		next[w]++
		for e := range 1 + (w+b)%3 {
			if want := fmt.Sprintf(`{"message":"%d.%d.%d"}`, w, b, e); string(log[i].Payload) != want {
				f.Fatalf("event %d is %s, want %s: a batch was torn", i+1, log[i].Payload, want)
			}
			i++
		}
	}
	for w, n := range next {
		if n != batches {
			f.Errorf("writer %d: %d batches, want %d", w, n, batches)
		}
	}
}

func testLargeAppend(f *fixture) {
	task := f.create()
	big := message(strings.Repeat("x", 256<<10))
	var batch []engine.Draft
	for i := range 256 {
		batch = append(batch, message(fmt.Sprint(i)))
	}
	ids := append(f.append(task.ID, big), f.append(task.ID, batch...)...)
	sameEvents(f.T, "the log", f.log(task.ID), asEvents(task.ID, ids, append([]engine.Draft{big}, batch...)))
}
