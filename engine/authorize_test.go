package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// services are the read paths, each by its access.
func services(w *world) map[engine.Access][]func(engine.AuthContext, string) error {
	ctx := context.Background()
	return map[engine.Access][]func(engine.AuthContext, string) error{
		engine.AccessRead: {
			func(a engine.AuthContext, id string) error {
				_, err := w.Poll(ctx, a, engine.PollRequest{TaskID: id})
				return err
			},
			func(a engine.AuthContext, id string) error { _, err := w.Snapshot(ctx, a, id); return err },
		},
		engine.AccessSubscribe: {func(a engine.AuthContext, id string) error {
			_, err := w.Subscribe(ctx, a, engine.SubscribeRequest{TaskID: id})
			return err
		}},
		engine.AccessCancel: {func(a engine.AuthContext, id string) error { _, err := w.Cancel(ctx, a, id, ""); return err }},
	}
}

const unknown = "0123456789abcdef0123"

// A foreign task and a missing one: the same error, and the same reads of the
// store to get there.
func TestForeignLooksMissing(t *testing.T) {
	w := newWorld(t)
	task := w.task(t)
	for access, calls := range services(w) {
		for i, call := range calls {
			if err := call(alice, task.ID); err != nil {
				t.Errorf("%s %d: %v", access, i, err)
			}
			var errs [2]error
			var reads [2][]engine.Freshness
			for j, id := range []string{task.ID, unknown} {
				w.store.set(func() {
					w.store.onGet = func(_ string, f engine.Freshness) (engine.Task, error, bool) {
						reads[j] = append(reads[j], f)
						return engine.Task{}, nil, false
					}
				})
				errs[j] = call(bob, id)
				w.store.set(func() { w.store.onGet = nil })
			}
			if errs[0] != errs[1] || engine.CodeOf(errs[0]) != engine.CodeTaskNotFound { //nolint:errorlint // the very same value
				t.Errorf("%s %d: foreign %v, missing %v", access, i, errs[0], errs[1])
			}
			for j, r := range reads {
				if len(r) != 2 || r[0] != engine.Cached || r[1] != engine.Fresh {
					t.Errorf("%s %d, case %d: reads %v", access, i, j, r)
				}
			}
		}
	}
	if len(w.exec.cancelled) != 1 {
		t.Errorf("%d cancellations reached the executor", len(w.exec.cancelled))
	}
}

func TestIDOfAnotherForm(t *testing.T) {
	w := newWorld(t)
	for access, calls := range services(w) {
		for _, id := range []string{
			"", "short", "0123456789abcdeF", "0123456789abcde-", "0123456789abcdef\n", "../0123456789abcdef",
			strings.Repeat("a", 65), "0123456789abcdeé", "0123456789abcde\xff", "{0123456789abcdef}",
		} {
			for _, call := range calls {
				if err := call(alice, id); engine.CodeOf(err) != engine.CodeTaskNotFound {
					t.Errorf("%s %q: %v", access, id, err)
				}
			}
		}
		for _, call := range calls {
			if err := call(engine.AuthContext{}, unknown); engine.CodeOf(err) != engine.CodeAuthentication {
				t.Errorf("%s by nobody: %v", access, err)
			}
		}
	}
	if n := w.store.gets.Load(); n != 0 {
		t.Errorf("the store was asked %d times", n)
	}
}

// A cached record may be one that the policy refuses or that is not there yet.
func TestNoIsNeverCached(t *testing.T) {
	w := newWorld(t)
	task := w.task(t)
	stale := task
	stale.Owner = "nobody"
	for name, answer := range map[string]func() (engine.Task, error){
		"denied":  func() (engine.Task, error) { return stale, nil },
		"missing": func() (engine.Task, error) { return engine.Task{}, engine.NewError(engine.CodeTaskNotFound, "") },
	} {
		w.store.set(func() {
			w.store.onGet = func(_ string, f engine.Freshness) (engine.Task, error, bool) {
				cached, err := answer()
				return cached, err, f == engine.Cached
			}
		})
		for access, calls := range services(w) {
			for _, call := range calls {
				if err := call(alice, task.ID); err != nil {
					t.Errorf("%s, %s by a stale record: %v", access, name, err)
				}
			}
		}
	}
}

func TestAuthorizeErrors(t *testing.T) {
	var says error
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) {
		c.Ownership = engine.OwnershipFunc(func(_ context.Context, _ engine.AuthContext, a engine.Access, _ engine.Task) error {
			if a == engine.AccessCreate {
				return nil
			}
			return says
		})
	})
	task := w.task(t)
	for _, c := range []struct {
		says error
		want engine.Code
	}{
		{errors.New("secret"), engine.CodeTaskNotFound},
		{engine.NewError(engine.CodeTaskOwnership, "secret"), engine.CodeTaskNotFound},
		{engine.NewError(engine.CodeRateLimited, "later"), engine.CodeRateLimited},
		{unavailable, engine.CodeStoreUnavailable},
	} {
		says = c.says
		for access, calls := range services(w) {
			for _, call := range calls {
				if err := call(alice, task.ID); engine.CodeOf(err) != c.want {
					t.Errorf("%s, policy says %v: %v", access, c.says, err)
				}
			}
		}
	}
	says = nil
	for _, c := range []struct {
		fault error
		want  engine.Code
	}{
		{unavailable, engine.CodeStoreUnavailable},
		{context.DeadlineExceeded, engine.CodeStoreUnavailable},
		{errors.New("secret"), engine.CodeInternal},
	} {
		w.store.set(func() {
			w.store.onGet = func(string, engine.Freshness) (engine.Task, error, bool) { return engine.Task{}, c.fault, true }
		})
		for access, calls := range services(w) {
			for _, call := range calls {
				e := wantCode(t, call(alice, task.ID), c.want)
				if strings.Contains(e.Message, "secret") {
					t.Errorf("%s shows the cause: %s", access, e.Message)
				}
			}
		}
	}
}
