package localexec_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// takeable is a store whose leases another can take: then every append with a
// fence is refused, and renewals say that all is lost.
type takeable struct {
	*memstore.Store
	taken, held atomic.Bool
}

func (s *takeable) Acquire(context.Context, string, string, time.Duration) (uint64, error) {
	if s.held.Load() || s.taken.Load() {
		return 0, engine.NewError(engine.CodeTaskConflict, "held")
	}
	return 1, nil
}

func (s *takeable) Renew(_ context.Context, _ string, ids []string, _ time.Duration) ([]string, error) {
	if s.taken.Load() {
		return ids, nil
	}
	return nil, nil
}

func (s *takeable) Release(context.Context, string, string, bool) error   { return nil }
func (s *takeable) Orphans(context.Context, int) ([]engine.Orphan, error) { return nil, nil }

func (s *takeable) Append(ctx context.Context, a engine.Append) ([]engine.EventID, error) {
	if s.taken.Load() && a.Fence > 0 {
		return nil, engine.NewError(engine.CodeTaskConflict, "taken")
	}
	return s.Store.Append(ctx, a)
}

// A task that was given to another worker gets nothing from this one, whatever
// its handler does about it.
func TestLostLeaseEndsTheHandler(t *testing.T) {
	for name, answer := range map[string]func(context.Context) (string, error){
		"stops":   func(ctx context.Context) (string, error) { return "", context.Cause(ctx) },
		"is done": func(context.Context) (string, error) { return "late", nil },
		"panics":  func(context.Context) (string, error) { panic("late") },
		"is deaf": func(context.Context) (string, error) { time.Sleep(time.Hour); return "late", nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store *takeable
				var cause atomic.Value
				h := newHost(t, localexec.Config{}, func(m *memstore.Store) engine.Store {
					store = &takeable{Store: m}
					return store
				}, localexec.Handle("x", func(ctx context.Context, run *engine.Run, _ empty) (string, error) {
					<-ctx.Done()
					cause.Store(context.Cause(ctx))
					run.Text("late")
					return answer(ctx)
				}))
				id := h.create("x", `{}`)
				synctest.Wait()
				store.taken.Store(true)
				time.Sleep(time.Minute)
				if err, _ := cause.Load().(error); !errors.Is(err, engine.ErrLeaseLost) {
					t.Errorf("the cause is %v", err)
				}
				if got := h.status(id); got != engine.StatusRunning {
					t.Errorf("the task is %s", got)
				}
				page, err := h.store.Read(context.Background(), id, engine.EventID{}, 10)
				if err != nil || len(page.Events) != 1 {
					t.Errorf("%d events, %v", len(page.Events), err)
				}
				if name != "panics" && strings.Contains(h.logged.String(), "ERROR") {
					t.Errorf("it was logged as an error:\n%s", h.logged)
				}
				time.Sleep(2 * time.Hour) // the deaf one returns
			})
		})
	}
}

// Somebody else runs the task already.
func TestHeldTaskIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *takeable
		h := newHost(t, localexec.Config{}, func(m *memstore.Store) engine.Store {
			store = &takeable{Store: m}
			store.held.Store(true)
			return store
		}, localexec.Handle("x", func(context.Context, *engine.Run, empty) (string, error) {
			t.Error("the handler ran")
			return "", nil
		}))
		id := h.create("x", `{}`)
		time.Sleep(time.Minute)
		if got := h.status(id); got != engine.StatusAccepted {
			t.Errorf("the task is %s", got)
		}
		if err := h.exec.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
