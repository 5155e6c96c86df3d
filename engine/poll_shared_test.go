package engine_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// reads counts how often w's store is asked for a log, or a record uncached, from
// here on.
func (w *world) reads() *atomic.Int64 {
	n := new(atomic.Int64)
	w.store.set(func() {
		w.store.onRead = func() error { n.Add(1); return nil }
		w.store.onGet = func(_ string, f engine.Freshness) (engine.Task, error, bool) {
			if f == engine.Fresh {
				n.Add(1)
			}
			return engine.Task{}, nil, false
		}
	})
	return n
}

// polls asks n times at once, from the cursors in turn, and holds each answer
// against check.
func (w *world) polls(t *testing.T, n int, req engine.PollRequest, cursors []engine.EventID, check func(after engine.EventID, res engine.PollResult)) *sync.WaitGroup {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		after := cursors[i%len(cursors)]
		wg.Go(func() {
			req := req
			req.After = after
			res, err := w.Poll(context.Background(), alice, req)
			if err != nil {
				t.Error(err)
				return
			}
			check(after, res)
		})
	}
	return &wg
}

// A thousand polls of a task that moves cost the store nothing, and each gets what
// follows its cursor.
func TestPollStormOfAFollowedTask(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		all := w.emit(t, task, story(40)[:41]...)
		var cursors []engine.EventID
		for _, ev := range all {
			cursors = append(cursors, ev.ID)
		}
		last := cursors[len(cursors)-1]
		first := w.poll(t, engine.PollRequest{TaskID: task.ID, Wait: time.Minute, Max: 500})
		if first.Next != last {
			t.Fatalf("%+v", first)
		}
		synctest.Wait() // it has had the task followed
		n := w.reads()
		// At the head, all of them wait.
		wait := w.polls(t, 1000, engine.PollRequest{TaskID: task.ID, Wait: time.Minute}, []engine.EventID{last},
			func(_ engine.EventID, res engine.PollResult) {
				if len(res.Events) != 1 || res.Events[0].ID.Ordinal != last.Ordinal+1 || res.HasMore || res.Status != engine.StatusRunning {
					t.Errorf("%+v", res)
				}
			})
		synctest.Wait()
		waiting := n.Load()
		w.emit(t, task, engine.Message{Text: "41"})
		wait.Wait()
		if woken := n.Load(); waiting > 0 || woken != waiting {
			t.Errorf("%d reads for a thousand that wait, %d when they have their answer", waiting, woken)
		}
		// Before it, from wherever, each gets at once what the ring has.
		w.polls(t, 1000, engine.PollRequest{TaskID: task.ID, Wait: time.Minute, Max: 5}, append(cursors, engine.EventID{}),
			func(after engine.EventID, res engine.PollResult) {
				if len(res.Events) == 0 || res.Events[0].ID.Ordinal != after.Ordinal+1 || res.Next != res.Events[len(res.Events)-1].ID {
					t.Errorf("after %v: %+v", after, res)
				}
			}).Wait()
		if again := n.Load(); again != waiting {
			t.Errorf("%d reads in the end", again)
		}
	})
}

// Nobody follows the task, and every poll has a cursor of its own: one read each
// and no more at once than the store is to bear.
func TestPollStormFromEverywhere(t *testing.T) {
	w := newWorld(t, func(_ *engine.Config, m *memstore.Config) { m.MaxStreamLength = 5000 })
	task := w.task(t)
	all := w.emit(t, task, story(400)...)
	var cursors []engine.EventID
	for _, ev := range all {
		cursors = append(cursors, ev.ID)
	}
	var now, most atomic.Int64
	w.store.set(func() {
		w.store.onRead = func() error {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Millisecond)
			now.Add(-1)
			return nil
		}
	})
	w.polls(t, 2000, engine.PollRequest{TaskID: task.ID, Max: 500}, cursors, func(after engine.EventID, res engine.PollResult) {
		if got := uint64(len(res.Events)); got != uint64(len(all))-after.Ordinal || res.Status != engine.StatusCompleted {
			t.Errorf("after %v: %d events", after, got)
		}
	}).Wait()
	if most.Load() > 64 {
		t.Errorf("%d reads at once", most.Load())
	}
}

// A poll without a wait, and one whose wait is over, sees all that was there when
// it asked, even if the push that fills the ring hangs; so does one of a task
// that is known to be over.
func TestPollDoesNotTrustTheRingForTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hold := &heldStore{Store: w.store}
		eng, err := engine.New(engine.Config{Store: hold, Ownership: engine.OwnerOnly()})
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Shutdown(context.Background())
		task := w.task(t)
		ask := func(after engine.EventID, wait time.Duration) (engine.PollResult, time.Duration) {
			t.Helper()
			began := time.Now()
			res, err := eng.Poll(context.Background(), alice, engine.PollRequest{TaskID: task.ID, After: after, Wait: wait})
			if err != nil {
				t.Fatal(err)
			}
			return res, time.Since(began)
		}
		at := w.emit(t, task, engine.Started{})[0].ID
		follow, stop := context.WithCancel(context.Background())
		defer stop()
		go func() { _ = eng.Hub().Wait(follow, task.ID, fanout.ID(at)) }()
		synctest.Wait()
		hold.held.Store(true)
		w.emit(t, task, engine.Message{Text: "unheard of"})
		if res, took := ask(at, 0); len(res.Events) != 1 || took != 0 {
			t.Errorf("no wait: %v, %+v", took, res)
		}
		if res, took := ask(at, time.Second); len(res.Events) != 1 || took > time.Second {
			t.Errorf("after the wait: %v, %+v", took, res)
		}
		w.emit(t, task, engine.Completed{})
		if res, took := ask(at, time.Minute); len(res.Events) != 2 || took != 0 || res.Status != engine.StatusCompleted {
			t.Errorf("a task that is over: %v, %+v", took, res)
		}
	})
}

// heldStore pushes nothing to those who follow while it is held.
type heldStore struct {
	engine.Store
	held atomic.Bool
}

func (s *heldStore) Follow(ctx context.Context, id string, after engine.EventID, f engine.Follower) (func(), error) {
	return s.Store.Follow(ctx, id, after, heldFollower{s, f})
}

type heldFollower struct {
	s *heldStore
	engine.Follower
}

func (f heldFollower) Push(events []engine.Event) {
	if !f.s.held.Load() {
		f.Follower.Push(events)
	}
}

// The ring does not tell the status; a record from before TASK_STARTED must not,
// either, to whoever has seen that.
func TestPollOfTheRingTellsTheStatus(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		all := w.emit(t, task, engine.Started{}, engine.Message{Text: "m"})
		w.poll(t, engine.PollRequest{TaskID: task.ID, Wait: time.Minute}) // it is followed from here on
		synctest.Wait()
		w.store.set(func() {
			w.store.onGet = func(_ string, f engine.Freshness) (engine.Task, error, bool) {
				return task, nil, f == engine.Cached
			}
		})
		for _, after := range []engine.EventID{{}, all[0].ID} {
			res := w.poll(t, engine.PollRequest{TaskID: task.ID, After: after, Wait: time.Minute})
			if res.Status != engine.StatusRunning || res.Next != all[1].ID {
				t.Errorf("after %v: %+v", after, res)
			}
		}
	})
}
