package rueidisstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
)

// inquiry is a service whose tasks ask and are answered, by three clients at once
// on two nodes, or not in time; both nodes see to what expired and was not handed
// over. The test does something to Redis; at the end logs, suspensions and
// records must tell the same story, and nothing may be left over.
type inquiry struct {
	*testing.T

	nodes   []*rueidisstore.Store
	asking  []*asker
	mayLose bool // what was acknowledged may be gone
	running sync.WaitGroup
	seeing  sync.WaitGroup
	stopped chan struct{}
	stop    func()
	end     context.CancelFunc
	ctx     context.Context
}

type asker struct {
	task     engine.Task
	answered atomic.Int64
}

func newInquiry(t *testing.T, option rueidis.ClientOption, tasks int) *inquiry {
	t.Helper()
	q := &inquiry{T: t, stopped: make(chan struct{})}
	q.stop = sync.OnceFunc(func() { close(q.stopped) })
	q.ctx, q.end = context.WithCancel(context.Background())
	cfg := rueidisstore.Config{
		Redis: option, Prefix: fmt.Sprintf("inquiry%d", prefixes.Add(1)), MaxStreamLength: 1 << 20,
		Actions: rueidisstore.ActionConfig{MaxResolved: 1 << 20},
		// A failover may take places of the index and not the tasks: maintenance
		// finds them.
		CleanupInterval: 4 * time.Second,
		Logger:          slog.New(slog.NewTextHandler(rueidisstore.LastLines(t), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for range 2 {
		s := rueidisstore.MustNew(t, cfg)
		t.Cleanup(func() { _ = s.Close() })
		q.nodes = append(q.nodes, s)
	}
	t.Cleanup(func() {
		q.stop()
		q.end()
		q.running.Wait()
		q.seeing.Wait()
	})
	for range tasks {
		now := time.Now().UTC().Truncate(time.Microsecond)
		task, _, err := q.nodes[0].Create(t.Context(), engine.Task{
			Type: "inquiry", Owner: owner, ClientRequestID: "request-" + strconv.FormatInt(requests.Add(1), 10),
			Status: engine.StatusRunning, CreatedAt: now, UpdatedAt: now,
		})
		if err != nil {
			t.Fatal(err)
		}
		q.asking = append(q.asking, &asker{task: task})
	}
	for _, s := range q.nodes {
		q.seeing.Go(func() { q.see(s) })
	}
	return q
}

func (q *inquiry) start() {
	for _, a := range q.asking {
		q.running.Go(func() {
			for n := 1; q.next(a, n); n++ {
				a.answered.Add(1)
			}
		})
	}
}

// blame fails the test, unless it has ended.
func (q *inquiry) blame(format string, args ...any) {
	q.Helper()
	if q.ctx.Err() == nil {
		q.Errorf(format, args...)
	}
}

// insist repeats what fails in passing.
func (q *inquiry) insist(what string, do func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := do()
		if engine.CodeOf(err) != engine.CodeStoreUnavailable || q.ctx.Err() != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %w", what, patience, err)
		}
	}
}

func drafted(t engine.EventType, payload any) engine.Draft {
	b, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	return engine.Draft{Type: t, CreatedAt: time.Now().UTC().Truncate(time.Microsecond), Payload: b}
}

func accepting(taskID, suspendID, actionID, action string, expiry bool) engine.Resolution {
	r := engine.Resolution{
		TaskID: taskID, SuspendID: suspendID, Expiry: expiry, Fingerprint: suspendID + actionID,
		Action: &engine.Action{SuspendID: suspendID, ClientActionID: actionID, ActionType: action, AcceptedAt: time.Now()},
	}
	r.Event = drafted(engine.TypeActionAccepted, engine.ActionAccepted{
		SuspendID: suspendID, ClientActionID: actionID, ActionType: action, AcceptedAt: time.Now().UTC(),
	})
	return r
}

// next asks once and waits for what comes of it; false ends the asking.
func (q *inquiry) next(a *asker, n int) bool {
	select {
	case <-q.stopped:
		return false
	default:
	}
	id, expires := fmt.Sprint("s", n), n%5 == 0
	s := engine.Suspended{
		SuspendID: id, Kind: engine.UserActionRequired, ReasonCode: "R", SchemaVersion: 1, AllowedActions: []string{"approve", "default"},
	}
	at := time.Now().Add(time.Hour)
	if expires {
		at = time.Now().Add(200 * time.Millisecond)
	}
	s.ExpiresAt = &at
	d := drafted(engine.TypeSuspended, s)
	d.Default = &engine.DefaultAction{ActionType: "default"}
	err := q.insist("suspend", func() error {
		_, err := q.nodes[n%2].Append(q.ctx, engine.Append{TaskID: a.task.ID, Token: "ask" + id, Events: []engine.Draft{d}})
		return err
	})
	if err != nil {
		q.blame("suspend %s of %s: %v", id, a.task.ID, err)
		return false
	}
	if !expires {
		q.answer(a, id)
	}
	return q.awaitAnswer(a, id)
}

// answer has three clients answer at once.
func (q *inquiry) answer(a *asker, id string) {
	var accepted atomic.Int64
	var group sync.WaitGroup
	for i := range 3 {
		group.Go(func() {
			var v engine.Verdict
			err := q.insist("answer", func() (err error) {
				v, err = q.nodes[i%2].Resolve(q.ctx, accepting(a.task.ID, id, fmt.Sprint(id, "-", i), "approve", false))
				return err
			})
			switch {
			case err != nil:
				q.blame("answer %s of %s: %v", id, a.task.ID, err)
			case v == engine.VerdictAccepted, v == engine.VerdictDeduplicated:
				accepted.Add(1)
			case v != engine.VerdictResolved && !q.mayLose:
				q.blame("answer %s of %s: the verdict is %d", id, a.task.ID, v)
			}
		})
	}
	group.Wait()
	if got := accepted.Load(); got != 1 && !q.mayLose {
		q.blame("%d answers to %s of %s were accepted", got, id, a.task.ID)
	}
}

// awaitAnswer does what a run does.
func (q *inquiry) awaitAnswer(a *asker, id string) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		s, err := q.nodes[0].Suspension(q.ctx, a.task.ID, id)
		switch {
		case q.ctx.Err() != nil:
			return false
		case engine.CodeOf(err) == engine.CodeTaskNotFound && q.mayLose:
			return true // a failover took the question
		case err != nil && engine.CodeOf(err) != engine.CodeStoreUnavailable:
			q.Errorf("read %s of %s: %v", id, a.task.ID, err)
			return false
		case err == nil && !s.Open:
			return true
		}
		if time.Now().After(deadline) {
			if q.mayLose { // its answers were taken by the failover; nobody repeats them
				return true
			}
			q.Errorf("%s of %s is not answered: %+v, %v", id, a.task.ID, s, err)
			return false
		}
	}
}

// see does what a node's reconciler does.
func (q *inquiry) see(s *rueidisstore.Store) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-q.ctx.Done():
			return
		case <-tick.C:
		}
		due, _ := s.Due(q.ctx, 100)
		for _, d := range due {
			var err error
			if d.Open {
				_, err = s.Resolve(q.ctx, accepting(d.TaskID, d.SuspendID, "", d.Default.ActionType, true))
			} else {
				err = s.HandedOver(q.ctx, d.TaskID, d.SuspendID, 0)
			}
			if err != nil && engine.CodeOf(err) != engine.CodeStoreUnavailable {
				q.blame("see to %s of %s: %v", d.SuspendID, d.TaskID, err)
			}
		}
	}
}

func (q *inquiry) awaitProgress(more int64) {
	q.Helper()
	for _, a := range q.asking {
		from := a.answered.Load()
		eventually(q.T, a.task.ID+" goes on", func() bool { return a.answered.Load() >= from+more || q.Failed() })
	}
	if q.Failed() {
		q.FailNow()
	}
}

// finish stops the asking, waits until nothing is left over, and compares.
func (q *inquiry) finish() {
	q.Helper()
	q.stop()
	q.running.Wait()
	for _, a := range q.asking {
		eventually(q.T, "everything of "+a.task.ID+" was handed over", func() bool { return q.settled(a) })
	}
	asked := int64(0)
	for _, a := range q.asking {
		asked += a.answered.Load()
	}
	q.Logf("%d questions", asked)
}

// settled compares a task's log with its suspensions and its record, and reports
// whether nothing is open or pending.
func (q *inquiry) settled(a *asker) bool {
	q.Helper()
	var log []engine.Event
	var task engine.Task
	err := q.insist("read", func() (err error) {
		log, err = q.read(a.task.ID)
		if err == nil {
			task, err = q.nodes[1].Get(q.ctx, a.task.ID, engine.Fresh)
		}
		return err
	})
	if err != nil {
		q.Fatal(err)
	}
	open := map[string]bool{}
	for _, s := range task.Suspensions {
		open[s.SuspendID] = true
	}
	state := map[string]int{}
	for n, ev := range log {
		if ev.ID.Ordinal != uint64(n+1) {
			q.Fatalf("event %d of %s has ordinal %d", n+1, a.task.ID, ev.ID.Ordinal)
		}
		var p struct {
			SuspendID string `json:"suspendId"`
		}
		if err := json.Unmarshal(ev.Payload, &p); err != nil {
			q.Fatal(err)
		}
		want := map[engine.EventType]int{engine.TypeSuspended: 0, engine.TypeActionAccepted: 1}[ev.Type]
		if state[p.SuspendID] != want {
			q.Fatalf("%s for %s of %s comes as number %d", ev.Type, p.SuspendID, a.task.ID, state[p.SuspendID]+1)
		}
		state[p.SuspendID]++
	}
	settled := true
	for id, n := range state {
		s, err := q.nodes[1].Suspension(q.ctx, a.task.ID, id)
		if engine.CodeOf(err) == engine.CodeStoreUnavailable {
			return false
		}
		if err != nil {
			q.Fatalf("%s of %s is in the log: %v", id, a.task.ID, err)
		}
		if s.Open != (n == 1) || s.Open != open[id] || s.Open != (s.Answer == nil) {
			q.Fatalf("%s of %s has %d events, in the record it is open: %v, and it is %+v", id, a.task.ID, n, open[id], s)
		}
		waits := s.Open && (s.ExpiresAt == nil || time.Until(*s.ExpiresAt) > time.Minute)
		if waits && !q.mayLose {
			q.Fatalf("%s of %s is open", id, a.task.ID)
		}
		settled = settled && (s.HandedOver || waits)
	}
	return settled
}

func (q *inquiry) read(taskID string) ([]engine.Event, error) {
	var all []engine.Event
	var cursor engine.EventID
	for {
		p, err := q.nodes[1].Read(q.ctx, taskID, cursor, 500)
		if err != nil {
			return nil, err
		}
		if p.Expired {
			return nil, errors.New("the log is gone")
		}
		all = append(all, p.Events...)
		if !p.More {
			return all, nil
		}
		cursor = p.Events[len(p.Events)-1].ID
	}
}
