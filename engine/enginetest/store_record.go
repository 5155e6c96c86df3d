package enginetest

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// recordTests are what Append does to the record, in the same step.
var recordTests = []storeTest{
	{"status follows the events", testStatus, false},
	{"suspensions open and close with their events", testSuspensions, false},
	{"the record is never older than the event", testRecordWithEvent, false},
}

func testStatus(f *fixture) {
	for _, c := range []struct {
		batches [][]engine.Draft
		want    engine.Status
	}{
		{[][]engine.Draft{{message("m")}}, engine.StatusAccepted},
		{[][]engine.Draft{{started()}}, engine.StatusRunning},
		{[][]engine.Draft{{started()}, {message("m"), suspended("s")}}, engine.StatusRunning},
		{[][]engine.Draft{{started()}, {completed()}}, engine.StatusCompleted},
		{[][]engine.Draft{{started(), message("m"), completed()}}, engine.StatusCompleted},
		{[][]engine.Draft{{failure("F")}}, engine.StatusFailed},
		{[][]engine.Draft{{cancelled()}}, engine.StatusCancelled},
		{[][]engine.Draft{{started()}, {cancelled()}}, engine.StatusCancelled},
	} {
		task := f.create()
		for _, b := range c.batches {
			f.append(task.ID, b...)
		}
		got := f.get(task.ID)
		if got.Status != c.want {
			f.Errorf("after %v: %s, want %s", c.batches, got.Status, c.want)
		}
		if got.UpdatedAt.Before(task.UpdatedAt) {
			f.Error("UpdatedAt went back")
		}
		if (got.Terminal != nil) != c.want.Terminal() {
			f.Errorf("after %v: terminal event %v", c.batches, got.Terminal)
		}
		if log := f.log(task.ID); got.Terminal != nil {
			sameEvent(f.T, "the record's terminal event", *got.Terminal, log[len(log)-1])
		}
		// What was there from the beginning stays.
		got.Status, got.UpdatedAt, got.Terminal, got.Suspensions = task.Status, task.UpdatedAt, nil, nil
		sameTask(f.T, "the rest of the record", got, task)
	}
}

func openOnes(task engine.Task) string {
	var ids []string
	for _, s := range task.Suspensions {
		ids = append(ids, s.SuspendID)
	}
	return strings.Join(ids, " ")
}

func testSuspensions(f *fixture) {
	task := f.create()
	for _, step := range []struct {
		batch []engine.Draft
		open  string
	}{
		{[]engine.Draft{started()}, ""},
		{[]engine.Draft{suspended("b")}, "b"},
		{[]engine.Draft{suspended("a"), suspended("c")}, "b a c"},
		{[]engine.Draft{message("m")}, "b a c"},
		{[]engine.Draft{accepted("a")}, "b c"},
		{[]engine.Draft{accepted("unknown")}, "b c"},
		{[]engine.Draft{suspended("d"), accepted("d")}, "b c"},
		{[]engine.Draft{accepted("b"), suspended("a")}, "c a"},
		{[]engine.Draft{failure("F")}, ""},
	} {
		f.append(task.ID, step.batch...)
		got := f.get(task.ID)
		if openOnes(got) != step.open {
			f.Errorf("after %s: open are %q, want %q", step.batch[0].Payload, openOnes(got), step.open)
		}
	}

	task = f.create()
	f.append(task.ID, suspended("s"))
	s := f.get(task.ID).Suspensions[0]
	expires := time.Date(2100, 1, 2, 3, 4, 5, 678e6, time.UTC)
	if s.Kind != engine.UserActionRequired || s.ReasonCode != "R" || !slices.Equal(s.AllowedActions, []string{"approve", "reject"}) ||
		s.SchemaVersion != 2 || s.ExpiresAt == nil || !s.ExpiresAt.Equal(expires) || string(s.UIHints) != `{"k":[1]}` || len(s.Interaction) != 0 {
		f.Errorf("the suspension became %+v", s)
	}
}

func testRecordWithEvent(f *fixture) {
	for range 20 {
		task := f.create()
		c := newCollector(f.T, task.ID, engine.EventID{})
		stop, err := f.peer.Follow(f.ctx(), task.ID, engine.EventID{}, c)
		if err != nil {
			f.Fatal(err)
		}
		var group sync.WaitGroup
		group.Go(func() { f.append(task.ID, started(), completed()) })
		c.waitFor("the terminal event", c.over)
		if got, err := f.peer.Get(f.ctx(), task.ID, engine.Fresh); err != nil || got.Terminal == nil {
			f.Errorf("the event was there and the record was %s, %v", got.Status, err)
		}
		group.Wait()
		stop()
	}
}
