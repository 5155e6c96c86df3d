package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// fleet is some engines with in-process executors on one leased store, in a
// synctest bubble. Each can die: its way to the store is cut, which is all that
// others see of a death.
type fleet struct {
	*testing.T
	shared *leased
	opts   []localexec.Option
	lease  engine.LeaseConfig

	mu    sync.Mutex
	nodes []*fleetNode
}

func (f *fleet) all() []*fleetNode {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.nodes)
}

type fleetNode struct {
	*world
	way *node
}

func newFleet(t *testing.T, n int, test func(f *fleet), opts ...localexec.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{T: t, shared: newLeased(t), opts: opts}
		for range n {
			f.join()
		}
		test(f)
	})
}

// join adds a node.
func (f *fleet) join() *fleetNode {
	f.Helper()
	way := &node{leased: f.shared}
	log := &logBuffer{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	exec, err := localexec.New(localexec.Config{Logger: logger}, f.opts...)
	if err != nil {
		f.Fatal(err)
	}
	w := &world{store: &store{Store: way.Store}, metrics: &counts{}, log: log}
	w.Engine, err = engine.New(engine.Config{
		Store: way, Executor: exec, Ownership: engine.OwnerOnly(), Metrics: w.metrics, Logger: logger, Lease: f.lease,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		way.setCut(false)
		w.stop(f.T)()
	})
	n := &fleetNode{w, way}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes = append(f.nodes, n)
	return n
}

func (f *fleet) die(n *fleetNode) { n.way.setCut(true) }

// create starts a task on a node.
func (n *fleetNode) create(t *testing.T, taskType string) engine.Task {
	t.Helper()
	req := request("r-" + time.Now().String() + taskType)
	req.TaskType = taskType
	res, err := n.Create(context.Background(), alice, req)
	if err != nil {
		t.Fatal(err)
	}
	return res.Task
}

func (f *fleet) wantLog(task engine.Task, want ...string) []engine.Event {
	f.Helper()
	return f.nodes[0].wantLog(f.T, task, want...)
}

// approval asks once, and is done.
func approval(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
	if !run.Restarted() {
		if err := run.Progress(ctx, 10, "before"); err != nil {
			return "", err
		}
	}
	answer, err := run.Suspend(ctx, engine.Suspended{
		Kind: engine.UserActionRequired, ReasonCode: "r", AllowedActions: []string{"yes", "no"},
	})
	if err != nil {
		return "", err
	}
	return answer.ActionType, run.Progress(ctx, 90, "after")
}

var restartable = localexec.Handle("ask", approval, localexec.Restartable())

// The whole fleet dies over a weekend; the answer comes on Monday.
func TestSuspendedOverAWeekend(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED")
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL)
		f.die(f.nodes[1])
		time.Sleep(60 * time.Hour)
		n := f.join()
		time.Sleep(time.Minute)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED")
		if f.shared.holderOf(task.ID) != "" {
			t.Error("somebody holds the task")
		}
		before := f.shared.count("Acquire")
		time.Sleep(time.Hour)
		if after := f.shared.count("Acquire"); after != before {
			t.Errorf("a parked task was acquired %d times", after-before)
		}
		res, err := n.act(task.ID, task.ID+"-1", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		synctest.Wait()
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "PROGRESS", "COMPLETED")
		if s, _ := f.shared.Suspension(context.Background(), task.ID, task.ID+"-1"); !s.HandedOver {
			t.Errorf("%+v", s)
		}
	}, restartable)
}

// The answer comes while nobody has noticed yet that the worker is dead.
func TestAnsweredBeforeTheLossIsNoticed(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		res, err := f.nodes[1].act(task.ID, task.ID+"-1", "c", "no", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		time.Sleep(time.Second)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED")
		time.Sleep(leaseTTL*4/3 + 5*time.Second)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "PROGRESS", "COMPLETED")
		// The first worker was not dead: it has the answer now, and does nothing with it.
		f.nodes[0].way.setCut(false)
		time.Sleep(time.Minute)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "PROGRESS", "COMPLETED")
	}, restartable)
}

// A worker that was cut off comes back when its task is parked.
func TestParkedUnderASleeper(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL) // parked
		res, err := f.nodes[1].act(task.ID, task.ID+"-1", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		f.nodes[0].way.setCut(false)
		time.Sleep(time.Minute)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "PROGRESS", "COMPLETED")
	}, restartable)
	newFleet(t, 2, func(f *fleet) { // the same, and it is back before the answer
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL)
		f.nodes[0].way.setCut(false)
		res, err := f.nodes[1].act(task.ID, task.ID+"-1", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		time.Sleep(time.Minute)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "PROGRESS", "COMPLETED")
	}, restartable)
}

// The sleeper is the first to see the answer: what it confirms does not count,
// since what it writes would not.
func TestSleeperConfirmsNothing(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		ctx := context.Background()
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL) // parked
		f.nodes[0].way.setCut(false)
		r := resolution(task.ID)
		r.SuspendID, r.Action.SuspendID = task.ID+"-1", task.ID+"-1"
		r.Event.Payload = []byte(strings.ReplaceAll(string(r.Event.Payload), `"suspendId":"s"`, `"suspendId":"`+task.ID+`-1"`))
		if v, err := f.shared.Resolve(ctx, r); err != nil || v != engine.VerdictAccepted {
			t.Fatalf("%v, %v", v, err)
		}
		synctest.Wait()
		if s, err := f.shared.Suspension(ctx, task.ID, task.ID+"-1"); err != nil || s.HandedOver {
			t.Errorf("%+v, %v", s, err)
		}
		time.Sleep(time.Minute)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "PROGRESS", "COMPLETED")
	}, restartable)
}

// The answer reaches the worker in the instant before its task is parked, and
// the worker dies with it.
func TestAnswerTakenWhileParking(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		ctx := context.Background()
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		f.nodes[1].way.mu.Lock()
		f.nodes[1].way.acquiring = func() {
			r := resolution(task.ID)
			r.SuspendID, r.Action.SuspendID = task.ID+"-1", task.ID+"-1"
			r.Event.Payload = []byte(strings.ReplaceAll(string(r.Event.Payload), `"suspendId":"s"`, `"suspendId":"`+task.ID+`-1"`))
			if v, err := f.shared.Resolve(ctx, r); err != nil || v != engine.VerdictAccepted {
				t.Errorf("%v, %v", v, err)
			}
			if err := f.shared.HandedOver(ctx, task.ID, task.ID+"-1", 1); err != nil {
				t.Error(err)
			}
		}
		f.nodes[1].way.mu.Unlock()
		time.Sleep(5 * leaseTTL)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "PROGRESS", "COMPLETED")
	}, restartable)
}

// The process dies when it has stored a task and nothing more.
func TestDiesAfterCreate(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		n := f.nodes[0]
		n.way.created = func() { f.die(n) }
		task := n.create(t, "ask")
		time.Sleep(leaseTTL*4/3 + 6*time.Second)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED")
		res, err := f.nodes[1].act(task.ID, task.ID+"-1", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		synctest.Wait()
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "PROGRESS", "COMPLETED")
	}, restartable)
}

func TestCancelOfAParkedTask(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		task, live := f.nodes[0].create(t, "ask"), f.nodes[1].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL)
		for _, task := range []engine.Task{task, live} {
			if _, err := f.nodes[1].Cancel(context.Background(), alice, task.ID, "enough"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			events := f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "CANCELLED")
			if string(events[3].Payload) != `{"reason":"enough"}` {
				t.Errorf("%s", events[3].Payload)
			}
		}
	}, restartable)
}

// Cancellation is requested on another node while the lease of a task that is
// being parked is still held: no run hears of it, and nobody may acquire yet.
func TestCancelWhileParking(t *testing.T) {
	for name, park := range map[string]func(f *fleet){
		"the worker was lost": func(f *fleet) {
			f.die(f.nodes[0])
			time.Sleep(2 * leaseTTL)
		},
		"the node is shut down": func(f *fleet) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := f.nodes[0].Shutdown(ctx); err != nil {
				f.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			newFleet(t, 3, func(f *fleet) {
				task := f.nodes[0].create(t, "ask")
				synctest.Wait()
				asked := false
				for i, n := range f.nodes {
					n.way.mu.Lock()
					n.way.releasing = func() {
						_, err := f.nodes[2-i/2].Cancel(context.Background(), alice, task.ID, "enough")
						if asked = true; err != nil {
							t.Error(err)
						}
					}
					n.way.mu.Unlock()
				}
				park(f)
				synctest.Wait()
				if !asked {
					t.Error("nothing was parked")
				}
				f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "CANCELLED")
			}, restartable)
		})
	}
}

func TestParkedTaskExpires(t *testing.T) {
	var standard atomic.Pointer[engine.DefaultAction]
	ask := func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		at := time.Now().Add(time.Hour)
		answer, err := run.Suspend(ctx, engine.Suspended{
			Kind: engine.UserActionRequired, ReasonCode: "r", AllowedActions: []string{"yes"}, ExpiresAt: &at, Default: standard.Load(),
		})
		return answer.ActionType, err
	}
	for name, d := range map[string]*engine.DefaultAction{"fails": nil, "default": {ActionType: "yes"}} {
		t.Run(name, func(t *testing.T) {
			standard.Store(d)
			newFleet(t, 2, func(f *fleet) {
				task := f.nodes[0].create(t, "ask")
				synctest.Wait()
				f.die(f.nodes[0])
				time.Sleep(time.Hour - time.Second)
				f.wantLog(task, "STARTED", "SUSPENDED")
				time.Sleep(3 * time.Second)
				if d == nil {
					f.wantLog(task, "STARTED", "SUSPENDED", "FAILED")
				} else {
					f.wantLog(task, "STARTED", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "COMPLETED")
				}
			}, localexec.Handle("ask", ask, localexec.Restartable()))
		})
	}
}

// Not restartable: a lost worker ends the task, suspended or not.
func TestSuspendedWorkerIsLost(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL)
		events := f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "FAILED")
		if !strings.Contains(string(events[3].Payload), `"WORKER_LOST"`) {
			t.Errorf("%s", events[3].Payload)
		}
	}, localexec.Handle("ask", approval))
}

// A handler that takes its process with it, whenever it runs.
func TestRestartsAreBounded(t *testing.T) {
	var f *fleet
	var runs atomic.Int32
	poison := func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		runs.Add(1)
		for _, n := range f.all() {
			if n.way.down() == nil { // only one lives
				f.die(n)
			}
		}
		<-ctx.Done()
		return "", context.Cause(ctx)
	}
	newFleet(t, 1, func(fl *fleet) {
		f = fl
		task := f.nodes[0].create(t, "x")
		for range 8 {
			time.Sleep(2 * leaseTTL)
			f.join()
		}
		time.Sleep(2 * leaseTTL)
		events := f.wantLog(task, "STARTED", "RESTARTED", "RESTARTED", "RESTARTED", "RESTARTED", "RESTARTED", "FAILED")
		if !strings.Contains(string(events[6].Payload), `"WORKER_LOST"`) {
			t.Errorf("%s", events[6].Payload)
		}
		if n := runs.Load(); n != 6 {
			t.Errorf("it ran %d times", n)
		}
	}, localexec.Handle("x", poison, localexec.Restartable()))
}

// What a node cannot run, it leaves to those that can.
func TestRestartIsLeftToOthers(t *testing.T) {
	newFleet(t, 1, func(f *fleet) {
		task := f.nodes[0].create(t, "work")
		synctest.Wait()
		f.die(f.nodes[0])
		can := f.opts
		f.opts = []localexec.Option{localexec.Handle("other", approval, localexec.Restartable()), localexec.Handle("work", approval)}
		f.join()
		time.Sleep(4 * leaseTTL)
		f.wantLog(task, "STARTED")
		f.opts = can
		f.join()
		// Whichever node looks first gets the orphan for five seconds: the one that
		// cannot may be the luckier one many times in a row.
		for left := 200; left > 0 && len(f.nodes[0].events(t, task.ID)) == 1; left-- {
			time.Sleep(5 * time.Second)
		}
		f.wantLog(task, "STARTED", "RESTARTED", "PROGRESS", "COMPLETED")
	}, localexec.Handle("work", func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		if !run.Restarted() {
			<-ctx.Done()
			return "", context.Cause(ctx)
		}
		return "done", run.Progress(ctx, 50, "")
	}, localexec.Restartable()))
}

// The process dies between Create and Open.
func TestCreatedAndNeverOpened(t *testing.T) {
	done := func(context.Context, *engine.Run, struct{}) (string, error) { return "done", nil }
	newFleet(t, 2, func(f *fleet) {
		ctx := context.Background()
		var tasks []engine.Task
		for _, restartable := range []bool{true, false} {
			task, _, err := f.shared.Create(ctx, engine.Task{
				Type: map[bool]string{true: "again", false: "once"}[restartable], Owner: "alice", ClientRequestID: "x" + time.Now().String(),
				Status: engine.StatusAccepted, Restartable: restartable, OpenWithin: leaseTTL, CreatedAt: time.Now(),
			})
			if err != nil {
				t.Fatal(err)
			}
			tasks = append(tasks, task)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(leaseTTL - time.Second)
		f.wantLog(tasks[0])
		time.Sleep(leaseTTL/3 + 6*time.Second)
		f.wantLog(tasks[0], "STARTED", "COMPLETED")
		events := f.wantLog(tasks[1], "FAILED")
		if !strings.Contains(string(events[0].Payload), `"WORKER_LOST"`) {
			t.Errorf("%s", events[0].Payload)
		}
		// One that is opened, in time or not, is not touched.
		task := f.nodes[0].create(t, "again")
		synctest.Wait()
		f.wantLog(task, "STARTED", "COMPLETED")
	}, localexec.Handle("again", done, localexec.Restartable()), localexec.Handle("once", done))
}

// A node is shut down: what waits is parked and what works goes on elsewhere, both
// at once; what cannot has the time that there is, and is failed after it.
func TestShutdownGivesTasksAway(t *testing.T) {
	work := func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		if run.Restarted() {
			return "done", nil
		}
		<-ctx.Done()
		return "", context.Cause(ctx)
	}
	newFleet(t, 2, func(f *fleet) {
		waits, works, once := f.nodes[0].create(t, "ask"), f.nodes[0].create(t, "work"), f.nodes[0].create(t, "once")
		synctest.Wait()
		shut := make(chan error)
		start := time.Now()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			shut <- f.nodes[0].Shutdown(ctx)
		}()
		time.Sleep(time.Second)
		if holder := f.shared.holderOf(waits.ID); holder != "" {
			t.Errorf("the task that waits is held by %s", holder)
		}
		time.Sleep(leaseTTL / 3) // the other node looks for orphans that often
		f.wantLog(works, "STARTED", "RESTARTED", "COMPLETED")
		f.wantLog(once, "STARTED")
		res, err := f.nodes[1].act(waits.ID, waits.ID+"-1", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		synctest.Wait()
		f.wantLog(waits, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "PROGRESS", "COMPLETED")
		if err := <-shut; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("the shutdown took %v", took)
		}
		f.wantLog(works, "STARTED", "RESTARTED", "COMPLETED")
		events := f.wantLog(once, "STARTED", "FAILED")
		if !strings.Contains(string(events[1].Payload), localexec.CodeExecutorShutdown) {
			t.Errorf("%s", events[1].Payload)
		}
	}, restartable, localexec.Handle("work", work, localexec.Restartable()), localexec.Handle("once", work))
}

// A cancel request that meets the shutdown still cancels.
func TestCancelDuringShutdown(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "work")
		synctest.Wait()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = f.nodes[0].Shutdown(ctx)
		}()
		time.Sleep(50 * time.Millisecond) // the handler was told to stop, and takes its time
		if _, err := f.nodes[1].Cancel(context.Background(), alice, task.ID, "enough"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		f.wantLog(task, "STARTED", "CANCELLED")
	}, localexec.Handle("work", func(ctx context.Context, _ *engine.Run, _ struct{}) (string, error) {
		<-ctx.Done()
		time.Sleep(100 * time.Millisecond)
		return "", context.Cause(ctx)
	}, localexec.Restartable()))
}

// Two suspensions: the task goes on with the one that is answered.
func TestParkedWithTwoQuestions(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "two")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL)
		for i, id := range []string{"b", "a"} {
			res, err := f.nodes[1].act(task.ID, id, "c"+id, "yes", "")
			wantStatus(t, res, err, engine.ActionStatusAccepted)
			synctest.Wait()
			time.Sleep(time.Minute)
			if got := types(f.nodes[0].events(t, task.ID)); i == 0 && got[len(got)-1] != "MESSAGE" {
				t.Errorf("%v", got)
			}
		}
		events := types(f.nodes[0].events(t, task.ID))
		slices.Sort(events)
		if strings.Join(events, " ") != "ACTION_ACCEPTED ACTION_ACCEPTED COMPLETED MESSAGE MESSAGE RESTARTED STARTED SUSPENDED SUSPENDED" {
			t.Errorf("%v", events)
		}
	}, localexec.Handle("two", func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		errs := make(chan error, 2)
		for _, id := range []string{"a", "b"} {
			go func() {
				_, err := run.Suspend(ctx, question(id))
				if err == nil {
					err = run.Emit(ctx, engine.Message{Text: id})
				}
				errs <- err
			}()
		}
		return "done", errors.Join(<-errs, <-errs)
	}, localexec.Restartable()))
}
