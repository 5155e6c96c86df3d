package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// fleet is some engines, each around an executor under test, on one store. A node
// can die: its way to the store is cut, which is all that others see of a death.
type fleet struct {
	*testing.T
	open   func(t *testing.T) engine.TaskExecutor
	shared *sharedStore
	nodes  []*fleetNode

	requests int
}

type fleetNode struct {
	*engine.Engine
	exec engine.TaskExecutor
	way  *way
}

// fleetTTL sets how often engines look for lost workers. Leases of a sharedStore
// end by deaths, not by time, so a slow machine loses nothing.
const fleetTTL = 600 * time.Millisecond

func newFleet(t *testing.T, n int, open func(t *testing.T) engine.TaskExecutor) *fleet {
	t.Helper()
	mem, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mem.Close() })
	f := &fleet{T: t, open: open, shared: &sharedStore{Store: mem, leases: map[string]*sharedLease{}}}
	for range n {
		f.join()
	}
	return f
}

func (f *fleet) join() *fleetNode {
	f.Helper()
	n := &fleetNode{exec: f.open(f.T), way: &way{sharedStore: f.shared}}
	var err error
	n.Engine, err = engine.New(engine.Config{
		Store: n.way, Executor: n.exec, Ownership: engine.OwnerOnly(), Lease: engine.LeaseConfig{TTL: fleetTTL},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		n.way.dead.Store(false) // it hears that its tasks are others' by now
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			f.Errorf("Shutdown: %v", err)
		}
	})
	f.nodes = append(f.nodes, n)
	return n
}

func (f *fleet) create(n *fleetNode, taskType string) string {
	f.Helper()
	f.requests++
	res, err := n.Create(f.Context(), suiteAuth, engine.CreateRequest{
		ClientRequestID: fmt.Sprint("request ", f.requests), TaskType: taskType, Input: json.RawMessage(`{}`),
	})
	if err != nil {
		f.Fatalf("Create %q: %v", taskType, err)
	}
	return res.Task.ID
}

func (f *fleet) get(taskID string) engine.Task {
	f.Helper()
	task, err := f.shared.Get(context.Background(), taskID, engine.Fresh)
	if err != nil {
		f.Fatal(err)
	}
	return task
}

// await waits until a task has a status.
func (f *fleet) await(taskID string, want engine.Status) {
	f.Helper()
	eventually(f.T, "the task is "+string(want), func() bool {
		got := f.get(taskID).Status
		if got.Terminal() && got != want {
			f.Fatalf("the task is %s, want %s: %s", got, want, f.story(taskID))
		}
		return got == want
	})
}

// story is a task's log in words.
func (f *fleet) story(taskID string) string {
	var words []string
	for _, ev := range readAll(f.T, f.shared.Store, taskID) {
		word := strings.TrimPrefix(string(ev.Type), "TASK_")
		if ev.Type == engine.TypeStarted {
			var s engine.Started
			_ = json.Unmarshal(ev.Payload, &s)
			if s.Restarts > 0 {
				word = "RESTARTED(" + strconv.Itoa(s.Restarts) + ")"
			}
		}
		if ev.Type == engine.TypeMessage {
			var m engine.Message
			_ = json.Unmarshal(ev.Payload, &m)
			word += "(" + m.Text + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (f *fleet) wantStory(taskID, want string) {
	f.Helper()
	if got := f.story(taskID); got != want {
		f.Errorf("the log is %s, want %s", got, want)
	}
}

// sharedStore is the embedded store with engine.Leases for several engines. A
// lease ends when its node dies, and then at once.
type sharedStore struct {
	*memstore.Store
	mu     sync.Mutex
	leases map[string]*sharedLease
}

type sharedLease struct {
	at        *way
	holder    string // "": released, or never acquired
	orphan    bool   // it is one without a death
	fence     uint64
	takeovers int
	offered   time.Time
}

// heldBy is who works on a task: nil is nobody who lives.
func (s *sharedStore) heldBy(taskID string) *way {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[taskID]; l != nil && l.holder != "" && !l.at.dead.Load() {
		return l.at
	}
	return nil
}

// parked reports whether a task waits and nobody holds it, alive or dead.
func (s *sharedStore) parked(taskID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[taskID]
	return l != nil && l.holder == "" && !l.orphan
}

func (s *sharedStore) lease(taskID string) *sharedLease {
	l := s.leases[taskID]
	if l == nil {
		l = &sharedLease{}
		s.leases[taskID] = l
	}
	return l
}

// way is one node's way to the store.
type way struct {
	*sharedStore
	dead atomic.Bool
}

var errDead = engine.NewError(engine.CodeStoreUnavailable, "this node is dead")

func (w *way) down() error {
	if w.dead.Load() {
		return errDead
	}
	return nil
}

func (w *way) Close() error { return nil } // the store is others', too

func (w *way) Create(ctx context.Context, task engine.Task) (engine.Task, bool, error) {
	if err := w.down(); err != nil {
		return engine.Task{}, false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	stored, created, err := w.Store.Create(ctx, task)
	if created && task.OpenWithin > 0 {
		w.leases[stored.ID] = &sharedLease{at: w}
	}
	return stored, created, err
}

func (w *way) Lookup(ctx context.Context, owner, id string) (engine.Task, error) {
	if err := w.down(); err != nil {
		return engine.Task{}, err
	}
	return w.Store.Lookup(ctx, owner, id)
}

func (w *way) Get(ctx context.Context, id string, f engine.Freshness) (engine.Task, error) {
	if err := w.down(); err != nil {
		return engine.Task{}, err
	}
	return w.Store.Get(ctx, id, f)
}

func (w *way) Append(ctx context.Context, a engine.Append) ([]engine.EventID, error) {
	if err := w.down(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[a.TaskID]; l != nil && a.Fence != 0 && l.fence > a.Fence {
		return nil, engine.NewError(engine.CodeTaskConflict, "another holds the task")
	}
	return w.Store.Append(ctx, a)
}

func (w *way) RequestCancel(ctx context.Context, id, reason string) (engine.Task, error) {
	if err := w.down(); err != nil {
		return engine.Task{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	task, err := w.Store.RequestCancel(ctx, id, reason)
	if l := w.leases[id]; err == nil && l != nil && l.holder == "" && task.Restartable {
		l.orphan = true
	}
	return task, err
}

func (w *way) Checkpoint(ctx context.Context, taskID string) (engine.Checkpoint, error) {
	if err := w.down(); err != nil {
		return engine.Checkpoint{}, err
	}
	return w.Store.Checkpoint(ctx, taskID)
}

func (w *way) Suspension(ctx context.Context, taskID, id string) (engine.Suspension, error) {
	if err := w.down(); err != nil {
		return engine.Suspension{}, err
	}
	return w.Store.Suspension(ctx, taskID, id)
}

func (w *way) Resolve(ctx context.Context, r engine.Resolution) (engine.Verdict, error) {
	if err := w.down(); err != nil {
		return 0, err
	}
	return w.Store.Resolve(ctx, r)
}

func (w *way) HandedOver(ctx context.Context, taskID, id string, fence uint64) error {
	if err := w.down(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[taskID]; l != nil && fence != 0 && l.fence > fence {
		return engine.NewError(engine.CodeTaskConflict, "another holds the task")
	}
	return w.Store.HandedOver(ctx, taskID, id, fence)
}

func (w *way) Due(ctx context.Context, limit int) ([]engine.DueSuspension, error) {
	if err := w.down(); err != nil {
		return nil, err
	}
	return w.Store.Due(ctx, limit)
}

func (w *way) Acquire(ctx context.Context, taskID, holder string, _ time.Duration) (uint64, error) {
	if err := w.down(); err != nil {
		return 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	task, err := w.Store.Get(ctx, taskID, engine.Fresh)
	if err != nil {
		return 0, err
	}
	if task.Terminal != nil {
		return 0, engine.NewError(engine.CodeTaskAlreadyTerminal, "the task is over")
	}
	l := w.lease(taskID)
	if l.holder != holder {
		if l.holder != "" {
			if !l.at.dead.Load() {
				return 0, engine.NewError(engine.CodeTaskConflict, "another holds the task")
			}
			l.takeovers++
		}
		l.fence++
	}
	l.at, l.holder, l.orphan = w, holder, false
	return l.fence, nil
}

func (w *way) Renew(ctx context.Context, holder string, taskIDs []string, _ time.Duration) (lost []string, err error) {
	if err := w.down(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range taskIDs {
		task, err := w.Store.Get(ctx, id, engine.Fresh)
		if l := w.leases[id]; err != nil || task.Terminal != nil || l == nil || l.holder != holder {
			lost = append(lost, id)
		}
	}
	return lost, nil
}

func (w *way) Release(ctx context.Context, taskID, holder string, orphan bool) error {
	if err := w.down(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.leases[taskID]; l != nil && l.holder == holder {
		task, err := w.Store.Get(ctx, taskID, engine.Fresh)
		l.holder, l.takeovers = "", 0
		l.orphan = orphan || err == nil && task.Restartable && task.CancelRequested
	}
	return nil
}

// orphanPause is for how long what one was given no other gets.
const orphanPause = 300 * time.Millisecond

func (w *way) Orphans(ctx context.Context, limit int) (found []engine.Orphan, err error) {
	if err := w.down(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, l := range w.leases {
		// One that was created and not opened is its creator's to lose.
		lost := l.orphan || l.at != nil && l.at.dead.Load() && (l.holder != "" || l.fence == 0)
		if !lost || len(found) == limit || time.Since(l.offered) < orphanPause {
			continue
		}
		if task, err := w.Store.Get(ctx, id, engine.Fresh); err == nil && task.Terminal == nil {
			l.offered = time.Now()
			found = append(found, engine.Orphan{TaskID: id, Takeovers: l.takeovers, Released: l.orphan})
		}
	}
	return found, nil
}
