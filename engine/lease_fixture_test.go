package engine_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// leased is the embedded store with leases, for several engines to share. Its
// clock can be made to jump.
type leased struct {
	*memstore.Store

	mu    sync.Mutex // also makes the fence and the append one step
	jump  time.Duration
	tasks map[string]*lease
	calls map[string]int
	// tokens are those of appends that were stored.
	tokens map[string]bool
	most   int // tasks of one Renew
	offers map[string]offer
}

type lease struct {
	holder        string // "": released
	fence         uint64
	takeovers     int
	until, seenAt time.Time
	ttl           time.Duration
	seen          time.Time // the until that was seen overdue
	claimed       time.Time
	over          bool
	// savedFence and savedNumber are those of the last checkpoint.
	savedFence, savedNumber uint64
	// of is the until of which waited is told.
	of     time.Time
	waited time.Duration
}

// orphan makes a task an orphan at once.
func (t *lease) orphan(now time.Time) {
	t.holder, t.until, t.seen, t.seenAt, t.claimed = nobody, now, now, now.Add(-max(t.ttl, time.Second)), time.Time{}
}

func newLeased(t *testing.T) *leased {
	t.Helper()
	mem, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mem.Close() })
	return &leased{Store: mem, tasks: map[string]*lease{}, calls: map[string]int{}, tokens: map[string]bool{}, offers: map[string]offer{}}
}

func (l *leased) now() time.Time { return time.Now().Add(l.jump) }

func (l *leased) count(verb string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[verb]
}

func (l *leased) holderOf(taskID string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tasks[taskID].holder
}

func (l *leased) setClock(jump time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jump = jump
}

func (l *leased) Append(ctx context.Context, a engine.Append) ([]engine.EventID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tasks[a.TaskID]
	stale := t != nil && !t.over && a.Fence != 0 && t.fence > a.Fence
	if stale && !l.tokens[a.TaskID+a.Token] {
		return nil, engine.NewError(engine.CodeTaskConflict, "another holds the task")
	}
	if c := a.Checkpoint; c != nil && t != nil && a.Fence != 0 {
		late := t.savedFence == a.Fence && c.Number <= t.savedNumber
		if late && len(a.Events) == 0 {
			return nil, nil
		}
		t.savedFence, t.savedNumber = a.Fence, c.Number
	}
	ids, err := l.Store.Append(ctx, a)
	l.tokens[a.TaskID+a.Token] = err == nil
	if n := len(a.Events); t != nil && err == nil && n > 0 && a.Events[n-1].Type.Terminal() {
		t.holder, t.over = "", true
	}
	return ids, err
}

func (l *leased) Acquire(ctx context.Context, taskID, holder string, ttl time.Duration) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls["Acquire"]++
	task, err := l.Get(ctx, taskID, engine.Fresh)
	if err != nil {
		return 0, err
	}
	if task.Terminal != nil {
		return 0, engine.NewError(engine.CodeTaskAlreadyTerminal, "over")
	}
	t := l.tasks[taskID]
	if t == nil {
		t = &lease{}
		l.tasks[taskID] = t
	}
	if t.holder != holder {
		if t.holder != "" && t.holder != nobody {
			if t.until.After(l.now()) {
				return 0, engine.NewError(engine.CodeTaskConflict, "held")
			}
			t.takeovers++
		}
		t.fence++
	}
	t.holder, t.until, t.ttl = holder, l.now().Add(ttl), ttl
	return t.fence, nil
}

func (l *leased) Renew(ctx context.Context, holder string, taskIDs []string, ttl time.Duration) (lost []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls["Renew"]++
	l.most = max(l.most, len(taskIDs))
	for _, id := range taskIDs {
		_, err := l.Get(ctx, id, engine.Fresh)
		if t := l.tasks[id]; err == nil && t != nil && t.holder == holder {
			t.until, t.ttl = l.now().Add(ttl), ttl
		} else {
			lost = append(lost, id)
		}
	}
	return lost, nil
}

// nobody holds the lease of an orphan that no holder ever had, or that one left.
const nobody = "nobody"

func (l *leased) Create(ctx context.Context, task engine.Task) (engine.Task, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stored, created, err := l.Store.Create(ctx, task)
	if created && task.OpenWithin > 0 {
		l.tasks[stored.ID] = &lease{holder: nobody, until: l.now().Add(task.OpenWithin), ttl: task.OpenWithin}
	}
	return stored, created, err
}

func (l *leased) Release(ctx context.Context, taskID, holder string, orphan bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls["Release"]++
	if t := l.tasks[taskID]; t != nil && t.holder == holder {
		t.holder, t.takeovers = "", 0
		task, err := l.Get(ctx, taskID, engine.Fresh)
		if orphan || err == nil && task.Restartable && task.CancelRequested && !task.Status.Terminal() {
			t.orphan(l.now())
		}
	}
	return nil
}

func (l *leased) RequestCancel(ctx context.Context, taskID, reason string) (engine.Task, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	task, err := l.Store.RequestCancel(ctx, taskID, reason)
	if t := l.tasks[taskID]; err == nil && t != nil && task.Restartable && !task.Status.Terminal() && t.holder == "" {
		t.orphan(l.now())
	}
	return task, err
}

func (l *leased) Due(ctx context.Context, limit int) ([]engine.DueSuspension, error) {
	found, err := l.Store.Due(ctx, limit)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for i := range found {
		d := &found[i]
		if d.Open {
			continue
		}
		key := d.TaskID + "/" + d.SuspendID
		w, offered := l.offers[key]
		if t := l.tasks[d.TaskID]; t != nil && t.holder != "" && t.holder != nobody {
			delete(l.offers, key)
			continue
		}
		if offered {
			w.waited += min(now.Sub(w.last), time.Minute)
		}
		w.last = now
		l.offers[key], d.Waited = w, w.waited
	}
	return found, err
}

// offer is of an answer that nobody has taken.
type offer struct {
	last   time.Time
	waited time.Duration
}

func (l *leased) HandedOver(ctx context.Context, taskID, suspendID string, fence uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tasks[taskID]; t != nil && !t.over && fence != 0 && t.fence > fence {
		return engine.NewError(engine.CodeTaskConflict, "another holds the task")
	}
	return l.Store.HandedOver(ctx, taskID, suspendID, fence)
}

func (l *leased) Orphans(_ context.Context, limit int) (ids []engine.Orphan, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls["Orphans"]++
	now := l.now()
	for id, t := range l.tasks {
		switch {
		case len(ids) == limit:
			return ids, nil
		case t.holder == "" || t.until.Add(-t.ttl/3).After(now):
		case !t.seen.Equal(t.until):
			t.seen, t.seenAt = t.until, now
		case t.until.After(now) || t.seenAt.Add(t.ttl/3).After(now) || t.claimed.Add(5*time.Second).After(now):
		default:
			if t.of.Equal(t.until) {
				t.waited += min(now.Sub(t.claimed), 30*time.Second)
			} else {
				t.of, t.waited = t.until, 0
			}
			t.claimed = now
			ids = append(ids, engine.Orphan{TaskID: id, Takeovers: t.takeovers, Waited: t.waited, Released: t.holder == nobody && t.fence > 0})
		}
	}
	return ids, nil
}

// node is one process's way to the store, which can be cut.
type node struct {
	*leased
	mu   sync.Mutex
	cut  bool
	slow time.Duration // of Release
	// created, acquiring and releasing, if set, are called after a Create, before
	// an Acquire and before a Release, once.
	created, acquiring, releasing func()
	// cancelled and released are called after a RequestCancel and a Release, once,
	// resolved after a Resolve.
	cancelled, released, resolved func()
}

// once calls a hook and forgets it.
func (n *node) once(hook *func()) {
	n.mu.Lock()
	call := *hook
	*hook = nil
	n.mu.Unlock()
	if call != nil {
		call()
	}
}

func (n *node) Create(ctx context.Context, task engine.Task) (engine.Task, bool, error) {
	if err := n.down(); err != nil {
		return engine.Task{}, false, err
	}
	stored, created, err := n.leased.Create(ctx, task)
	n.once(&n.created)
	return stored, created, err
}

func (n *node) setCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (n *node) down() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		return unavailable
	}
	return nil
}

func (n *node) Close() error { return nil } // the store is others' too

func (n *node) Append(ctx context.Context, a engine.Append) ([]engine.EventID, error) {
	if err := n.down(); err != nil {
		return nil, err
	}
	return n.leased.Append(ctx, a)
}

func (n *node) Acquire(ctx context.Context, taskID, holder string, ttl time.Duration) (uint64, error) {
	n.once(&n.acquiring)
	if err := n.down(); err != nil {
		return 0, err
	}
	return n.leased.Acquire(ctx, taskID, holder, ttl)
}

func (n *node) Renew(ctx context.Context, holder string, taskIDs []string, ttl time.Duration) ([]string, error) {
	if err := n.down(); err != nil {
		return nil, err
	}
	return n.leased.Renew(ctx, holder, taskIDs, ttl)
}

func (n *node) Release(ctx context.Context, taskID, holder string, orphan bool) error {
	n.once(&n.releasing)
	if err := n.down(); err != nil {
		return err
	}
	time.Sleep(n.slow)
	defer n.once(&n.released)
	return n.leased.Release(ctx, taskID, holder, orphan)
}

func (n *node) Orphans(ctx context.Context, limit int) ([]engine.Orphan, error) {
	if err := n.down(); err != nil {
		return nil, err
	}
	return n.leased.Orphans(ctx, limit)
}

// TestLeasedStore holds what these tests stand on against the contract.
func TestLeasedStore(t *testing.T) {
	enginetest.TestStore(t, func(t *testing.T) engine.Store { return newLeased(t) }, enginetest.StoreOptions{})
}

func (n *node) Get(ctx context.Context, id string, f engine.Freshness) (engine.Task, error) {
	if err := n.down(); err != nil {
		return engine.Task{}, err
	}
	return n.leased.Get(ctx, id, f)
}

func (n *node) RequestCancel(ctx context.Context, id, reason string) (engine.Task, error) {
	if err := n.down(); err != nil {
		return engine.Task{}, err
	}
	task, err := n.leased.RequestCancel(ctx, id, reason)
	n.once(&n.cancelled)
	return task, err
}

func (n *node) Checkpoint(ctx context.Context, taskID string) (engine.Checkpoint, error) {
	if err := n.down(); err != nil {
		return engine.Checkpoint{}, err
	}
	return n.leased.Checkpoint(ctx, taskID)
}

func (n *node) Suspension(ctx context.Context, taskID, suspendID string) (engine.Suspension, error) {
	if err := n.down(); err != nil {
		return engine.Suspension{}, err
	}
	return n.leased.Suspension(ctx, taskID, suspendID)
}

func (n *node) Resolve(ctx context.Context, r engine.Resolution) (engine.Verdict, error) {
	if err := n.down(); err != nil {
		return 0, err
	}
	defer n.once(&n.resolved)
	return n.leased.Resolve(ctx, r)
}

func (n *node) HandedOver(ctx context.Context, taskID, suspendID string, fence uint64) error {
	if err := n.down(); err != nil {
		return err
	}
	return n.leased.HandedOver(ctx, taskID, suspendID, fence)
}

func (n *node) Due(ctx context.Context, limit int) ([]engine.DueSuspension, error) {
	if err := n.down(); err != nil {
		return nil, err
	}
	return n.leased.Due(ctx, limit)
}
