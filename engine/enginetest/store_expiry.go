package enginetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func testExpireFails(f *fixture) {
	task := f.create()
	f.append(task.ID, asking("s", time.Now().Add(1500*time.Millisecond), nil), asking("other", time.Time{}, nil))
	f.resolve(f.actions(), expiry(task.ID, "s", nil), engine.VerdictExpired) // not yet
	f.wantTypes(task.ID, "SUSPENDED SUSPENDED")
	var v engine.Verdict
	eventually(f.T, "the expiry is accepted", func() bool {
		var err error
		if v, err = f.peerActions().Resolve(f.ctx(), expiry(task.ID, "s", nil)); err != nil {
			f.Fatal(err)
		}
		return v != engine.VerdictExpired
	})
	if v != engine.VerdictAccepted {
		f.Errorf("the verdict is %d", v)
	}
	f.wantTypes(task.ID, "SUSPENDED SUSPENDED FAILED")
	got := f.get(task.ID)
	if got.Status != engine.StatusFailed || got.Terminal == nil || len(got.Suspensions) != 0 {
		f.Errorf("the record is %+v", got)
	}
	if s := f.suspension(f.actions(), task.ID, "s"); s.Open || !s.Expired || s.Answer != nil {
		f.Errorf("it is %+v", s)
	}
	if s := f.suspension(f.actions(), task.ID, "other"); s.Open || s.Expired || s.Answer != nil {
		f.Errorf("the other one is %+v", s)
	}
	for _, id := range []string{"s", "other"} {
		f.resolve(f.actions(), answer(task.ID, id, "c", "approve", `{}`), engine.VerdictResolved)
		f.resolve(f.actions(), expiry(task.ID, id, nil), engine.VerdictResolved)
	}
}

func testExpireDefault(f *fixture) {
	task := f.create()
	standard := &engine.DefaultAction{ActionType: "reject", Payload: []byte(`{"n":1}`)}
	for i, id := range []string{"a", "b"} { // the second one meets no receipt of the first
		f.append(task.ID, asking(id, time.Now().Add(-time.Second), standard))
		r := expiry(task.ID, id, standard)
		f.resolve(f.actions(), r, engine.VerdictAccepted)
		f.resolve(f.peerActions(), r, engine.VerdictExpired)
		f.resolve(f.actions(), answer(task.ID, id, "", "reject", `{"n":1}`), engine.VerdictExpired)
		s := f.suspension(f.peerActions(), task.ID, id)
		if s.Open || !s.Expired || s.HandedOver || s.Answer == nil || s.Answer.Actor != "" || s.Answer.ClientActionID != "" ||
			s.Answer.ActionType != "reject" || string(s.Answer.Payload) != `{"n":1}` {
			f.Errorf("it is %+v, %+v", s, s.Answer)
		}
		if n := len(f.log(task.ID)); n != 2*(i+1) {
			f.Errorf("%d events", n)
		}
	}
	if status := f.get(task.ID).Status; status.Terminal() {
		f.Errorf("the task is %s", status)
	}
}

func testExpireRace(f *fixture) {
	standard := &engine.DefaultAction{ActionType: "reject", Payload: []byte(`{}`)}
	for range 10 {
		task := f.create()
		f.append(task.ID, asking("s", time.Now().Add(20*time.Millisecond), standard))
		var group sync.WaitGroup
		var start starter
		var mu sync.Mutex
		accepted := []engine.Resolution{}
		for i := range 8 {
			node := []engine.ActionStore{f.actions(), f.peerActions()}[i%2]
			r := expiry(task.ID, "s", standard)
			if i >= 4 {
				r = answer(task.ID, "s", fmt.Sprint("c", i), "approve", `{}`)
			}
			group.Go(func() {
				start.wait()
				limit := time.Now().Add(patience)
				for more := 2; more > 0 && time.Now().Before(limit); { // once more when one is accepted
					mu.Lock()
					if len(accepted) > 0 {
						more--
					}
					mu.Unlock()
					v, err := node.Resolve(f.ctx(), r)
					if err != nil {
						f.Errorf("Resolve: %v", err)
						return
					}
					if v == engine.VerdictAccepted {
						mu.Lock()
						accepted = append(accepted, r)
						mu.Unlock()
						return
					}
				}
			})
		}
		time.Sleep(10 * time.Millisecond) // so that both come in question
		start.start()
		group.Wait()
		if len(accepted) != 1 {
			f.Fatalf("%d were accepted", len(accepted))
		}
		if s := f.suspension(f.actions(), task.ID, "s"); s.Answer == nil || s.Expired != accepted[0].Expiry {
			f.Errorf("it is %+v, accepted was %+v", s, accepted[0])
		}
		f.wantTypes(task.ID, "SUSPENDED ACTION_ACCEPTED")
	}
}
