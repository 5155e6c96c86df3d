package rueidisstore

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// fill makes every write that takes memory fail from now on; drain ends that.
func fill(s *redistest.Instance)  { s.Must("CONFIG", "SET", "maxmemory", "1") }
func drain(s *redistest.Instance) { s.Must("CONFIG", "SET", "maxmemory", "0") }

// wantFull fails unless err says that the store is full, to clients and in its cause.
func wantFull(t *testing.T, what string, err error) {
	t.Helper()
	if engine.CodeOf(err) != engine.CodeStoreUnavailable || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("%s gave %v; want STORE_UNAVAILABLE, that the store is full, and Redis's own words", what, err)
	}
}

// While Redis is full everything can be read, also by a process that has nothing
// in its cache; what takes memory is refused; and tasks can be cancelled and ended.
func TestFaultMemoryFull(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.MaxMemory("0", "noeviction"))
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	b, other := open(t, cfg), open(t, cfg)
	task, waits := b.create(), b.create()
	fence := b.acquire(task.ID, "a", time.Minute)
	b.append(task.ID, message("one"), message("two"))
	b.append(waits.ID, draft(engine.TypeSuspended, `{"suspendId":"s","allowedActions":["approve"]}`))
	early := &witness{tb: t, taskID: task.ID}
	stop, err := b.Follow(t.Context(), task.ID, engine.EventID{}, early)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	eventually(t, "two events", func() bool { _, n, _ := early.state(); return n == 2 })
	fill(server)

	for name, s := range map[string]*bench{"a process that knows the task": b, "one that does not": other} {
		for _, freshness := range []engine.Freshness{engine.Cached, engine.Fresh} {
			if got, err := s.Get(t.Context(), task.ID, freshness); err != nil || got.ID != task.ID {
				t.Errorf("%s: Get: %v, %v", name, got.ID, err)
			}
		}
		if p, err := s.Read(t.Context(), task.ID, engine.EventID{}, 10); err != nil || len(p.Events) != 2 {
			t.Errorf("%s: Read: %d events, %v", name, len(p.Events), err)
		}
		if _, err := s.Lookup(t.Context(), task.Owner, task.ClientRequestID); err != nil {
			t.Errorf("%s: Lookup: %v", name, err)
		}
		if _, err := s.Suspension(t.Context(), waits.ID, "s"); err != nil {
			t.Errorf("%s: Suspension: %v", name, err)
		}
		if _, err := s.ListRevocations(t.Context()); err != nil {
			t.Errorf("%s: ListRevocations: %v", name, err)
		}
	}
	late := &witness{tb: t, taskID: task.ID}
	stopLate, err := other.Follow(t.Context(), task.ID, engine.EventID{}, late)
	if err != nil {
		t.Fatal(err)
	}
	defer stopLate()
	eventually(t, "a late follower gets the log", func() bool { _, n, _ := late.state(); return n == 2 })

	_, _, err = b.Create(t.Context(), engine.Task{Owner: "ann", ClientRequestID: "refused", Status: engine.StatusAccepted})
	wantFull(t, "Create", err)
	_, err = b.try(task.ID, message("refused"))
	wantFull(t, "Append", err)
	_, err = b.Resolve(t.Context(), answer(waits.ID, "s", "c"))
	wantFull(t, "Resolve", err)

	// What gives memory back, and what must not wait for it.
	b.renewed("a", time.Minute, task.ID)
	if got, err := b.RequestCancel(t.Context(), task.ID, "why"); err != nil || got.CancelReason != "why" {
		t.Errorf("RequestCancel: %q, %v", got.CancelReason, err)
	}
	r := engine.Revocation{ID: "r", TaskID: "x", ExpiresAt: time.Now().Add(time.Minute)}
	if err := b.PutRevocation(t.Context(), r, 10); err != nil {
		t.Errorf("PutRevocation: %v", err)
	}
	end := engine.Append{TaskID: task.ID, Token: "end", Fence: fence, Events: []engine.Draft{completed()}}
	if _, err := b.Append(t.Context(), end); err != nil {
		t.Errorf("an end: %v", err)
	}
	for _, w := range []*witness{early, late} {
		eventually(t, "followers get the end", func() bool { _, n, lost := w.state(); return n == 3 && lost == 0 })
	}
	if err := b.Erase(t.Context(), task.ID); err != nil {
		t.Errorf("Erase: %v", err)
	}

	drain(server)
	b.append(waits.ID, message("goes on"))
	b.wantVerdict("an answer", answer(waits.ID, "s", "c"), engine.VerdictAccepted)
}

// A run whose store is full holds on for longer than its lease, keeps it, and goes on.
func TestFaultMemoryFullWhileRunning(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.MaxMemory("0", "noeviction"))
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	var engines []*engine.Engine
	var b *bench
	for range 2 {
		b = open(t, cfg)
		eng, err := leaseEngine(b.Store, processTTL, cfg.Logger)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := eng.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		engines = append(engines, eng)
	}
	task := b.create()
	run, err := engines[0].Emitter().Open(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Emit(t.Context(), engine.Started{}); err != nil {
		t.Fatal(err)
	}
	fill(server)
	began := time.Now()
	stored := make(chan error, 1)
	go func() { stored <- run.Emit(context.Background(), engine.Message{Text: "late"}) }()
	eventually(t, "three TTLs pass", func() bool { return time.Since(began) > 3*processTTL })
	select {
	case err := <-stored:
		t.Errorf("an append to a full store gave %v before there was room", err)
	default:
	}
	if run.Context().Err() != nil {
		t.Errorf("the run ended: %v", context.Cause(run.Context()))
	}
	drain(server)
	if err := <-stored; err != nil {
		t.Errorf("once there is room: %v", err)
	}
	if err := run.Emit(t.Context(), engine.Completed{Result: json.RawMessage(`1`)}); err != nil {
		t.Error(err)
	}
	if got := b.get(task.ID); got.Status != engine.StatusCompleted {
		t.Errorf("the task is %s", got.Status)
	}
	if p := b.read(task.ID, engine.EventID{}, 10); len(p.Events) != 3 {
		t.Errorf("%d events", len(p.Events))
	}
}
