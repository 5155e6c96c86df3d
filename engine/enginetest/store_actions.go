package enginetest

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var actionTests = []storeTest{
	{"a suspension comes back as it was asked for", testSuspension, false},
	{"an answer resolves, once", testResolve, false},
	{"what stands against an answer, in its order", testVerdicts, false},
	{"of many answers on two nodes one is accepted", testResolveRace, false},
	{"names of every kind", testResolveNames, false},
	{"several suspensions of a task", testResolveSeveral, false},
	{"an answer makes the task's signal change", testResolveSignal, false},
	{"a suspension expires by failing its task", testExpireFails, true},
	{"a suspension expires with its default", testExpireDefault, false},
	{"of answers and expiries at once one is accepted", testExpireRace, false},
	{"the end of a task closes what is open", testActionsEnd, false},
	{"an event closes a suspension, too", testActionEvent, false},
	{"an id that is used again", testSuspendTwice, false},
	{"an erased task has none", testActionsErased, false},
	{"what expired is due, for one at a time", testDueExpired, true},
	{"what was not handed over is due after a while", testDueHandOff, true},
	{"what is settled is not due", testDueSettled, true},
	{"a limit bounds what is due, not what is found", testDueLimit, false},
	{"a fence that is stale hands nothing over", testHandedOverFence, false},
}

func (f *fixture) actions() engine.ActionStore     { return f.store.(engine.ActionStore) }
func (f *fixture) peerActions() engine.ActionStore { return f.peer.(engine.ActionStore) }

// asking is a TASK_SUSPENDED that allows approve and reject.
func asking(id string, expiresAt time.Time, standard *engine.DefaultAction) engine.Draft {
	s := engine.Suspended{
		SuspendID: id, Kind: engine.UserActionRequired, ReasonCode: "R", AllowedActions: []string{"approve", "reject"}, SchemaVersion: 1,
	}
	if !expiresAt.IsZero() {
		at := expiresAt.UTC().Truncate(time.Microsecond)
		s.ExpiresAt = &at
	}
	payload, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and a time
	}
	d := draft(engine.TypeSuspended, string(payload))
	d.Default = standard
	return d
}

// expiry is a Resolution by the end of a suspension's time.
func expiry(taskID, suspendID string, standard *engine.DefaultAction) engine.Resolution {
	if standard == nil {
		return engine.Resolution{TaskID: taskID, SuspendID: suspendID, Expiry: true, Event: failure("SUSPENSION_EXPIRED")}
	}
	r := answer(taskID, suspendID, "expired", standard.ActionType, string(standard.Payload))
	r.Expiry, r.Fingerprint, r.Action.ClientActionID, r.Action.Actor = true, "", "", ""
	return r
}

func (f *fixture) suspension(node engine.ActionStore, taskID, id string) engine.Suspension {
	f.Helper()
	s, err := node.Suspension(f.ctx(), taskID, id)
	if err != nil {
		f.Fatalf("Suspension: %v", err)
	}
	return s
}

func (f *fixture) types(taskID string) string {
	f.Helper()
	var names []string
	for _, ev := range f.log(taskID) {
		names = append(names, strings.TrimPrefix(string(ev.Type), "TASK_"))
	}
	return strings.Join(names, " ")
}

func (f *fixture) wantTypes(taskID, want string) {
	f.Helper()
	if got := f.types(taskID); got != want {
		f.Errorf("the log is %s, want %s", got, want)
	}
}

// due asks both nodes, until they have looked at everything, and gives
// "task/suspension", sorted.
func (f *fixture) due(limit int) (found []string, all map[string]engine.DueSuspension) {
	f.Helper()
	all = map[string]engine.DueSuspension{}
	for _, node := range []engine.ActionStore{f.actions(), f.peerActions()} {
		eventually(f.T, "Due looks at everything", func() bool {
			list, err := node.Due(f.ctx(), limit)
			if err != nil {
				f.unlooked.Add(1)
				if engine.CodeOf(err) != engine.CodeStoreUnavailable {
					f.Fatalf("Due: %v", err)
				}
			}
			if len(list) > limit {
				f.Fatalf("Due gave %d suspensions, the limit is %d", len(list), limit)
			}
			for _, d := range list {
				found = append(found, d.TaskID+"/"+d.SuspendID)
				all[d.SuspendID] = d
			}
			return err == nil
		})
	}
	slices.Sort(found)
	return found, all
}

func testSuspension(f *fixture) {
	task := f.create()
	standard := &engine.DefaultAction{ActionType: "reject", Payload: []byte(`{"why":"ü"}`)}
	d := suspended("s")
	d.Default = standard
	f.append(task.ID, started(), d, asking("plain", time.Time{}, nil))
	for _, node := range []engine.ActionStore{f.actions(), f.peerActions()} {
		s := f.suspension(node, task.ID, "s")
		if !s.Open || s.HandedOver || s.Expired || s.Answer != nil || s.SuspendID != "s" || s.Kind != engine.UserActionRequired ||
			s.ReasonCode != "R" || !slices.Equal(s.AllowedActions, []string{"approve", "reject"}) || s.SchemaVersion != 2 ||
			s.ExpiresAt == nil || !s.ExpiresAt.Equal(time.Date(2100, 1, 2, 3, 4, 5, 678e6, time.UTC)) || string(s.UIHints) != `{"k":[1]}` {
			f.Errorf("it is %+v", s)
		}
		if s.Default == nil || s.Default.ActionType != "reject" || string(s.Default.Payload) != `{"why":"ü"}` {
			f.Errorf("the default is %+v", s.Default)
		}
		if s := f.suspension(node, task.ID, "plain"); s.Default != nil || s.ExpiresAt != nil || !s.Open {
			f.Errorf("the plain one is %+v", s)
		}
		_, err := node.Suspension(f.ctx(), task.ID, "other")
		f.wantCode("an unknown suspension", err, engine.CodeTaskNotFound)
		for _, id := range []string{"", "0000000000000000000000000000", "a{b}"} {
			_, err = node.Suspension(f.ctx(), id, "s")
			f.wantCode("a suspension of an unknown task", err, engine.CodeTaskNotFound)
			_, err = node.Resolve(f.ctx(), answer(id, "s", "c", "approve", `{}`))
			f.wantCode("an answer to an unknown task", err, engine.CodeTaskNotFound)
			if err := node.HandedOver(f.ctx(), id, "s", 0); err != nil {
				f.Errorf("HandedOver of an unknown task: %v", err)
			}
		}
	}
	if open := f.get(task.ID).Suspensions; len(open) != 2 || open[0].SuspendID != "s" || open[1].SuspendID != "plain" {
		f.Errorf("the record has %+v", open)
	}
}

func testActionsEnd(f *fixture) {
	task := f.create()
	f.append(task.ID, asking("a", time.Now().Add(-time.Second), nil), asking("b", time.Time{}, nil))
	kept := answer(task.ID, "b", "c", "approve", `{}`)
	f.resolve(f.actions(), kept, engine.VerdictAccepted)
	f.append(task.ID, cancelled())
	if s := f.suspension(f.peerActions(), task.ID, "a"); s.Open || s.Expired || s.Answer != nil {
		f.Errorf("it is %+v", s)
	}
	if s := f.suspension(f.peerActions(), task.ID, "b"); s.Open || s.Answer == nil {
		f.Errorf("it is %+v", s)
	}
	f.resolve(f.actions(), kept, engine.VerdictDeduplicated)
	f.resolve(f.actions(), answer(task.ID, "b", "c", "reject", `{}`), engine.VerdictConflict)
	f.resolve(f.actions(), answer(task.ID, "a", "c2", "approve", `{}`), engine.VerdictResolved)
	f.resolve(f.peerActions(), expiry(task.ID, "a", nil), engine.VerdictResolved)
	f.wantTypes(task.ID, "SUSPENDED SUSPENDED ACTION_ACCEPTED CANCELLED")
}

func testActionEvent(f *fixture) {
	task := f.create()
	f.append(task.ID, suspended("s"), accepted("s"))
	if s := f.suspension(f.peerActions(), task.ID, "s"); s.Open || s.Expired || s.Answer != nil {
		f.Errorf("it is %+v", s)
	}
	f.resolve(f.actions(), answer(task.ID, "s", "c", "approve", `{}`), engine.VerdictResolved)
	f.append(task.ID, suspended("t"), completed())
	if s := f.suspension(f.peerActions(), task.ID, "t"); s.Open {
		f.Errorf("it is %+v", s)
	}
}

func testSuspendTwice(f *fixture) {
	task := f.create()
	first := answer(task.ID, "s", "c", "approve", `{}`)
	f.append(task.ID, asking("s", time.Time{}, nil))
	f.resolve(f.actions(), first, engine.VerdictAccepted)
	f.append(task.ID, asking("s", time.Time{}, nil))
	if s := f.suspension(f.peerActions(), task.ID, "s"); !s.Open || s.Answer != nil || s.HandedOver {
		f.Errorf("it is %+v", s)
	}
	// A late repeat of the answer to the first is none to the second.
	f.resolve(f.peerActions(), first, engine.VerdictDeduplicated)
	f.resolve(f.actions(), answer(task.ID, "s", "c2", "reject", `{}`), engine.VerdictAccepted)
	if s := f.suspension(f.peerActions(), task.ID, "s"); s.Open || s.Answer == nil || s.Answer.ClientActionID != "c2" {
		f.Errorf("it is %+v", s)
	}
	f.wantTypes(task.ID, "SUSPENDED ACTION_ACCEPTED SUSPENDED ACTION_ACCEPTED")
}

func testActionsErased(f *fixture) {
	task := f.create()
	f.append(task.ID, asking("s", time.Now().Add(-time.Second), nil))
	if err := f.store.Erase(f.ctx(), task.ID); err != nil {
		f.Fatal(err)
	}
	for _, node := range []engine.ActionStore{f.actions(), f.peerActions()} {
		_, err := node.Suspension(f.ctx(), task.ID, "s")
		f.wantCode("a suspension of an erased task", err, engine.CodeTaskNotFound)
		_, err = node.Resolve(f.ctx(), expiry(task.ID, "s", nil))
		f.wantCode("an expiry of an erased task", err, engine.CodeTaskNotFound)
	}
	if found, _ := f.due(10); len(found) != 0 {
		f.Errorf("due are %v", found)
	}
}
