package enginetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// answer is a Resolution by a client.
func answer(taskID, suspendID, actionID, actionType, payload string) engine.Resolution {
	at := time.Now().UTC().Truncate(time.Microsecond)
	event, err := json.Marshal(engine.ActionAccepted{
		SuspendID: suspendID, ClientActionID: actionID, ActionType: actionType, AcceptedAt: at,
	})
	if err != nil {
		panic(err)
	}
	return engine.Resolution{
		TaskID: taskID, SuspendID: suspendID, Fingerprint: suspendID + "|" + actionType + "|" + payload,
		Action: &engine.Action{
			ClientActionID: actionID, SuspendID: suspendID, ActionType: actionType, Payload: []byte(payload),
			Metadata: []byte(`{"m":"ü"}`), Actor: "ann", AcceptedAt: at,
		},
		Event: draft(engine.TypeActionAccepted, string(event)),
	}
}

func (f *fixture) resolve(node engine.ActionStore, r engine.Resolution, want engine.Verdict) {
	f.Helper()
	got, err := node.Resolve(f.ctx(), r)
	if err != nil {
		f.Fatalf("Resolve: %v", err)
	}
	if got != want {
		f.Errorf("the verdict is %d, want %d", got, want)
	}
}

func testResolve(f *fixture) {
	task := f.create()
	f.append(task.ID, started(), asking("s", time.Time{}, nil))
	r := answer(task.ID, "s", "c", "approve", `{"a":[1,"ü"]}`)
	f.resolve(f.peerActions(), r, engine.VerdictAccepted)
	f.wantTypes(task.ID, "STARTED SUSPENDED ACTION_ACCEPTED")
	log := f.log(task.ID)
	checkDense(f.T, log, 1)
	if string(log[2].Payload) != string(r.Event.Payload) || !log[2].CreatedAt.Equal(r.Event.CreatedAt) {
		f.Errorf("the event is %s", log[2].AppendJSON(nil))
	}
	if open := f.get(task.ID).Suspensions; len(open) != 0 {
		f.Errorf("the record has %+v", open)
	}
	for _, handed := range []bool{false, true, true} {
		for _, node := range []engine.ActionStore{f.actions(), f.peerActions()} {
			s := f.suspension(node, task.ID, "s")
			if s.Open || s.Expired || s.HandedOver != handed || s.Answer == nil {
				f.Fatalf("it is %+v", s)
			}
			got, want := *s.Answer, *r.Action
			if !got.AcceptedAt.Equal(want.AcceptedAt) {
				f.Errorf("accepted at %v, want %v", got.AcceptedAt, want.AcceptedAt)
			}
			if string(got.Payload) != string(want.Payload) || string(got.Metadata) != string(want.Metadata) ||
				got.ActionType != "approve" || got.Actor != "ann" || got.ClientActionID != "c" || got.SuspendID != "s" {
				f.Errorf("the answer is %+v", got)
			}
		}
		if err := f.actions().HandedOver(f.ctx(), task.ID, "s", 0); err != nil {
			f.Fatal(err)
		}
	}
	for _, node := range []engine.ActionStore{f.actions(), f.peerActions()} {
		f.resolve(node, r, engine.VerdictDeduplicated)
		f.resolve(node, answer(task.ID, "s", "c2", "approve", `{}`), engine.VerdictResolved)
		f.resolve(node, expiry(task.ID, "s", nil), engine.VerdictResolved)
		if err := node.HandedOver(f.ctx(), task.ID, "other", 0); err != nil {
			f.Errorf("HandedOver of an unknown suspension: %v", err)
		}
	}
	f.wantTypes(task.ID, "STARTED SUSPENDED ACTION_ACCEPTED")
	// The log goes on after it.
	f.append(task.ID, message("m"), completed())
	checkDense(f.T, f.log(task.ID), 1)
}

func testVerdicts(f *fixture) {
	task := f.create()
	past := time.Now().Add(-time.Minute)
	f.append(task.ID, asking("open", time.Time{}, nil), asking("done", time.Time{}, nil), asking("late", past, nil))
	node := f.actions()
	f.resolve(node, answer(task.ID, "done", "used", "approve", `{"n":1}`), engine.VerdictAccepted)
	unfit := func(r engine.Resolution) engine.Resolution { r.Unfit = true; return r }
	for _, c := range []struct {
		what string
		r    engine.Resolution
		want engine.Verdict
	}{
		{"unknown, not allowed", answer(task.ID, "other", "used", "dance", `{}`), engine.VerdictUnknown},
		{"not allowed, with a receipt", answer(task.ID, "done", "used", "dance", `{}`), engine.VerdictNotAllowed},
		{"not allowed, late", unfit(answer(task.ID, "late", "c", "", `{}`)), engine.VerdictNotAllowed},
		{"the same, unfit", unfit(answer(task.ID, "done", "used", "approve", `{"n":1}`)), engine.VerdictDeduplicated},
		{"another payload", answer(task.ID, "done", "used", "approve", `{"n":2}`), engine.VerdictConflict},
		{"another suspension", answer(task.ID, "open", "used", "approve", `{"n":1}`), engine.VerdictConflict},
		{"another suspension, late", answer(task.ID, "late", "used", "approve", `{"n":1}`), engine.VerdictConflict},
		{"resolved, unfit", unfit(answer(task.ID, "done", "new", "reject", `{}`)), engine.VerdictResolved},
		{"late, unfit", unfit(answer(task.ID, "late", "new", "reject", `{}`)), engine.VerdictExpired},
		{"unfit", unfit(answer(task.ID, "open", "new", "reject", `{}`)), engine.VerdictUnfit},
		{"an expiry of what never expires", expiry(task.ID, "open", nil), engine.VerdictExpired},
		{"an expiry of what is unknown", expiry(task.ID, "other", nil), engine.VerdictUnknown},
		{"an expiry of what is resolved", expiry(task.ID, "done", nil), engine.VerdictResolved},
	} {
		f.Run(c.what, func() { f.resolve(f.peerActions(), c.r, c.want) })
	}
	f.wantTypes(task.ID, "SUSPENDED SUSPENDED SUSPENDED ACTION_ACCEPTED")
	// None of them left a receipt.
	f.resolve(node, answer(task.ID, "open", "new", "reject", `{}`), engine.VerdictAccepted)
}

// Run names what fails.
func (f *fixture) Run(what string, test func()) {
	f.Helper()
	failed := f.Failed()
	test()
	if f.Failed() && !failed {
		f.Logf("at %q", what)
	}
}

func testResolveRace(f *fixture) {
	const rivals = 200
	task := f.create()
	f.append(task.ID, asking("s", time.Time{}, nil))
	var group sync.WaitGroup
	var start starter
	var mu sync.Mutex
	count := map[engine.Verdict]int{}
	winner := ""
	for i := range rivals {
		node := []engine.ActionStore{f.actions(), f.peerActions()}[i%2]
		group.Go(func() {
			start.wait()
			id := fmt.Sprint("c", i)
			v, err := node.Resolve(f.ctx(), answer(task.ID, "s", id, "approve", fmt.Sprintf(`{"n":%d}`, i)))
			if err != nil {
				f.Errorf("Resolve: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			count[v]++
			if v == engine.VerdictAccepted {
				winner = id
			}
		})
	}
	start.start()
	group.Wait()
	if count[engine.VerdictAccepted] != 1 || count[engine.VerdictResolved] != rivals-1 {
		f.Errorf("the verdicts are %v", count)
	}
	if s := f.suspension(f.peerActions(), task.ID, "s"); s.Answer == nil || s.Answer.ClientActionID != winner {
		f.Errorf("it is %+v, accepted was %s", s, winner)
	}
	f.wantTypes(task.ID, "SUSPENDED ACTION_ACCEPTED")
}

func testResolveNames(f *fixture) {
	task := f.create()
	names := []string{"a:b", "a", "0", "m:a", "ü\x00\n\"\\", "{x}", strings.Repeat("é", 255), "r:a", " ", "1:a"}
	for _, name := range names {
		f.append(task.ID, asking(name, time.Time{}, nil))
	}
	for i, name := range names {
		other := names[(i+1)%len(names)]
		f.resolve(f.actions(), answer(task.ID, name, other, "approve", fmt.Sprintf(`{"n":%d}`, i)), engine.VerdictAccepted)
	}
	for i, name := range names {
		s := f.suspension(f.peerActions(), task.ID, name)
		if s.SuspendID != name || s.Answer == nil || s.Answer.ClientActionID != names[(i+1)%len(names)] ||
			string(s.Answer.Payload) != fmt.Sprintf(`{"n":%d}`, i) {
			f.Errorf("%q is %+v", name, s)
		}
	}
}

func testResolveSeveral(f *fixture) {
	task := f.create()
	f.append(task.ID, asking("a", time.Time{}, nil), asking("b", time.Time{}, nil), asking("c", time.Time{}, nil))
	f.resolve(f.actions(), answer(task.ID, "b", "1", "approve", `{}`), engine.VerdictAccepted)
	if open := f.get(task.ID).Suspensions; len(open) != 2 || open[0].SuspendID != "a" || open[1].SuspendID != "c" {
		f.Errorf("open are %+v", open)
	}
	f.resolve(f.actions(), answer(task.ID, "a", "1", "approve", `{}`), engine.VerdictConflict)
	f.resolve(f.peerActions(), answer(task.ID, "a", "2", "approve", `{}`), engine.VerdictAccepted)
	f.resolve(f.actions(), answer(task.ID, "c", "3", "approve", `{}`), engine.VerdictAccepted)
	if open := f.get(task.ID).Suspensions; len(open) != 0 {
		f.Errorf("open are %+v", open)
	}
}

func testResolveSignal(f *fixture) {
	signals, ok := f.store.(engine.Signals)
	if !ok {
		f.Skip("the store has no Signals")
	}
	peer := f.peer.(engine.Signals)
	task := f.create()
	f.append(task.ID, asking("a", time.Time{}, nil), asking("b", time.Time{}, nil), asking("c", time.Now(), nil))
	heard := make(chan engine.Signal, 64)
	stop, err := peer.Listen(f.ctx(), task.ID, func(s engine.Signal) { heard <- s })
	if err != nil {
		f.Fatal(err)
	}
	defer stop()
	var last engine.Signal
	more := func(what string, cond func(engine.Signal) bool) {
		f.Helper()
		before := last
		eventually(f.T, what, func() bool {
			for len(heard) > 0 {
				last = <-heard
			}
			return cond(last) && last != before
		})
	}
	grew := func() func(engine.Signal) bool {
		before := last.Resolved
		return func(s engine.Signal) bool { return s.Resolved > before }
	}
	f.resolve(f.actions(), answer(task.ID, "a", "1", "approve", `{}`), engine.VerdictAccepted)
	more("a signal after an answer", grew())
	if _, err := f.store.RequestCancel(f.ctx(), task.ID, "why"); err != nil {
		f.Fatal(err)
	}
	more("a signal after a cancellation", func(s engine.Signal) bool { return s.CancelRequested && s.CancelReason == "why" })
	standard := &engine.DefaultAction{ActionType: "reject", Payload: []byte(`{}`)}
	f.resolve(f.actions(), expiry(task.ID, "c", standard), engine.VerdictAccepted)
	more("a signal after an expiry", grew())
	f.append(task.ID, completed())
	more("a signal after the end", grew())

	// Who comes late is told at once.
	late := make(chan engine.Signal, 8)
	stopLate, err := signals.Listen(f.ctx(), task.ID, func(s engine.Signal) { late <- s })
	if err != nil {
		f.Fatal(err)
	}
	defer stopLate()
	eventually(f.T, "a signal to who comes late", func() bool { return len(late) > 0 })
	if got := <-late; got != last {
		f.Errorf("who comes late hears %+v, want %+v", got, last)
	}
}
