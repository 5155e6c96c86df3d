package enginetest

import (
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func testTrimming(t *testing.T, open func(*testing.T) (engine.Store, int)) {
	store, keep := open(t)
	f := &fixture{T: t, store: store, peer: store}
	task := f.create()
	live, stop := f.follow(store, task.ID, engine.EventID{})
	defer stop()
	ids := f.append(task.ID, started())
	// Far beyond the limit: a store may trim in whole chunks.
	total := 1
	var p engine.Page
	for p.First.Ordinal <= 2 {
		if total > 100*(keep+100) {
			t.Fatalf("%d events and nothing was trimmed; %d should be kept", total, keep)
		}
		ids = append(ids, f.append(task.ID, message("a"), message("b"), message("c"))...)
		total += 3
		var err error
		if p, err = store.Read(f.ctx(), task.ID, engine.EventID{}, 1); err != nil {
			t.Fatal(err)
		}
	}
	live.waitFor("a live follower has had everything", live.has(total))

	end := f.append(task.ID, completed())[0]
	ids = append(ids, end)
	log := f.log(task.ID)
	checkDense(t, log, log[0].ID.Ordinal)
	if len(log) < keep {
		t.Errorf("%d events are retained, want at least %d", len(log), keep)
	}
	if last := log[len(log)-1]; last.ID != end || !last.Type.Terminal() {
		t.Errorf("the log ends with %s, want the terminal event %s", last.ID, end)
	}
	live.waitFor("the terminal event", live.over)

	first := int(log[0].ID.Ordinal) - 1
	for i, id := range append([]engine.EventID{{}}, ids...) {
		trimmed := id.Ordinal < log[0].ID.Ordinal
		p, err := store.Read(f.ctx(), task.ID, id, len(ids))
		if err != nil {
			t.Fatal(err)
		}
		if p.Found == trimmed || p.First != log[0].ID || p.Last != end || p.More || p.Expired {
			t.Fatalf("after event %d of %d, with %d trimmed: %+v", i, len(ids), first, p)
		}
		sameEvents(t, "after "+id.String(), p.Events, log[max(i-first, 0):])

		c, stop := f.follow(store, task.ID, id)
		if id != end {
			c.waitFor("the terminal event", c.over)
		}
		events, lost := c.collected()
		// At the last trimmed event nothing was missed.
		if want := i < first; (lost > 0) != want {
			t.Errorf("following after event %d, with %d trimmed: Lost called %d times", i, first, lost)
		}
		sameEvents(t, "following after "+id.String(), events, log[max(i-first, 0):])
		stop()
	}
}

func testExpiry(t *testing.T, open func(*testing.T) engine.Store) {
	store := open(t)
	f := &fixture{T: t, store: store, peer: store}
	open1, task := f.create(), f.create()
	f.append(open1.ID, started())
	ids := f.append(task.ID, started(), message("m"), completed())
	record := f.get(task.ID)
	eventually(t, "the log expires", func() bool {
		p, err := store.Read(f.ctx(), task.ID, engine.EventID{}, 10)
		if err != nil {
			t.Fatalf("the record went before the log was seen to expire: %v", err)
		}
		return p.Expired
	})
	for _, cursor := range append([]engine.EventID{{}}, ids...) {
		p, err := store.Read(f.ctx(), task.ID, cursor, 10)
		if err != nil || len(p.Events) != 0 || !p.Expired || p.Found || p.More || !p.First.IsZero() || !p.Last.IsZero() {
			t.Fatalf("an expired log gave %+v, %v", p, err)
		}
		c, stop := f.follow(store, task.ID, cursor)
		if cursor != ids[2] { // events that it has not had are gone
			c.waitFor("Lost", func() bool { return c.lost > 0 })
		}
		stop()
		if events, _ := c.collected(); len(events) != 0 {
			t.Errorf("following an expired log pushed %d events", len(events))
		}
	}
	sameTask(t, "the record of an expired log", f.get(task.ID), record)
	_, err := store.Append(f.ctx(), engine.Append{TaskID: task.ID, Token: f.token(), Events: []engine.Draft{message("late")}})
	wantCode(t, "Append to an expired log", err, engine.CodeTaskAlreadyTerminal)

	eventually(t, "the record goes too", func() bool {
		_, err := store.Get(f.ctx(), task.ID, engine.Fresh)
		return engine.CodeOf(err) == engine.CodeTaskNotFound
	})
	f.wantUnknown(task.ID)
	again, created, err := store.Create(f.ctx(), record)
	if err != nil || !created || again.ID == task.ID {
		t.Errorf("Create after the expiry: %s, created %v, %v", again.ID, created, err)
	}
	if n := len(f.log(open1.ID)); n != 1 {
		t.Errorf("an open task lost its log: %d events", n)
	}
	f.append(open1.ID, completed())
}
