package memstore

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func (b *bench) suspend(taskID, id string, expiresAt time.Time) {
	b.Helper()
	if err := b.trySuspend(taskID, id, expiresAt); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) trySuspend(taskID, id string, expiresAt time.Time) error {
	at := ""
	if !expiresAt.IsZero() {
		at = `,"expiresAt":"` + expiresAt.UTC().Format(time.RFC3339Nano) + `"`
	}
	payload := fmt.Sprintf(`{"suspendId":%q,"kind":"SYSTEM_PAUSED","reasonCode":"r","allowedActions":["go"],"schemaVersion":1%s}`, id, at)
	_, err := b.Append(b.Context(), engine.Append{TaskID: taskID, Token: randomName(), Events: []engine.Draft{
		{Type: engine.TypeSuspended, Payload: []byte(payload), Default: &engine.DefaultAction{ActionType: "go", Payload: []byte(`{}`)}},
	}})
	return err
}

func (b *bench) answer(taskID, id, caid string) engine.Verdict {
	b.Helper()
	v, err := b.Resolve(b.Context(), answerTo(taskID, id, caid))
	if err != nil {
		b.Fatal(err)
	}
	return v
}

func answerTo(taskID, id, caid string) engine.Resolution {
	return engine.Resolution{
		TaskID: taskID, SuspendID: id, Fingerprint: id,
		Action: &engine.Action{ClientActionID: caid, SuspendID: id, ActionType: "go", Payload: []byte(`{}`)},
		Event: engine.Draft{Type: engine.TypeActionAccepted, Payload: []byte(fmt.Sprintf(
			`{"suspendId":%q,"clientActionId":%q,"actionType":"go","acceptedAt":"2026-01-02T03:04:05Z"}`, id, caid))},
	}
}

func TestOpenSuspensionsAreBounded(t *testing.T) {
	b := open(t, Config{Actions: ActionConfig{MaxOpen: 3}})
	id := b.create().ID
	for i := range 3 {
		b.suspend(id, fmt.Sprint("s", i), time.Time{})
	}
	if err := b.trySuspend(id, "s3", time.Time{}); engine.CodeOf(err) != engine.CodeInvalidTaskState {
		t.Errorf("%v", err)
	}
	b.suspend(id, "s0", time.Time{}) // takes the place of its namesake
	if v := b.answer(id, "s0", "c"); v != engine.VerdictAccepted {
		t.Errorf("%d", v)
	}
	b.suspend(id, "s3", time.Time{})
	if n := len(b.read(id).Events); n != 6 {
		t.Errorf("%d events", n)
	}
}

func TestResolvedSuspensionsArePruned(t *testing.T) {
	b := open(t, Config{Actions: ActionConfig{MaxResolved: 3}})
	id := b.create().ID
	b.suspend(id, "pending", time.Time{})
	b.answer(id, "pending", "c-pending")
	for i := range 10 {
		name := fmt.Sprint("s", i)
		b.suspend(id, name, time.Time{})
		b.answer(id, name, "c-"+name)
		if err := b.HandedOver(t.Context(), id, name, 0); err != nil {
			t.Fatal(err)
		}
	}
	for name, kept := range map[string]bool{"pending": true, "s0": false, "s6": false, "s8": true, "s9": true} {
		if _, err := b.Suspension(t.Context(), id, name); (err == nil) != kept {
			t.Errorf("%s: %v", name, err)
		}
		want := engine.VerdictDeduplicated
		if !kept {
			want = engine.VerdictUnknown
		}
		if v := b.answer(id, name, "c-"+name); v != want {
			t.Errorf("a repeat of %s: %d", name, v)
		}
	}
	b.tasks.Range(func(_, v any) bool {
		e := v.(*entry)
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.acts.receipts) != 3 || len(e.acts.byID) != 3 || len(e.acts.history) != 3 {
			t.Errorf("%d receipts, %d suspensions, %d in the history", len(e.acts.receipts), len(e.acts.byID), len(e.acts.history))
		}
		var size int64
		for _, s := range e.acts.byID {
			size += s.bytes()
		}
		if size != e.acts.size {
			t.Errorf("counts %d bytes, has %d", e.acts.size, size)
		}
		return true
	})
	if err := b.Erase(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.wantEmpty()
	b.wantNothingDue()
}

// wantNothingDue fails if the index still knows anything.
func (b *bench) wantNothingDue() {
	b.Helper()
	b.dues.mu.Lock()
	defer b.dues.mu.Unlock()
	for c, h := range b.dues.heaps {
		if len(h) != 0 {
			b.Errorf("heap %d has %d suspensions", c, len(h))
		}
	}
}

func TestActionsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, Config{StreamTTL: time.Hour, RecordTTL: time.Hour, Actions: ActionConfig{TTL: 30 * time.Minute}})
		defer b.Close()
		id := b.create().ID
		b.suspend(id, "s", time.Now().Add(24*365*time.Hour))
		b.answer(id, "s", "c")
		b.finish(id)
		b.wantNothingDue()
		time.Sleep(20 * time.Minute)
		if v := b.answer(id, "s", "c"); v != engine.VerdictDeduplicated {
			t.Errorf("%d", v)
		}
		never := b.create().ID
		b.finish(never)
		time.Sleep(35 * time.Minute)
		// Nothing is known of suspensions any more, but that the task is over is.
		for range 2 {
			if v := b.answer(id, "s", "c"); v != engine.VerdictResolved {
				t.Errorf("%d", v)
			}
			time.Sleep(time.Minute)
		}
		if v := b.answer(never, "s", "c"); v != engine.VerdictUnknown {
			t.Errorf("a task that never suspended: %d", v)
		}
		time.Sleep(3 * time.Hour)
		b.wantEmpty()
	})
}

// What waits for an answer is not too old, nor what has just got one.
func TestMaxOpenAgeAndSuspensions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, Config{MaxOpenAge: time.Hour})
		defer b.Close()
		id := b.create().ID
		b.suspend(id, "s", time.Now().Add(60*time.Hour))
		time.Sleep(59 * time.Hour)
		if v := b.answer(id, "s", "c"); v != engine.VerdictAccepted {
			t.Fatalf("%d", v)
		}
		time.Sleep(59 * time.Minute)
		b.message(id, 1)
		time.Sleep(2 * time.Minute)
		if task, _ := b.Get(t.Context(), id, engine.Fresh); task.Status != engine.StatusFailed {
			t.Errorf("%s", task.Status)
		}
	})
}

// The clock is set, forth and back: what a client was told is the wall's time,
// what is pending does not care.
func TestDueAndClockJumps(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var mu sync.Mutex
	now := start
	s := newStore(Config{}, func() time.Time { mu.Lock(); defer mu.Unlock(); return now })
	b := &bench{TB: t, Store: s}
	jump := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	due := func() int {
		found, err := s.Due(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	id := b.create().ID
	b.suspend(id, "s", start.Add(time.Hour))
	jump(2 * time.Hour)
	if n := due(); n != 1 {
		t.Errorf("%d due after a jump", n)
	}
	jump(-90 * time.Minute) // nobody was quick enough
	if v, err := s.Resolve(t.Context(), engine.Resolution{TaskID: id, SuspendID: "s", Expiry: true}); err != nil || v != engine.VerdictExpired {
		t.Errorf("%d, %v", v, err)
	}
	if v := b.answer(id, "s", "c"); v != engine.VerdictAccepted {
		t.Errorf("%d", v)
	}
	// An answer that comes when it was due a moment ago is not offered at once.
	b.suspend(id, "t", start)
	if n := due(); n != 1 {
		t.Errorf("%d due", n)
	}
}

// Everything at once, and Erase and Close in the middle.
func TestActionsInTheMiddle(t *testing.T) {
	for range 5 {
		b := open(t, Config{Actions: ActionConfig{MaxResolved: 4}})
		var group sync.WaitGroup
		for i := range 4 {
			task, err := b.tryCreate()
			if err != nil {
				t.Fatal(err)
			}
			work := func(do func(n int) error) {
				group.Go(func() {
					for n := range 200 {
						switch err := do(n); engine.CodeOf(err) {
						case "", engine.CodeTaskNotFound, engine.CodeInvalidTaskState, engine.CodeTaskAlreadyTerminal:
						case engine.CodeStoreUnavailable:
							return
						default:
							t.Error(err)
							return
						}
					}
				})
			}
			ctx := context.Background()
			work(func(n int) error { return b.trySuspend(task.ID, fmt.Sprint(n%10), time.Now()) })
			work(func(n int) error { return b.trySuspend(task.ID, fmt.Sprint(n%10), time.Time{}) })
			work(func(n int) error {
				_, err := b.Resolve(ctx, answerTo(task.ID, fmt.Sprint(n%10), fmt.Sprint(n)))
				return err
			})
			work(func(n int) error {
				r := answerTo(task.ID, fmt.Sprint(n%10), "")
				r.Expiry = true
				_, err := b.Resolve(ctx, r)
				return err
			})
			work(func(n int) error { return b.HandedOver(ctx, task.ID, fmt.Sprint(n%10), 0) })
			work(func(int) error { _, err := b.Due(ctx, 3); return err })
			work(func(n int) error {
				if n < 150 || i%2 == 0 {
					return nil
				}
				return b.Erase(ctx, task.ID)
			})
			if i == 3 {
				group.Go(func() {
					for range 100 {
						_, _ = b.Due(ctx, 1)
					}
				})
			}
		}
		group.Wait()
		b.tasks.Range(func(k, _ any) bool { _ = b.Erase(context.Background(), k.(string)); return true })
		b.wantEmpty()
		b.wantNothingDue()
		_ = b.Close()
		for op, err := range map[string]error{
			"Suspension": func() error { _, err := b.Suspension(context.Background(), "x", "s"); return err }(),
			"Resolve":    func() error { _, err := b.Resolve(context.Background(), engine.Resolution{}); return err }(),
			"HandedOver": b.HandedOver(context.Background(), "x", "s", 0),
			"Due":        func() error { _, err := b.Due(context.Background(), 1); return err }(),
		} {
			if engine.CodeOf(err) != engine.CodeStoreUnavailable {
				t.Errorf("%s after Close: %v", op, err)
			}
		}
	}
}
