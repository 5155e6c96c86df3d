package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// resumer is an executor that runs tasks elsewhere.
type resumer struct {
	executor
	mu      sync.Mutex
	resumed []engine.Action
	fail    func(ctx context.Context) error
}

func (x *resumer) Resume(ctx context.Context, task engine.Task, s engine.Suspension, a engine.Action) error {
	x.mu.Lock()
	x.resumed = append(x.resumed, a)
	fail := x.fail
	x.mu.Unlock()
	if task.ID == "" || s.SuspendID != a.SuspendID || s.Open {
		return fmt.Errorf("odd: %+v %+v", task, s)
	}
	if fail != nil {
		return fail(ctx)
	}
	return nil
}

func (x *resumer) calls() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.resumed)
}

func (x *resumer) set(fail func(context.Context) error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fail = fail
}

// actStore is the embedded store with faults in what it does for answers.
type actStore struct {
	*memstore.Store
	down    atomic.Bool
	lostAck atomic.Bool  // the next Resolve is done, and answered with an error
	ahead   atomic.Int64 // how far the store's clock is behind: expiries are refused until then
	handed  atomic.Int64
}

func (s *actStore) fault() error {
	if s.down.Load() {
		return unavailable
	}
	return nil
}

func (s *actStore) Suspension(ctx context.Context, taskID, id string) (engine.Suspension, error) {
	if err := s.fault(); err != nil {
		return engine.Suspension{}, err
	}
	return s.Store.Suspension(ctx, taskID, id)
}

func (s *actStore) Resolve(ctx context.Context, r engine.Resolution) (engine.Verdict, error) {
	if err := s.fault(); err != nil {
		return 0, err
	}
	if r.Expiry && time.Now().UnixNano() < s.ahead.Load() {
		return engine.VerdictExpired, nil
	}
	v, err := s.Store.Resolve(ctx, r)
	if s.lostAck.Swap(false) {
		return 0, unavailable
	}
	return v, err
}

func (s *actStore) HandedOver(ctx context.Context, taskID, id string, fence uint64) error {
	if err := s.fault(); err != nil {
		return err
	}
	s.handed.Add(1)
	return s.Store.HandedOver(ctx, taskID, id, fence)
}

func (s *actStore) Due(ctx context.Context, limit int) ([]engine.DueSuspension, error) {
	if err := s.fault(); err != nil {
		return nil, err
	}
	return s.Store.Due(ctx, limit)
}

// actWorld is an engine with a resumer on such a store, in a bubble.
type actWorld struct {
	*world
	acts *actStore
	x    *resumer
}

func withActs(t *testing.T, test func(t *testing.T, w *actWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		mem, err := memstore.New(memstore.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w := &actWorld{&world{store: &store{Store: mem}, metrics: &counts{}, log: &logBuffer{}}, &actStore{Store: mem}, &resumer{}}
		w.Engine, err = engine.New(engine.Config{
			Store: w.acts, Executor: w.x, Ownership: engine.OwnerOnly(), Metrics: w.metrics,
			Logger: slog.New(slog.NewTextHandler(w.log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.stop(t))
		test(t, w)
	})
}

// suspendElsewhere asks on behalf of a worker that runs elsewhere.
func (w *actWorld) suspendElsewhere(t *testing.T, s engine.Suspended) engine.Task {
	t.Helper()
	task := w.task(t)
	run := w.open(t, task)
	defer run.Close(context.Background())
	for _, p := range []engine.Payload{engine.Started{}, s} {
		if err := run.Emit(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	return task
}

func TestResumeElsewhere(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		task := w.suspendElsewhere(t, question("s"))
		res, err := w.act(task.ID, "s", "c", "yes", `{"n":1}`)
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		synctest.Wait()
		if w.x.calls() != 1 || string(w.x.resumed[0].Payload) != `{"n":1}` || w.x.resumed[0].Actor != "alice" {
			t.Errorf("%+v", w.x.resumed)
		}
		time.Sleep(time.Hour)
		if n := w.x.calls(); n != 1 {
			t.Errorf("resumed %d times", n)
		}
		// The default of one that expired.
		s := expiring(question("s"), time.Hour)
		s.Default = &engine.DefaultAction{ActionType: "no"}
		w.suspendElsewhere(t, s)
		time.Sleep(time.Hour + 2*time.Second)
		if n := w.x.calls(); n != 2 || w.x.resumed[1].ActionType != "no" {
			t.Errorf("resumed %d times, %+v", n, w.x.resumed)
		}
	})
}

// A hand-off that fails is repeated, ever less often, and the client is not told.
func TestResumeFails(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		w.x.set(func(context.Context) error { return errors.New("temporal is down") })
		task := w.suspendElsewhere(t, question("s"))
		res, err := w.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		time.Sleep(5 * time.Minute)
		if n := w.x.calls(); n < 8 || n > 20 {
			t.Errorf("tried %d times in five minutes", n)
		}
		w.x.set(nil)
		time.Sleep(31 * time.Second)
		n := w.x.calls()
		time.Sleep(time.Hour)
		if after := w.x.calls(); after != n {
			t.Errorf("tried %d times after it had succeeded", after-n)
		}
		if s, err := w.acts.Suspension(context.Background(), task.ID, "s"); err != nil || !s.HandedOver {
			t.Errorf("%+v, %v", s, err)
		}
		if n := len(w.events(t, task.ID)); n != 3 {
			t.Errorf("%d events", n)
		}
	})
}

// An executor's panic is its failure, not the end of the process.
func TestResumePanics(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		w.x.set(func(context.Context) error { panic("no such workflow") })
		task := w.suspendElsewhere(t, question("s"))
		res, err := w.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		time.Sleep(time.Minute)
		w.x.set(nil)
		time.Sleep(time.Minute)
		if s, err := w.acts.Suspension(context.Background(), task.ID, "s"); err != nil || !s.HandedOver {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

func TestReconcileNow(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		ctx := context.Background()
		if n, err := w.Reconcile(ctx); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		w.x.set(func(context.Context) error { return engine.ErrHandOffPending })
		task := w.suspendElsewhere(t, question("s"))
		res, err := w.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		synctest.Wait()
		for range 100 { // too many for one look
			w.suspendElsewhere(t, expiring(question("t"), -time.Minute))
		}
		done := 0
		for range 50 {
			n, err := w.Reconcile(ctx)
			if err != nil {
				t.Error(err)
			}
			done += n
		}
		if done != 100 {
			t.Errorf("done %d", done)
		}
		if n, err := w.Reconcile(ctx); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		w.acts.down.Store(true)
		if _, err := w.Reconcile(ctx); engine.CodeOf(err) != engine.CodeStoreUnavailable {
			t.Errorf("%v", err)
		}
		w.acts.down.Store(false)
	})
}

// An executor that hangs holds up neither the client nor what expires.
func TestResumeHangs(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		w.x.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		var tasks []engine.Task
		for range 100 {
			tasks = append(tasks, w.suspendElsewhere(t, question("s")))
		}
		start := time.Now()
		for _, task := range tasks {
			res, err := w.act(task.ID, "s", "c", "yes", "")
			wantStatus(t, res, err, engine.ActionStatusAccepted)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("the answers took %v", took)
		}
		task := w.suspendElsewhere(t, expiring(question("s"), 10*time.Second))
		time.Sleep(12 * time.Second)
		if n := len(w.events(t, task.ID)); n != 3 {
			t.Errorf("not expired after two seconds: %d events", n)
		}
		// It is cut off by a shutdown.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := w.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
}

// The store did it and its word was lost.
func TestActAnswerLost(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		task := w.suspendElsewhere(t, question("s"))
		w.acts.lostAck.Store(true)
		res, err := w.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		w.acts.lostAck.Store(true)
		_, err = w.act(task.ID, "s", "other", "yes", "")
		wantCode(t, err, engine.CodeStoreUnavailable)
		synctest.Wait()
		if w.x.calls() != 1 {
			t.Errorf("resumed %d times", w.x.calls())
		}
	})
}

// The store is away for an hour around a suspension that is answered, and one
// that expires.
func TestSuspendThroughAnOutage(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		ctx := context.Background()
		answered, expires := w.task(t), w.task(t)
		runA, runE := w.open(t, answered), w.open(t, expires)
		defer runA.Close(ctx)
		defer runE.Close(ctx)
		a, e := ask(ctx, runA, question("s")), ask(ctx, runE, expiring(question("s"), time.Minute))
		synctest.Wait()
		w.acts.down.Store(true)
		time.Sleep(time.Second)
		_, err := w.act(answered.ID, "s", "c", "yes", "")
		wantCode(t, err, engine.CodeStoreUnavailable)
		// Another node, to which the store answers, accepts.
		if v, err := w.acts.Store.Resolve(ctx, resolution(answered.ID)); err != nil || v != engine.VerdictAccepted {
			t.Fatalf("%v, %v", v, err)
		}
		time.Sleep(time.Hour)
		select {
		case <-a.done:
			t.Fatalf("%+v, %v", a.answer, a.err)
		case <-e.done:
			t.Fatalf("%v", e.err)
		default:
		}
		w.acts.down.Store(false)
		back := time.Now()
		if a.wait(); a.err != nil || a.answer.ActionType != "yes" {
			t.Errorf("%+v, %v", a.answer, a.err)
		}
		if e.wait(); !errors.Is(e.err, engine.ErrSuspensionExpired) {
			t.Errorf("%v", e.err)
		}
		if took := time.Since(back); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// resolution is an answer by another node.
func resolution(taskID string) engine.Resolution {
	const event = `{"suspendId":"s","clientActionId":"n2","actionType":"yes","acceptedAt":"2026-01-02T03:04:05Z"}`
	return engine.Resolution{
		TaskID: taskID, SuspendID: "s", Fingerprint: "f",
		Action: &engine.Action{ClientActionID: "n2", SuspendID: "s", ActionType: "yes", Payload: []byte(`{}`)},
		Event:  engine.Draft{Type: engine.TypeActionAccepted, CreatedAt: time.Now(), Payload: []byte(event)},
	}
}

// This process's clock is ahead of the store's: the store's counts.
func TestExpiryByTheStoresClock(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		w.acts.ahead.Store(time.Now().Add(10 * time.Minute).UnixNano())
		start := time.Now()
		err := ask(ctx, run, expiring(question("s"), time.Minute)).wait().err
		if took := time.Since(start); !errors.Is(err, engine.ErrSuspensionExpired) || took < 10*time.Minute || took > 10*time.Minute+2*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// Of an answer and the expiry at the same instant one counts, and the run says
// the same as the log.
func TestAnswerRacesExpiry(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		ctx := context.Background()
		for i := range 50 {
			task := w.task(t)
			run := w.open(t, task)
			a := ask(ctx, run, expiring(question("s"), time.Second))
			synctest.Wait()
			time.Sleep(time.Second - time.Duration(i%3-1)*time.Nanosecond)
			res, err := w.act(task.ID, "s", "c", "yes", "")
			if err != nil {
				t.Fatal(err)
			}
			a.wait()
			got := types(w.events(t, task.ID))
			switch {
			case res.Status == engine.ActionStatusAccepted && a.err == nil && slices.Equal(got, []string{"SUSPENDED", "ACTION_ACCEPTED"}):
			case res.Status != engine.ActionStatusAccepted && errors.Is(a.err, engine.ErrSuspensionExpired) && slices.Equal(got, []string{"SUSPENDED", "FAILED"}):
			default:
				t.Errorf("%s, %v, %v", res.Status, a.err, got)
			}
			run.Close(ctx)
		}
	})
}

func TestAnswerRacesCancel(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	for range 50 {
		task := w.task(t)
		run := w.open(t, task)
		a := ask(ctx, run, question("s"))
		w.suspended(t, task.ID)
		var group sync.WaitGroup
		var res engine.ActionResult
		group.Go(func() {
			var err error
			if res, err = w.act(task.ID, "s", "c", "yes", ""); err != nil {
				t.Error(err)
			}
		})
		group.Go(func() {
			if _, err := w.Cancel(ctx, alice, task.ID, "stop"); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		a.wait()
		var cancelled *engine.CancelRequested
		switch { // either may reach the run first; the answer is in the log in any case
		case a.err == nil && a.answer.ActionType == "yes":
		case errors.As(a.err, &cancelled):
		default:
			t.Errorf("%+v, %v", a.answer, a.err)
		}
		if res.Status != engine.ActionStatusAccepted {
			t.Errorf("%s", res.Status)
		}
		if err := run.Emit(ctx, engine.Cancelled{Reason: "stop"}); err != nil {
			t.Error(err)
		}
		run.Close(ctx)
	}
}

// A run that asked and gave up, or has not asked yet, has the answer all the same.
func TestAnswerThatNobodyWaitsFor(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		ctx := context.Background()
		w.x.set(func(context.Context) error { return engine.ErrHandOffPending })
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := ask(short, run, question("s")).wait().err; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		res, err := w.act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		synctest.Wait()
		if n := w.acts.handed.Load(); n != 1 {
			t.Errorf("handed over %d times", n)
		}
		if a := ask(ctx, run, question("s")).wait(); a.err != nil || a.answer.ActionType != "yes" {
			t.Errorf("%+v, %v", a.answer, a.err)
		}
		time.Sleep(time.Hour)
		if n := w.acts.handed.Load(); n != 1 {
			t.Errorf("handed over %d times", n)
		}
	})
}

// Shutdown and an answer at once: nothing is half done.
func TestActDuringShutdown(t *testing.T) {
	withActs(t, func(t *testing.T, w *actWorld) {
		var tasks []engine.Task
		for range 20 {
			tasks = append(tasks, w.suspendElsewhere(t, question("s")))
		}
		w.x.set(func(ctx context.Context) error { time.Sleep(time.Millisecond); return ctx.Err() })
		var group sync.WaitGroup
		for i, task := range tasks {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Microsecond)
				res, err := w.act(task.ID, "s", "c", "yes", "")
				switch engine.CodeOf(err) {
				case "":
					wantStatus(t, res, err, engine.ActionStatusAccepted)
				case engine.CodeServerDraining, engine.CodeStoreUnavailable:
				default:
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Millisecond)
		w.stop(t)()
		group.Wait()
		_, err := w.act(tasks[0].ID, "s", "c9", "yes", "")
		wantCode(t, err, engine.CodeStoreUnavailable) // it is closed
	})
}

// Without an ActionStore nobody can answer, and a suspension expires by itself.
func TestSuspendWithoutActionStore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		eng, err := engine.New(engine.Config{Store: struct {
			engine.Store
			engine.Signals
		}{w.store, w.store}, Ownership: engine.OwnerOnly()})
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Shutdown(ctx)
		task := w.task(t)
		run, err := eng.Emitter().Open(ctx, task)
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close(ctx)
		start := time.Now()
		if err := suspend(run, expiring(question("s"), time.Hour)); !errors.Is(err, engine.ErrSuspensionExpired) || time.Since(start) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		_, err = eng.Act(ctx, alice, engine.ActionRequest{TaskID: task.ID, ClientActionID: "c", SuspendID: "s", ActionType: "yes"})
		wantCode(t, err, engine.CodeTaskNotFound)
		if n, err := eng.Reconcile(ctx); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := ask(short, run, question("t")).wait().err; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	// Nor Signals: a run looks by itself.
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		eng, err := engine.New(engine.Config{Store: struct {
			engine.Store
			engine.ActionStore
		}{w.store, w.store}, Ownership: engine.OwnerOnly()})
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Shutdown(ctx)
		task := w.task(t)
		run, err := eng.Emitter().Open(ctx, task)
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close(ctx)
		a := ask(ctx, run, question("s"))
		synctest.Wait()
		res, err := eng.Act(ctx, alice, engine.ActionRequest{TaskID: task.ID, ClientActionID: "c", SuspendID: "s", ActionType: "yes"})
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		start := time.Now()
		if a.wait(); a.err != nil || time.Since(start) > time.Second {
			t.Errorf("%v after %v", a.err, time.Since(start))
		}
	})
}
