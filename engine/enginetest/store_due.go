package enginetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// dueLag is how late Due may be.
const dueLag = time.Second

func testDueExpired(f *fixture) {
	task, other := f.create(), f.create()
	standard := &engine.DefaultAction{ActionType: "reject", Payload: []byte(`{}`)}
	at := time.Now().Add(400 * time.Millisecond)
	f.append(task.ID, asking("soon", at, standard), asking("never", time.Time{}, nil), asking("later", at.Add(time.Hour), nil))
	f.append(other.ID, asking("past", time.Now().Add(-time.Hour), nil))
	want := []string{task.ID + "/soon", other.ID + "/past"}
	slices.Sort(want)
	// Until somebody sees to them, they are due again and again, for one at a time.
	const claim = time.Second // a store may take longer
	given := map[string]time.Time{}
	again := map[string]bool{}
	eventually(f.T, "both are due twice", func() bool {
		asked := time.Now()
		list, all := f.due(10)
		if d, ok := all["soon"]; ok {
			if early := time.Until(at); early > 0 {
				f.Errorf("it was due %v before its time", early)
			}
			if !d.Open || d.Answer != nil || d.Default == nil || d.Default.ActionType != "reject" {
				f.Errorf("due is %+v", d)
			}
		} else if late := asked.Sub(at); late > dueLag && given[task.ID+"/soon"].IsZero() && f.unlooked.Load() == 0 {
			f.Errorf("it is not due %v after its time", late)
		}
		for _, name := range list {
			if !slices.Contains(want, name) {
				f.Fatalf("due is %s, want %v", name, want)
			}
			if at, ok := given[name]; ok {
				if after := time.Since(at); after < claim {
					f.Errorf("%s is due again after %v", name, after)
				}
				again[name] = true
			}
			given[name] = asked
		}
		return len(again) == 2
	})
}

func testDueHandOff(f *fixture) {
	task := f.create()
	f.append(task.ID, asking("s", time.Time{}, nil))
	r := answer(task.ID, "s", "c", "approve", `{"n":1}`)
	f.resolve(f.actions(), r, engine.VerdictAccepted)
	if found, _ := f.due(10); len(found) != 0 {
		f.Errorf("due at once are %v", found)
	}
	for range 2 {
		eventually(f.T, "the hand-off is due", func() bool {
			found, all := f.due(10)
			if len(found) == 0 {
				return false
			}
			if d := all["s"]; len(found) != 1 || d.TaskID != task.ID || d.Open || d.HandedOver || d.Answer == nil || string(d.Answer.Payload) != `{"n":1}` {
				f.Errorf("due are %v, %+v", found, all)
			}
			return true
		})
	}
	if err := f.peerActions().HandedOver(f.ctx(), task.ID, "s", 0); err != nil {
		f.Fatal(err)
	}
	f.wantNothingDue(3 * time.Second)
}

// wantNothingDue asks for a while: longer than what was given is kept from
// others.
func (f *fixture) wantNothingDue(during time.Duration) {
	f.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if found, _ := f.due(10); len(found) != 0 {
			f.Fatalf("due are %v", found)
		}
	}
}

func testDueSettled(f *fixture) {
	answered, ended, erased, resumed := f.create(), f.create(), f.create(), f.create()
	// Not before they are settled, however long that takes.
	at := time.Now().Add(intime.For(f.T, 2*time.Second, func() { f.append(f.create().ID, asking("t", time.Time{}, nil)) }))
	for _, task := range []engine.Task{answered, ended, erased, resumed} {
		f.append(task.ID, asking("s", at, nil), asking("t", time.Time{}, nil))
	}
	for _, id := range []string{"s", "t"} {
		f.resolve(f.actions(), answer(answered.ID, id, id, "approve", `{}`), engine.VerdictAccepted)
		if err := f.actions().HandedOver(f.ctx(), answered.ID, id, 0); err != nil {
			f.Fatal(err)
		}
	}
	f.resolve(f.actions(), answer(ended.ID, "t", "c", "approve", `{}`), engine.VerdictAccepted)
	f.append(ended.ID, completed())
	f.append(resumed.ID, accepted("s"))
	if err := f.store.Erase(f.ctx(), erased.ID); err != nil {
		f.Fatal(err)
	}
	f.wantNothingDue(time.Until(at) + 2*time.Second)
}

func testDueLimit(f *fixture) {
	const n = 25
	want := map[string]bool{}
	for i := range n {
		task := f.create()
		f.append(task.ID, asking(fmt.Sprint("s", i), time.Now().Add(-time.Second), nil), asking(fmt.Sprint("t", i), time.Now().Add(-time.Second), nil))
		want[fmt.Sprint("s", i)], want[fmt.Sprint("t", i)] = true, true
	}
	eventually(f.T, "all are found", func() bool {
		found, _ := f.due(4)
		for _, name := range found {
			delete(want, name[strings.IndexByte(name, '/')+1:])
		}
		return len(want) == 0
	})
}

func testHandedOverFence(f *fixture) {
	leases, ok := f.store.(engine.Leases)
	if !ok {
		f.Skip("the store has no Leases")
	}
	task := f.create()
	first := f.acquire(leases, task.ID, "a", longTTL)
	f.append(task.ID, asking("s", time.Time{}, nil), asking("t", time.Time{}, nil))
	f.resolve(f.actions(), answer(task.ID, "s", "1", "approve", `{}`), engine.VerdictAccepted)
	f.resolve(f.actions(), answer(task.ID, "t", "2", "approve", `{}`), engine.VerdictAccepted)
	if err := f.actions().HandedOver(f.ctx(), task.ID, "s", first); err != nil {
		f.Errorf("HandedOver by the holder: %v", err)
	}
	f.release(task.ID, "a")
	second := f.acquire(leases, task.ID, "b", longTTL)
	err := f.peerActions().HandedOver(f.ctx(), task.ID, "t", first)
	f.wantCode("HandedOver by who was the holder", err, engine.CodeTaskConflict)
	if s := f.suspension(f.actions(), task.ID, "t"); s.HandedOver {
		f.Error("a stale fence handed an answer over")
	}
	if err := f.peerActions().HandedOver(f.ctx(), task.ID, "t", second); err != nil {
		f.Errorf("HandedOver by the holder: %v", err)
	}
	if s := f.suspension(f.actions(), task.ID, "t"); !s.HandedOver {
		f.Error("it is not handed over")
	}
}
