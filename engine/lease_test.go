package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// leaseTTL is the default.
const leaseTTL = 15 * time.Second

// nodes are engines on one leased store, in a synctest bubble.
func nodes(t *testing.T, n int, test func(t *testing.T, shared *leased, at []*world, way []*node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shared := newLeased(t)
		at, way := make([]*world, n), make([]*node, n)
		for i := range n {
			way[i] = &node{leased: shared}
			at[i] = newNode(t, way[i])
		}
		test(t, shared, at, way)
	})
}

func newNode(t *testing.T, way *node) *world {
	t.Helper()
	w := &world{store: &store{Store: way.Store}, exec: &executor{}, metrics: &counts{}, log: &logBuffer{}}
	var err error
	w.Engine, err = engine.New(engine.Config{
		Store: way, Executor: w.exec, Ownership: engine.OwnerOnly(), Metrics: w.metrics,
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop(t))
	return w
}

func (w *world) wantLog(t *testing.T, task engine.Task, want ...string) []engine.Event {
	t.Helper()
	events := w.events(t, task.ID)
	if got := strings.Join(types(events), " "); got != strings.Join(want, " ") {
		t.Fatalf("the log is %s, want %v", got, want)
	}
	return events
}

func TestLostWorkerIsNoticed(t *testing.T) {
	nodes(t, 3, func(t *testing.T, shared *leased, at []*world, way []*node) {
		ctx := context.Background()
		task, cancelled := at[0].task(t), at[0].task(t)
		run, _ := at[0].open(t, task), at[0].open(t, cancelled)
		if err := run.Emit(ctx, engine.Started{}); err != nil {
			t.Fatal(err)
		}
		if _, err := at[1].Cancel(ctx, alice, cancelled.ID, "enough"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * leaseTTL)
		at[1].wantLog(t, task, "STARTED")

		way[0].setCut(true) // as good as dead
		time.Sleep(leaseTTL * 2 / 3)
		at[1].wantLog(t, task, "STARTED")
		time.Sleep(leaseTTL * 2 / 3)
		events := at[1].wantLog(t, task, "STARTED", "FAILED")
		const want = `{"code":"WORKER_LOST","message":"the task's worker was lost","retryable":true}`
		if got := string(events[1].Payload); got != want {
			t.Errorf("the end is %s", got)
		}
		events = at[1].wantLog(t, cancelled, "CANCELLED")
		if got := string(events[0].Payload); got != `{"reason":"enough"}` {
			t.Errorf("the cancelled one's end is %s", got)
		}
		if n := at[1].metrics.get(engine.MetricTaskFailures, "") + at[2].metrics.get(engine.MetricTaskFailures, ""); n != 1 {
			t.Errorf("%d failures were counted", n)
		}

		// The worker was not dead.
		if run.Context().Err() != nil {
			t.Error("the run ended before it could know")
		}
		way[0].setCut(false)
		err := run.Emit(ctx, engine.Completed{Result: []byte(`1`)})
		if code := engine.CodeOf(err); code != engine.CodeTaskAlreadyTerminal {
			t.Errorf("the late end was answered with %v", err)
		}
		if cause := context.Cause(run.Context()); !errors.Is(cause, engine.ErrLeaseLost) {
			t.Errorf("the cause is %v", cause)
		}
		at[1].wantLog(t, task, "STARTED", "FAILED")
	})
}

// Whenever it comes, a process that hears and says nothing for half a TTL keeps
// its tasks; one that is away for longer than it does not.
func TestShortPausesLoseNothing(t *testing.T) {
	for _, c := range []struct {
		away time.Duration
		lost bool
	}{{leaseTTL / 2, false}, {2 * leaseTTL, true}} {
		for phase := range 24 {
			nodes(t, 3, func(t *testing.T, _ *leased, at []*world, way []*node) {
				task := at[0].task(t)
				run := at[0].open(t, task)
				if err := run.Emit(context.Background(), engine.Started{}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3*leaseTTL + time.Duration(phase)*leaseTTL/24)
				way[0].setCut(true)
				time.Sleep(c.away)
				way[0].setCut(false)
				time.Sleep(2 * leaseTTL)
				if lost := run.Context().Err() != nil; lost != c.lost {
					t.Errorf("away for %v: lost is %v, %v", c.away, lost, context.Cause(run.Context()))
				}
				run.Close(context.Background())
			})
		}
	}
}

func TestSupersededRun(t *testing.T) {
	for _, how := range []string{"append", "renewal"} {
		t.Run(how, func(t *testing.T) {
			nodes(t, 1, func(t *testing.T, shared *leased, at []*world, way []*node) {
				ctx := context.Background()
				task := at[0].task(t)
				run, other := at[0].open(t, task), at[0].open(t, task)
				way[0].setCut(true)
				time.Sleep(2 * leaseTTL)
				if _, err := shared.Acquire(ctx, task.ID, "another", time.Hour); err != nil {
					t.Fatal(err)
				}
				way[0].setCut(false)
				if how == "append" {
					wantCode(t, run.Progress(ctx, 1, ""), engine.CodeTaskConflict)
				} else {
					time.Sleep(5 * time.Second)
				}
				for _, r := range []*engine.Run{run, other} {
					if cause := context.Cause(r.Context()); !errors.Is(cause, engine.ErrLeaseLost) {
						t.Errorf("the cause is %v", cause)
					}
					for _, p := range []engine.Payload{engine.Started{}, engine.Failed{Code: "X"}, engine.Completed{Result: []byte(`1`)}} {
						wantCode(t, r.Emit(ctx, p), engine.CodeTaskConflict)
					}
					r.Text("lost")
					if err := r.Close(ctx); !errors.Is(err, engine.ErrLeaseLost) {
						t.Errorf("Close gave %v", err)
					}
				}
				at[0].wantLog(t, task)
				if _, err := at[0].Emitter().Open(ctx, task); engine.CodeOf(err) != engine.CodeTaskConflict {
					t.Errorf("Open of what another holds gave %v", err)
				}
				if shared.count("Release") != 0 {
					t.Error("a lost lease was released")
				}
			})
		})
	}
}

// A store that is away for longer than the TTL takes nothing from anybody.
func TestLeasesSurviveAnOutage(t *testing.T) {
	for _, away := range []time.Duration{leaseTTL / 2, leaseTTL * 9 / 10, 3 * leaseTTL, 20 * leaseTTL} {
		t.Run(away.String(), func(t *testing.T) {
			nodes(t, 3, func(t *testing.T, _ *leased, at []*world, way []*node) {
				task := at[0].task(t)
				run := at[0].open(t, task)
				time.Sleep(leaseTTL)
				for range 3 {
					for _, n := range way {
						n.setCut(true)
					}
					time.Sleep(away)
					for _, n := range way {
						n.setCut(false)
					}
					time.Sleep(3 * leaseTTL)
				}
				if err := run.Emit(context.Background(), engine.Started{}); err != nil {
					t.Error(err)
				}
				at[1].wantLog(t, task, "STARTED")
			})
		})
	}
}

// The store's clock is a wall clock, and such clocks are set.
func TestLeasesSurviveAClockThatJumps(t *testing.T) {
	nodes(t, 3, func(t *testing.T, shared *leased, at []*world, _ []*node) {
		task := at[0].task(t)
		run := at[0].open(t, task)
		for _, jump := range []time.Duration{time.Hour, 0, 24 * time.Hour, -time.Hour, 0} {
			time.Sleep(leaseTTL + time.Second)
			shared.setClock(jump)
			time.Sleep(2 * leaseTTL)
			if run.Context().Err() != nil {
				t.Fatalf("the run ended after a jump to %v: %v", jump, context.Cause(run.Context()))
			}
		}
		at[1].wantLog(t, task)
	})
}

func TestLeasesAreRenewedTogether(t *testing.T) {
	nodes(t, 1, func(t *testing.T, shared *leased, at []*world, _ []*node) {
		ctx := context.Background()
		const n = 200
		var runs []*engine.Run
		for range n {
			runs = append(runs, at[0].open(t, at[0].task(t)))
		}
		time.Sleep(leaseTTL)
		if got := shared.count("Renew"); got < 3 || got > 4 {
			t.Errorf("%d renewals in one TTL", got)
		}
		if shared.most != n {
			t.Errorf("%d leases in a renewal, want %d", shared.most, n)
		}
		for i, run := range runs {
			if i%2 == 0 {
				if err := run.Emit(ctx, engine.Completed{Result: []byte(`1`)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := run.Close(ctx); err != nil {
				t.Fatal(err)
			}
			if err := run.Close(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if got := shared.count("Release"); got != n/2 {
			t.Errorf("%d leases were released, want those %d that no end had released", got, n/2)
		}
		time.Sleep(leaseTTL) // the renewer notices
		before := shared.count("Renew")
		time.Sleep(100 * leaseTTL)
		if got := shared.count("Renew"); got != before {
			t.Errorf("%d renewals of nothing", got-before)
		}
		at[0].wantLog(t, runs[1].Task()) // nobody's, and no orphan
		// And it starts again.
		run := at[0].open(t, runs[1].Task())
		time.Sleep(10 * leaseTTL)
		if shared.count("Renew") == before || run.Context().Err() != nil {
			t.Error("the renewer did not start again")
		}
	})
}

func TestRunsOfATaskShareItsLease(t *testing.T) {
	nodes(t, 2, func(t *testing.T, shared *leased, at []*world, _ []*node) {
		ctx := context.Background()
		task := at[0].task(t)
		first, second := at[0].open(t, task), at[0].open(t, task)
		if n := shared.count("Acquire"); n != 1 {
			t.Errorf("%d acquisitions", n)
		}
		if _, err := at[1].Emitter().Open(ctx, task); engine.CodeOf(err) != engine.CodeTaskConflict {
			t.Errorf("Open on another node gave %v", err)
		}
		if err := first.Close(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * leaseTTL)
		if err := second.Emit(ctx, engine.Started{}); err != nil {
			t.Error(err)
		}
		if err := second.Close(ctx); err != nil {
			t.Fatal(err)
		}
		third := at[1].open(t, task) // at once
		if err := third.Emit(ctx, engine.Completed{Result: []byte(`1`)}); err != nil {
			t.Error(err)
		}
	})
}

// A worker that leaves with an error has not handed its task on.
func TestUncleanCloseIsALostWorker(t *testing.T) {
	nodes(t, 1, func(t *testing.T, shared *leased, at []*world, way []*node) {
		task := at[0].task(t)
		run := at[0].open(t, task)
		run.Stream(engine.Progress{Percent: 101}) // refused
		if err := run.Close(context.Background()); err == nil {
			t.Fatal("Close gave no error")
		}
		if shared.count("Release") != 0 {
			t.Error("the lease was released")
		}
		time.Sleep(leaseTTL * 4 / 3)
		at[0].wantLog(t, task, "FAILED")
	})
}

// The process was paused, and its own reaper wakes first.
func TestOwnRunsAreNotReaped(t *testing.T) {
	nodes(t, 1, func(t *testing.T, shared *leased, at []*world, _ []*node) {
		task := at[0].task(t)
		run := at[0].open(t, task)
		for range 50 {
			time.Sleep(time.Second)
			shared.mu.Lock() // overdue, and seen so for long, whatever is renewed
			l := shared.tasks[task.ID]
			l.until = time.Now().Add(-time.Hour)
			l.seen, l.seenAt, l.claimed = l.until, l.until, time.Time{}
			shared.mu.Unlock()
		}
		if err := run.Emit(context.Background(), engine.Started{}); err != nil {
			t.Error(err)
		}
		at[0].wantLog(t, task, "STARTED")
	})
}

func TestManyOrphansManyReapers(t *testing.T) {
	nodes(t, 4, func(t *testing.T, shared *leased, at []*world, way []*node) {
		var tasks []engine.Task
		for range 500 {
			task := at[0].task(t)
			at[0].open(t, task)
			tasks = append(tasks, task)
		}
		way[0].setCut(true)
		time.Sleep(leaseTTL * 4 / 3)
		for _, task := range tasks {
			at[1].wantLog(t, task, "FAILED")
		}
	})
}

func TestOpenRacesWithClose(t *testing.T) {
	nodes(t, 1, func(t *testing.T, shared *leased, at []*world, _ []*node) {
		ctx := context.Background()
		task := at[0].task(t)
		done := make(chan error)
		for range 8 {
			go func() {
				for range 50 {
					run, err := at[0].Emitter().Open(ctx, task)
					if err == nil {
						err = run.Progress(ctx, 1, "")
					}
					if err == nil {
						err = run.Close(ctx)
					}
					if err != nil {
						done <- fmt.Errorf("%w", err)
						return
					}
				}
				done <- nil
			}()
		}
		for range 8 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if l := shared.tasks[task.ID]; l.holder != "" {
			t.Errorf("%s still holds it", l.holder)
		}
	})
}

// A Release that takes its time does not take what the next run acquired.
func TestOpenWhileReleasing(t *testing.T) {
	nodes(t, 1, func(t *testing.T, shared *leased, at []*world, way []*node) {
		task := at[0].task(t)
		first := at[0].open(t, task)
		way[0].slow = time.Second
		go func() { _ = first.Close(context.Background()) }()
		synctest.Wait()
		short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if _, err := at[0].Emitter().Open(short, task); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open while the lease is being released gave %v", err)
		}
		second := at[0].open(t, task)
		time.Sleep(2 * time.Second)
		shared.mu.Lock()
		held := shared.tasks[task.ID].holder != ""
		shared.mu.Unlock()
		if !held {
			t.Error("the run's lease was released")
		}
		time.Sleep(leaseTTL)
		if second.Context().Err() != nil {
			t.Error(context.Cause(second.Context()))
		}
	})
}

func TestOpenGivesUp(t *testing.T) {
	nodes(t, 1, func(t *testing.T, _ *leased, at []*world, way []*node) {
		task := at[0].task(t)
		way[0].setCut(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := at[0].Emitter().Open(ctx, task); engine.CodeOf(err) != engine.CodeStoreUnavailable {
			t.Errorf("Open gave %v", err)
		}
		way[0].setCut(false)
		if err := at[0].open(t, task).Emit(context.Background(), engine.Completed{Result: []byte(`1`)}); err != nil {
			t.Error(err)
		}
	})
}

func TestLeaseTTLIsChecked(t *testing.T) {
	for _, ttl := range []time.Duration{-1, time.Millisecond} {
		_, err := engine.New(engine.Config{Store: newLeased(t), Lease: engine.LeaseConfig{TTL: ttl}})
		if err == nil || !strings.Contains(err.Error(), "Lease.TTL") {
			t.Errorf("%v gave %v", ttl, err)
		}
	}
}
