package engine_test

import (
	"context"
	"errors"
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

// The node that was asked to cancel a task that waits without a process dies
// before it could end it.
func TestCancelOfAParkedTaskOutlivesItsNode(t *testing.T) {
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL) // parked
		asked := f.join()
		asked.way.cancelled = func() { f.die(asked) }
		if _, err := asked.Cancel(context.Background(), alice, task.ID, "enough"); engine.CodeOf(err) != engine.CodeStoreUnavailable {
			t.Errorf("it did not die: %v", err)
		}
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED")
		time.Sleep(leaseTTL / 3)
		events := f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "CANCELLED")
		if string(events[3].Payload) != `{"reason":"enough"}` {
			t.Errorf("%s", events[3].Payload)
		}
	}, restartable)
}

// Cancellation is requested while the task is being parked, and whoever parks it
// dies when it has given the lease back.
func TestCancelWhileParkingOutlivesItsNode(t *testing.T) {
	newFleet(t, 3, func(f *fleet) {
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		var asked atomic.Bool
		for i, n := range f.nodes[1:] {
			n.way.mu.Lock()
			n.way.releasing = func() {
				asked.Store(true)
				if _, err := f.nodes[2-i].Cancel(context.Background(), alice, task.ID, "enough"); err != nil {
					t.Error(err)
				}
			}
			n.way.released = func() { f.die(n) }
			n.way.mu.Unlock()
		}
		f.die(f.nodes[0])
		time.Sleep(2*leaseTTL + leaseTTL/3)
		if !asked.Load() {
			t.Error("nothing was parked")
		}
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "CANCELLED")
	}, restartable)
}

// Answered, cancelled, and nobody there who could go on with it: it ends at once.
func TestCancelOfAnAnsweredTaskThatNobodyRuns(t *testing.T) {
	newFleet(t, 1, func(f *fleet) {
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		n := f.joinWithout()
		time.Sleep(2 * leaseTTL)
		res, err := n.act(task.ID, task.ID+"-1", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		if _, err := n.Cancel(context.Background(), alice, task.ID, "enough"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leaseTTL / 3)
		f.wantLog(task, "STARTED", "PROGRESS", "SUSPENDED", "ACTION_ACCEPTED", "CANCELLED")
	}, restartable)
}

// twice asks two questions at once, tells each answer, and is done. What it tells
// it tells only once, however often it is run.
type twice struct {
	// expires, if not zero, is when b does, with a default or without.
	expires  time.Duration
	standard *engine.DefaultAction
	runs     atomic.Int32

	mu   sync.Mutex
	told map[string]bool
}

func (q *twice) handler() localexec.Option {
	q.told = map[string]bool{}
	return localexec.Handle("two", func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		q.runs.Add(1)
		errs := make(chan error, 2)
		for _, id := range []string{"a", "b"} {
			go func() { errs <- q.ask(ctx, run, id) }()
		}
		return "done", errors.Join(<-errs, <-errs)
	}, localexec.Restartable())
}

func (q *twice) ask(ctx context.Context, run *engine.Run, id string) error {
	s := question(id)
	if id == "b" && q.expires > 0 {
		at := run.Task().CreatedAt.Add(q.expires)
		s.ExpiresAt, s.Default = &at, q.standard
	}
	a, err := run.Suspend(ctx, s)
	if err != nil {
		return err
	}
	q.mu.Lock()
	told := q.told[id]
	q.mu.Unlock()
	if told {
		return nil
	}
	if err := run.Emit(ctx, engine.Message{Text: id + a.ActionType}); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.told[id] = true
	return nil
}

// inTwo is a fleet of two nodes, the first of which has died with both questions
// open.
func inTwo(t *testing.T, q *twice, test func(f *fleet, task engine.Task)) {
	t.Helper()
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(f.T, "two")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL)
		if holder := f.shared.holderOf(task.ID); holder != "" {
			f.Fatalf("%s holds what waits", holder)
		}
		test(f, task)
	}, q.handler())
}

func (f *fleet) answer(n *fleetNode, task engine.Task, id, how string) {
	f.Helper()
	res, err := n.act(task.ID, id, "of "+id, how, "")
	wantStatus(f.T, res, err, engine.ActionStatusAccepted)
	synctest.Wait()
}

// told is what the log says, sorted: the two questions are asked at once. How
// often the task was begun again, it leaves out.
func (f *fleet) told(task engine.Task) string {
	var words []string
	for _, ev := range f.nodes[0].events(f.T, task.ID) {
		word := strings.TrimPrefix(string(ev.Type), "TASK_")
		if strings.Contains(string(ev.Payload), `"restarts":`) {
			continue
		}
		if ev.Type == engine.TypeMessage {
			word = string(ev.Payload)
			word = word[strings.Index(word, `":"`)+3 : len(word)-2]
		}
		words = append(words, word)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func (f *fleet) wantTold(task engine.Task, want string) {
	f.Helper()
	if got := f.told(task); got != want {
		f.Errorf("the log says %s, want %s", got, want)
	}
}

const (
	both     = "ACTION_ACCEPTED ACTION_ACCEPTED COMPLETED STARTED SUSPENDED SUSPENDED"
	onlyTold = "ACTION_ACCEPTED STARTED SUSPENDED SUSPENDED"
)

// One is answered: the task goes on, and dies again, and goes on with the other.
func TestTwoQuestionsOneAnswer(t *testing.T) {
	for _, dies := range []bool{false, true} {
		q := &twice{}
		inTwo(t, q, func(f *fleet, task engine.Task) {
			f.answer(f.nodes[1], task, "b", "no")
			time.Sleep(time.Minute)
			f.wantTold(task, onlyTold+" bno")
			n, runs := f.nodes[1], int32(2)
			if dies {
				f.die(n)
				n, runs = f.join(), 3
				time.Sleep(2 * leaseTTL)
			}
			f.answer(n, task, "a", "yes")
			time.Sleep(time.Hour)
			f.wantTold(task, both+" ayes bno")
			if got := q.runs.Load(); got != runs {
				f.Errorf("it ran %d times, want %d", got, runs)
			}
		})
	}
}

// Both are answered at the same time, on two nodes.
func TestTwoQuestionsTwoAnswersAtOnce(t *testing.T) {
	for range 10 {
		q := &twice{}
		inTwo(t, q, func(f *fleet, task engine.Task) {
			n := []*fleetNode{f.nodes[1], f.join()}
			var group sync.WaitGroup
			for i, id := range []string{"a", "b"} {
				group.Go(func() {
					res, err := n[i].act(task.ID, id, "of "+id, "yes", "")
					wantStatus(f.T, res, err, engine.ActionStatusAccepted)
				})
			}
			group.Wait()
			time.Sleep(time.Minute)
			f.wantTold(task, both+" ayes byes")
			if got := q.runs.Load(); got != 2 {
				f.Errorf("it ran %d times", got)
			}
		})
	}
}

// One expires: with a default the task goes on, without it fails, with the other.
func TestTwoQuestionsOneExpires(t *testing.T) {
	q := &twice{expires: time.Hour, standard: &engine.DefaultAction{ActionType: "no"}}
	inTwo(t, q, func(f *fleet, task engine.Task) {
		time.Sleep(time.Hour - 2*leaseTTL + 2*time.Second)
		f.wantTold(task, onlyTold+" bno")
		f.answer(f.nodes[1], task, "a", "yes")
		f.wantTold(task, both+" ayes bno")
		time.Sleep(time.Hour)
		if got := q.runs.Load(); got != 2 {
			f.Errorf("it ran %d times", got)
		}
	})
	q = &twice{expires: time.Hour}
	inTwo(t, q, func(f *fleet, task engine.Task) {
		time.Sleep(time.Hour - 2*leaseTTL + 2*time.Second)
		f.wantTold(task, "FAILED STARTED SUSPENDED SUSPENDED")
		res, err := f.nodes[1].act(task.ID, "a", "c", "yes", "")
		wantStatus(f.T, res, err, engine.ActionStatusResolved)
		time.Sleep(time.Hour)
		f.wantTold(task, "FAILED STARTED SUSPENDED SUSPENDED")
		if got := q.runs.Load(); got != 1 {
			f.Errorf("it ran %d times", got)
		}
	})
}

// One is answered in the instant in which the other expires.
func TestTwoQuestionsAnswerMeetsExpiry(t *testing.T) {
	for i := range 20 {
		q := &twice{expires: time.Hour, standard: &engine.DefaultAction{ActionType: "no"}}
		inTwo(t, q, func(f *fleet, task engine.Task) {
			time.Sleep(time.Until(task.CreatedAt.Add(time.Hour)) + time.Duration(i)*50*time.Millisecond)
			f.answer(f.nodes[1], task, "a", "yes")
			time.Sleep(time.Minute)
			f.wantTold(task, both+" ayes bno")
			if got := q.runs.Load(); got != 2 {
				f.Errorf("it ran %d times", got)
			}
		})
	}
}

func TestTwoQuestionsCancelled(t *testing.T) {
	q := &twice{}
	inTwo(t, q, func(f *fleet, task engine.Task) {
		if _, err := f.nodes[1].Cancel(context.Background(), alice, task.ID, "enough"); err != nil {
			f.Fatal(err)
		}
		f.wantTold(task, "CANCELLED STARTED SUSPENDED SUSPENDED")
		for _, id := range []string{"a", "b"} {
			res, err := f.nodes[1].act(task.ID, id, "c", "yes", "")
			wantStatus(f.T, res, err, engine.ActionStatusResolved)
		}
		time.Sleep(time.Hour)
		f.wantTold(task, "CANCELLED STARTED SUSPENDED SUSPENDED")
	})
	// Cancelled while the one that was answered waits for its run.
	q = &twice{}
	inTwo(t, q, func(f *fleet, task engine.Task) {
		n := f.joinWithout()
		f.die(f.nodes[1])
		f.answer(n, task, "a", "yes")
		n.way.cancelled = func() { f.die(n) }
		_, _ = n.Cancel(context.Background(), alice, task.ID, "enough")
		f.join()
		time.Sleep(time.Minute)
		if got := f.told(task); got != "ACTION_ACCEPTED CANCELLED STARTED SUSPENDED SUSPENDED" {
			f.Errorf("the log says %s", got)
		}
	})
}

// The node that accepts the answer dies with it, before and after the next run
// has begun; so does the next, and the one after that.
func TestTwoQuestionsAndEveryNodeDies(t *testing.T) {
	for _, at := range []string{"resolved", "acquiring"} {
		q := &twice{}
		inTwo(t, q, func(f *fleet, task engine.Task) {
			for _, id := range []string{"b", "a"} {
				n := f.join()
				die := func() { f.die(n) }
				n.way.mu.Lock()
				if at == "resolved" {
					n.way.resolved = die
				} else {
					n.way.acquiring = die
				}
				n.way.mu.Unlock()
				for _, other := range f.all() {
					if other != n {
						f.die(other)
					}
				}
				if _, err := n.act(task.ID, id, "of "+id, "yes", ""); err != nil && engine.CodeOf(err) != engine.CodeStoreUnavailable {
					f.Fatal(err)
				}
				time.Sleep(time.Minute)
				if n.way.down() == nil {
					f.Fatal("it lives")
				}
			}
			last := f.join()
			time.Sleep(3 * leaseTTL)
			for _, id := range []string{"a", "b"} { // what a client does that heard nothing
				res, err := last.act(task.ID, id, "of "+id, "yes", "")
				wantStatus(f.T, res, err, engine.ActionStatusDeduplicated)
			}
			f.wantTold(task, both+" ayes byes")
			if got := q.runs.Load(); got > 4 {
				f.Errorf("it ran %d times", got)
			}
		})
	}
}
