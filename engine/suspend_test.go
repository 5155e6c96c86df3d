package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// suspend asks and gives the error.
func suspend(run *engine.Run, s engine.Suspended) error {
	_, err := run.Suspend(context.Background(), s)
	return err
}

// question is a suspension that allows yes and no.
func question(id string) engine.Suspended {
	return engine.Suspended{
		SuspendID: id, Kind: engine.UserActionRequired, ReasonCode: "r", AllowedActions: []string{"yes", "no"},
	}
}

func expiring(s engine.Suspended, after time.Duration) engine.Suspended {
	at := time.Now().Add(after)
	s.ExpiresAt = &at
	return s
}

// asked is a Suspend under way.
type asked struct {
	answer engine.Action
	err    error
	done   chan struct{}
	at     time.Time
}

func ask(ctx context.Context, run *engine.Run, s engine.Suspended) *asked {
	a := &asked{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.answer, a.err = run.Suspend(ctx, s)
		a.at = time.Now()
	}()
	return a
}

func (a *asked) wait() *asked { <-a.done; return a }

// open is the id of the task's only open suspension, once there is one.
func (w *world) suspended(t *testing.T, id string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		task, err := w.store.Store.Get(context.Background(), id, engine.Fresh)
		if err == nil && len(task.Suspensions) > 0 {
			return task.Suspensions[0].SuspendID
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("no suspension")
	return ""
}

func (w *world) act(task, suspension, id, actionType, payload string) (engine.ActionResult, error) {
	return w.Act(context.Background(), alice, engine.ActionRequest{
		TaskID: task, ClientActionID: id, SuspendID: suspension, ActionType: actionType, Payload: json.RawMessage(payload),
	})
}

func wantStatus(t *testing.T, res engine.ActionResult, err error, want engine.ActionStatus) {
	t.Helper()
	if err != nil || res.Status != want {
		t.Errorf("the answer became %q, %v, want %s", res.Status, err, want)
	}
}

func TestSuspendAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		run.Emit(ctx, engine.Started{})
		a := ask(ctx, run, question(""))
		synctest.Wait()
		id := w.suspended(t, task.ID)
		time.Sleep(48 * time.Hour)
		res, err := w.act(task.ID, id, "c1", "yes", `{"n":1}`)
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		if res != (engine.ActionResult{TaskID: task.ID, SuspendID: id, ClientActionID: "c1", Status: engine.ActionStatusAccepted}) {
			t.Errorf("%+v", res)
		}
		a.wait()
		if a.err != nil || a.answer.ActionType != "yes" || string(a.answer.Payload) != `{"n":1}` || a.answer.Actor != "alice" ||
			a.answer.ClientActionID != "c1" || a.answer.SuspendID != id {
			t.Errorf("%+v, %v", a.answer, a.err)
		}
		if took := a.at.Sub(a.answer.AcceptedAt); took < 0 || took > time.Millisecond {
			t.Errorf("the answer took %v", took)
		}
		s, err := w.store.Suspension(ctx, task.ID, id)
		if err != nil || s.Open || !s.HandedOver || s.Expired {
			t.Errorf("%+v, %v", s, err)
		}
		if got := types(w.events(t, task.ID)); !slices.Equal(got, []string{"STARTED", "SUSPENDED", "ACTION_ACCEPTED"}) {
			t.Errorf("%v", got)
		}
		// A repeat, and what differs from it.
		res, err = w.act(task.ID, id, "c1", "yes", ` {"n": 1.0}`)
		wantStatus(t, res, err, engine.ActionStatusDeduplicated)
		_, err = w.act(task.ID, id, "c1", "yes", `{"n":2}`)
		wantCode(t, err, engine.CodeIdempotency)
		_, err = w.act(task.ID, id, "c1", "no", `{"n":1}`)
		wantCode(t, err, engine.CodeIdempotency)
		res, err = w.act(task.ID, id, "c2", "yes", `{"n":1}`)
		wantStatus(t, res, err, engine.ActionStatusResolved)
		_, err = w.act(task.ID, id, "c3", "maybe", ``)
		wantCode(t, err, engine.CodeIdempotency)
		_, err = w.act(task.ID, "other", "c1", "yes", ``)
		if e := wantCode(t, err, engine.CodeTaskNotFound); e.Message != "no such suspension" {
			t.Errorf("%q", e.Message)
		}
		// Nobody else's.
		_, err = w.Act(ctx, bob, engine.ActionRequest{TaskID: task.ID, ClientActionID: "c", SuspendID: id, ActionType: "yes"})
		_, unknown := w.Act(ctx, bob, engine.ActionRequest{TaskID: "0000000000000000", ClientActionID: "c", SuspendID: id, ActionType: "yes"})
		if wantCode(t, err, engine.CodeTaskNotFound).Error() != unknown.Error() {
			t.Errorf("%v, %v", err, unknown)
		}
		// Over.
		run.Emit(ctx, engine.Completed{})
		res, err = w.act(task.ID, id, "c4", "yes", ``)
		wantStatus(t, res, err, engine.ActionStatusResolved)
		res, err = w.act(task.ID, id, "c1", "yes", `{"n":1}`)
		wantStatus(t, res, err, engine.ActionStatusDeduplicated)
	})
}

func TestActRefusesWhatDoesNotFit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		long := string(make([]byte, 300))
		for _, c := range []struct {
			field string
			req   engine.ActionRequest
		}{
			{"clientActionId", engine.ActionRequest{SuspendID: "s", ActionType: "a"}},
			{"suspendId", engine.ActionRequest{ClientActionID: "c", ActionType: "a"}},
			{"actionType", engine.ActionRequest{ClientActionID: "c", SuspendID: "s"}},
			{"clientActionId", engine.ActionRequest{ClientActionID: long, SuspendID: "s", ActionType: "a"}},
			{"payload", engine.ActionRequest{ClientActionID: "c", SuspendID: "s", ActionType: "a", Payload: []byte(`[]`)}},
			{"payload", engine.ActionRequest{ClientActionID: "c", SuspendID: "s", ActionType: "a", Payload: []byte(`{`)}},
			{"metadata", engine.ActionRequest{ClientActionID: "c", SuspendID: "s", ActionType: "a", Metadata: []byte(`1`)}},
		} {
			_, err := w.Act(context.Background(), alice, c.req)
			if got := field(t, err); got != c.field {
				t.Errorf("names %q, want %q", got, c.field)
			}
		}
		_, err := w.Act(context.Background(), engine.AuthContext{}, engine.ActionRequest{ClientActionID: "c", SuspendID: "s", ActionType: "a"})
		wantCode(t, err, engine.CodeAuthentication)
	})
}

func TestSuspendExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		start := time.Now()
		_, err := run.Suspend(ctx, expiring(question(""), time.Hour))
		if err != engine.ErrSuspensionExpired { //nolint:errorlint // the very value
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took < time.Hour || took > time.Hour+2*time.Second {
			t.Errorf("expired after %v", took)
		}
		events := w.events(t, task.ID)
		if string(events[1].Payload) != `{"code":"SUSPENSION_EXPIRED","message":"nobody answered in time","retryable":false}` {
			t.Errorf("%s", events[1].Payload)
		}
		res, err := w.act(task.ID, task.ID+"-1", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusResolved) // the task is over
		if n := w.metrics.get(engine.MetricTaskFailures, ""); n != 1 {
			t.Errorf("%d failures", n)
		}
		// In the past from the beginning.
		task = w.task(t)
		run = w.open(t, task)
		defer run.Close(ctx)
		if err := suspend(run, expiring(question(""), -time.Second)); !errors.Is(err, engine.ErrSuspensionExpired) {
			t.Errorf("%v", err)
		}
	})
}

func TestSuspendDefaultAction(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		s := expiring(question("s"), time.Minute)
		s.Default = &engine.DefaultAction{ActionType: "no", Payload: json.RawMessage(`{ "why": "late" }`)}
		answer, err := run.Suspend(ctx, s)
		if err != nil || answer.ActionType != "no" || string(answer.Payload) != `{"why":"late"}` || answer.Actor != "" || answer.ClientActionID != "" {
			t.Errorf("%+v, %v", answer, err)
		}
		events := w.events(t, task.ID)
		if got := types(events); !slices.Equal(got, []string{"SUSPENDED", "ACTION_ACCEPTED"}) {
			t.Fatalf("%v", got)
		}
		var accepted engine.ActionAccepted
		if err := json.Unmarshal(events[1].Payload, &accepted); err != nil || accepted.ClientActionID != "expired" || accepted.ActionType != "no" {
			t.Errorf("%s", events[1].Payload)
		}
		res, err := w.act(task.ID, "s", "expired", "no", `{"why":"late"}`)
		wantStatus(t, res, err, engine.ActionStatusExpired)
		// Twice in a task.
		s = expiring(question("s2"), time.Minute)
		s.Default = &engine.DefaultAction{ActionType: "yes"}
		if answer, err := run.Suspend(ctx, s); err != nil || answer.ActionType != "yes" || string(answer.Payload) != `{}` {
			t.Errorf("%+v, %v", answer, err)
		}
		for what, bad := range map[string]engine.Suspended{
			"default":   {Default: &engine.DefaultAction{ActionType: "other"}},
			"expiresAt": {Default: &engine.DefaultAction{ActionType: "yes"}},
		} {
			q := question("bad")
			if what == "default" {
				q = expiring(q, time.Minute)
			}
			q.Default = bad.Default
			if got := field(t, suspend(run, q)); got != what {
				t.Errorf("names %q, want %q", got, what)
			}
		}
	})
}

// Nobody waits in this process: the reconciler lets it expire.
func TestReconcilerExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		for _, d := range []*engine.DefaultAction{nil, {ActionType: "no"}} {
			task := w.task(t)
			run := w.open(t, task)
			s := expiring(question("s"), 10*time.Minute)
			s.Default = d
			if err := run.Emit(ctx, s); err != nil {
				t.Fatal(err)
			}
			run.Close(ctx)
			time.Sleep(10*time.Minute - time.Millisecond)
			if n := len(w.events(t, task.ID)); n != 1 {
				t.Errorf("%d events before the time", n)
			}
			time.Sleep(2*time.Second + time.Millisecond)
			want := engine.TypeFailed
			if d != nil {
				want = engine.TypeActionAccepted
			}
			if events := w.events(t, task.ID); len(events) != 2 || events[1].Type != want {
				t.Errorf("%v", types(events))
			}
		}
	})
}

func TestSuspendEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := ask(short, run, question("s")).wait().err; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		// It goes on with the same one.
		a := ask(ctx, run, question("s"))
		synctest.Wait()
		if n := len(w.events(t, task.ID)); n != 1 {
			t.Errorf("%d events", n)
		}
		time.AfterFunc(time.Second, func() { w.Cancel(ctx, alice, task.ID, "stop") })
		var cancelled *engine.CancelRequested
		if err := a.wait().err; !errors.As(err, &cancelled) {
			t.Errorf("%v", err)
		}
		bad := question("t")
		bad.Kind = ""
		if got := field(t, suspend(w.open(t, w.task(t)), bad)); got != "kind" {
			t.Errorf("names %q", got)
		}
		run.Close(ctx)

		// Closed by another's terminal event.
		task = w.task(t)
		run = w.open(t, task)
		defer run.Close(ctx)
		a = ask(ctx, run, question("s"))
		synctest.Wait()
		w.emit(t, task, engine.Failed{Code: "c", Message: "m"})
		wantCode(t, a.wait().err, engine.CodeTaskAlreadyTerminal)
		// Erased.
		task = w.task(t)
		run = w.open(t, task)
		defer run.Close(ctx)
		a = ask(ctx, run, expiring(question("s"), time.Minute))
		synctest.Wait()
		w.store.Erase(ctx, task.ID)
		wantCode(t, a.wait().err, engine.CodeTaskNotFound)
	})
}

// A second run asks again.
func TestSuspendAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		first := w.open(t, task)
		first.Emit(ctx, engine.Started{})
		a := ask(ctx, first, question(""))
		synctest.Wait()
		first.Close(ctx)
		if a.wait(); a.err == nil {
			t.Error("a closed run got an answer")
		}
		reopen := func() *engine.Run {
			now, _ := w.store.Store.Get(ctx, task.ID, engine.Fresh)
			return w.open(t, now)
		}
		second := reopen()
		if !second.Restarted() || first.Restarted() {
			t.Error("Restarted")
		}
		a = ask(ctx, second, question(""))
		synctest.Wait()
		if got := types(w.events(t, task.ID)); !slices.Equal(got, []string{"STARTED", "SUSPENDED"}) {
			t.Errorf("%v", got)
		}
		res, err := w.act(task.ID, w.suspended(t, task.ID), "c", "no", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		if a.wait(); a.err != nil || a.answer.ActionType != "no" {
			t.Errorf("%+v, %v", a.answer, a.err)
		}
		second.Close(ctx)
		third := reopen()
		defer third.Close(ctx)
		if a := ask(ctx, third, question("")).wait(); a.err != nil || a.answer.ActionType != "no" {
			t.Errorf("%+v, %v", a.answer, a.err)
		}
		a = ask(ctx, third, question(""))
		synctest.Wait()
		if got := types(w.events(t, task.ID)); !slices.Equal(got, []string{"STARTED", "SUSPENDED", "ACTION_ACCEPTED", "SUSPENDED"}) {
			t.Errorf("%v", got)
		}
		res, err = w.act(task.ID, task.ID+"-2", "c2", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		if a.wait(); a.answer.ActionType != "yes" {
			t.Errorf("%+v, %v", a.answer, a.err)
		}
	})
}

func TestSeveralSuspensions(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		all := map[string]*asked{}
		for i := range 5 {
			id := fmt.Sprint("s", i)
			all[id] = ask(ctx, run, question(id))
		}
		synctest.Wait()
		for i := range 5 {
			id := fmt.Sprint("s", 4-i)
			res, err := w.act(task.ID, id, "c-"+id, "yes", fmt.Sprintf(`{"id":%q}`, id))
			wantStatus(t, res, err, engine.ActionStatusAccepted)
			a := all[id].wait()
			if a.err != nil || a.answer.ClientActionID != "c-"+id {
				t.Errorf("%+v, %v", a.answer, a.err)
			}
		}
		now, _ := w.store.Store.Get(ctx, task.ID, engine.Fresh)
		if len(now.Suspensions) != 0 {
			t.Errorf("%+v", now.Suspensions)
		}
	})
}

// 200 different answers at once.
func TestManyAnswers(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	task := w.task(t)
	run := w.open(t, task)
	defer run.Close(ctx)
	a := ask(ctx, run, question("s"))
	w.suspended(t, task.ID)
	var group sync.WaitGroup
	var mu sync.Mutex
	count := map[engine.ActionStatus]int{}
	winner := ""
	start := make(chan struct{})
	for i := range 200 {
		group.Go(func() {
			<-start
			id := fmt.Sprint("c", i)
			res, err := w.act(task.ID, "s", id, []string{"yes", "no"}[i%2], fmt.Sprintf(`{"i":%d}`, i))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			count[res.Status]++
			if res.Status == engine.ActionStatusAccepted {
				winner = id
			}
		})
	}
	close(start)
	group.Wait()
	if a.wait(); a.err != nil || a.answer.ClientActionID != winner {
		t.Errorf("%+v, %v, want %s", a.answer, a.err, winner)
	}
	if count[engine.ActionStatusAccepted] != 1 || count[engine.ActionStatusResolved] != 199 {
		t.Errorf("%v", count)
	}
	if got := types(w.events(t, task.ID)); !slices.Equal(got, []string{"SUSPENDED", "ACTION_ACCEPTED"}) {
		t.Errorf("%v", got)
	}
}

// fits is a validator.
type fits func(ctx context.Context, task engine.Task, s engine.Suspension, actionType string, payload json.RawMessage) error

func (f fits) Validate(ctx context.Context, task engine.Task, s engine.Suspension, actionType string, payload json.RawMessage) error {
	return f(ctx, task, s, actionType, payload)
}

func TestActionValidator(t *testing.T) {
	var answer error
	calls := 0
	validator := fits(func(_ context.Context, _ engine.Task, s engine.Suspension, actionType string, payload json.RawMessage) error {
		calls++
		if s.SuspendID != "s" || actionType != "yes" || string(payload) != `{}` {
			t.Errorf("%+v %s %s", s, actionType, payload)
		}
		return answer
	})
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.ActionValidator = validator })
	task := w.task(t)
	run := w.open(t, task)
	defer run.Close(context.Background())
	a := ask(context.Background(), run, question("s"))
	w.suspended(t, task.ID)

	unfit := engine.NewError(engine.CodeRequestValidation, "payload.n is missing")
	unfit.Fields = []engine.FieldError{{Field: "payload.n", Message: "is missing"}}
	answer = unfit
	_, err := w.act(task.ID, "s", "c", "yes", "")
	if got := field(t, err); got != "payload.n" {
		t.Errorf("names %q", got)
	}
	answer = errors.New("secret")
	_, err = w.act(task.ID, "s", "c", "yes", "")
	wantCode(t, err, engine.CodeInternal)
	answer = unavailable
	_, err = w.act(task.ID, "s", "c", "yes", "")
	wantCode(t, err, engine.CodeStoreUnavailable)
	if _, err := w.act(task.ID, "s", "c", "maybe", ""); calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	answer = nil
	res, err := w.act(task.ID, "s", "c", "yes", "")
	wantStatus(t, res, err, engine.ActionStatusAccepted) // a refused answer left no receipt
	if a.wait(); a.err != nil {
		t.Error(a.err)
	}
	answer = unfit // what does not fit any more, after it was accepted
	res, err = w.act(task.ID, "s", "c", "yes", "")
	wantStatus(t, res, err, engine.ActionStatusDeduplicated)
	if calls != 4 {
		t.Errorf("%d calls", calls)
	}
}

// What was known of the suspensions of a task that is over may be gone before its
// record.
func TestActAfterTheSuspensionsAreForgotten(t *testing.T) {
	forget := func(_ *engine.Config, m *memstore.Config) { m.Actions.TTL = time.Hour }
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task, never := w.task(t), w.task(t)
		run := w.open(t, task)
		a := ask(ctx, run, question("s"))
		synctest.Wait()
		res, err := w.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		a.wait()
		if err := run.Emit(ctx, engine.Completed{Result: []byte(`1`)}); err != nil {
			t.Fatal(err)
		}
		run.Close(ctx)
		w.emit(t, never, engine.Started{}, engine.Completed{Result: []byte(`1`)})
		res, err = w.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusDeduplicated)
		_, err = w.act(task.ID, "t", "c", "yes", "")
		wantCode(t, err, engine.CodeTaskNotFound)
		time.Sleep(90 * time.Minute)
		res, err = w.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusResolved)
		_, err = w.act(never.ID, "s", "c", "yes", "")
		wantCode(t, err, engine.CodeTaskNotFound)
	}, forget)
}
