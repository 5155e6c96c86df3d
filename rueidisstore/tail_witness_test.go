package rueidisstore

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

func init() { retryTracking = time.Second } // tests of it need not wait

// witness is a follower that holds every call against the contract.
type witness struct {
	tb     testing.TB
	taskID string
	busy   atomic.Int32

	mu      sync.Mutex
	at      engine.EventID
	adrift  bool
	stopped bool
	events  []engine.Event // since the last loss
	total   int
	lost    int
}

func (w *witness) enter() func() {
	if w.busy.Add(1) != 1 {
		w.tb.Error("two calls to a follower at once")
	}
	w.mu.Lock()
	if w.stopped {
		w.tb.Error("a call after stop had returned")
	}
	return func() { w.mu.Unlock(); w.busy.Add(-1) }
}

func (w *witness) Push(events []engine.Event) {
	defer w.enter()()
	if len(events) == 0 {
		w.tb.Error("an empty push")
	}
	for _, ev := range events {
		switch {
		case ev.TaskID != w.taskID:
			w.tb.Errorf("an event of %s for a follower of %s", ev.TaskID, w.taskID)
		case !w.adrift && (ev.ID.Ordinal != w.at.Ordinal+1 || ev.ID.Millis < w.at.Millis):
			w.tb.Errorf("%s after %s", ev.ID, w.at)
		}
		w.at, w.adrift = ev.ID, false
		w.events = append(w.events, ev)
		w.total++
	}
}

func (w *witness) Lost() {
	defer w.enter()()
	w.lost++
	w.adrift = true
	w.events = nil
}

func (w *witness) state() (at engine.EventID, total, lost int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at, w.total, w.lost
}

func (w *witness) losses() int { _, _, lost := w.state(); return lost }

// over reports whether the terminal event has come.
func (w *witness) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events) > 0 && w.events[len(w.events)-1].Type.Terminal()
}

// wantTail fails unless w holds what the store holds, as far back as w goes.
func (w *witness) wantTail(b *bench, after engine.EventID) {
	w.tb.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	want := b.read(w.taskID, after, 1<<20).Events
	if len(w.events) != len(want) {
		w.tb.Errorf("a follower holds %d events, the store %d after %s; %d losses", len(w.events), len(want), after, w.lost)
		return
	}
	for i := range want {
		if !bytes.Equal(w.events[i].AppendJSON(nil), want[i].AppendJSON(nil)) {
			w.tb.Errorf("event %d is %s, want %s", i, clip(w.events[i].AppendJSON(nil)), clip(want[i].AppendJSON(nil)))
			return
		}
	}
}

func (b *bench) follow(taskID string, after engine.EventID) (*witness, func()) {
	b.Helper()
	w, stop, err := b.tryFollow(taskID, after)
	if err != nil {
		b.Fatalf("Follow: %v", err)
	}
	return w, stop
}

func (b *bench) tryFollow(taskID string, after engine.EventID) (*witness, func(), error) {
	w := &witness{tb: b.TB, taskID: taskID, at: after}
	stop, err := b.Follow(b.Context(), taskID, after, w)
	return w, func() {
		stop()
		w.mu.Lock()
		w.stopped = true
		w.mu.Unlock()
	}, err
}

// insist appends under faults: again with the same token until it is stored.
func (b *bench) insist(ctx context.Context, taskID string, drafts ...engine.Draft) error {
	a := engine.Append{TaskID: taskID, Token: crand.Text(), Events: drafts}
	ctx, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	for {
		_, err := b.Append(ctx, a)
		if err == nil || ctx.Err() != nil || engine.CodeOf(err) != engine.CodeStoreUnavailable {
			return err
		}
		time.Sleep(5 * time.Millisecond) // a pause between tries, not a wait
	}
}

// at opens a store on a server of the test's own.
func openAt(t *testing.T, server *redistest.Instance, set ...func(*Config)) *bench {
	t.Helper()
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	for _, s := range set {
		s(&cfg)
	}
	return open(t, cfg)
}

// traffic appends to tasks from many goroutines until it is ended, through
// several stores, while followers come and go. Whatever happens meanwhile,
// nobody may miss an event.
type traffic struct {
	t      *testing.T
	nodes  []*bench
	tasks  []engine.Task
	quit   chan struct{}
	group  sync.WaitGroup
	stayed []*witness
}

func startTraffic(t *testing.T, tasks int, nodes ...*bench) *traffic {
	t.Helper()
	tr := &traffic{t: t, nodes: nodes, quit: make(chan struct{})}
	for range tasks {
		task := nodes[0].create()
		tr.tasks = append(tr.tasks, task)
		for _, node := range nodes {
			w, stop := node.follow(task.ID, engine.EventID{})
			t.Cleanup(stop)
			tr.stayed = append(tr.stayed, w)
		}
	}
	for i := range 4 {
		node := nodes[i%len(nodes)]
		tr.group.Go(func() { tr.write(node) })
	}
	for i := range 4 {
		node := nodes[i%len(nodes)]
		tr.group.Go(func() { tr.comeAndGo(node) })
	}
	return tr
}

func (tr *traffic) over() bool {
	select {
	case <-tr.quit:
		return true
	default:
		return false
	}
}

func (tr *traffic) write(node *bench) {
	for !tr.over() {
		var drafts []engine.Draft
		for range 1 + rand.IntN(4) {
			drafts = append(drafts, message(strconv.Itoa(rand.Int())))
		}
		if err := node.insist(tr.t.Context(), tr.tasks[rand.IntN(len(tr.tasks))].ID, drafts...); err != nil {
			tr.t.Errorf("Append: %v", err)
			return
		}
	}
}

// comeAndGo follows from where it left, again and again.
func (tr *traffic) comeAndGo(node *bench) {
	taskID := tr.tasks[rand.IntN(len(tr.tasks))].ID
	var after engine.EventID
	for !tr.over() {
		w, stop, err := node.tryFollow(taskID, after)
		if err != nil {
			if engine.CodeOf(err) != engine.CodeStoreUnavailable {
				tr.t.Errorf("Follow: %v", err)
				return
			}
			continue
		}
		enough := rand.IntN(20)
		for !tr.over() {
			if _, total, _ := w.state(); total >= enough {
				break
			}
			time.Sleep(time.Millisecond) // polls, as eventually does
		}
		stop()
		var lost int
		if after, _, lost = w.state(); lost > 0 {
			tr.t.Errorf("a follower of %s was lost", taskID)
		}
	}
}

// finish ends the traffic, and all tasks, and compares.
func (tr *traffic) finish() {
	tr.t.Helper()
	close(tr.quit)
	tr.group.Wait()
	for _, task := range tr.tasks {
		if err := tr.nodes[0].insist(tr.t.Context(), task.ID, completed()); err != nil {
			tr.t.Fatal(err)
		}
	}
	events := 0
	for _, w := range tr.stayed {
		eventually(tr.t, "the terminal event", w.over)
		w.wantTail(tr.nodes[0], engine.EventID{})
		if n := w.losses(); n > 0 {
			tr.t.Errorf("%d losses without a reason", n)
		}
		_, total, _ := w.state()
		events += total
	}
	tr.t.Logf("%d events to %d followers", events, len(tr.stayed))
}

// logged is a log that tests look into.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(s))
}

func (l *logged) into(cfg *Config) { cfg.Logger = slog.New(slog.NewTextHandler(l, nil)) }

// entryArgs is an XADD of one event, behind the store's back.
func (b *bench) entryArgs(taskID string, id engine.EventID, drafts ...engine.Draft) []string {
	return []string{"XADD", b.keys.log(taskID), id.String(), "b", encodeBatch(drafts).text(), "t", "0:0:"}
}

// atomically runs commands in one MULTI.
func (b *bench) atomically(commands ...[]string) {
	b.Helper()
	err := b.raw.Dedicated(func(c rueidis.DedicatedClient) error {
		list := rueidis.Commands{c.B().Multi().Build()}
		for _, args := range commands {
			list = append(list, c.B().Arbitrary(args...).Build())
		}
		for _, r := range c.DoMulti(context.Background(), append(list, c.B().Exec().Build())...) {
			if err := r.Error(); err != nil {
				return fmt.Errorf("in MULTI: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
