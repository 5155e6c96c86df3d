package engine_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// unsureWorld is an engine whose store goes away in the middle of a create of a
// task with a file: with the task stored, or not.
type unsureWorld struct {
	*world
	policy *uploadPolicy
	req    engine.CreateRequest
}

func withUnsureCreate(t *testing.T, stored bool, test func(t *testing.T, w *unsureWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		u := &unsureWorld{policy: &uploadPolicy{}, req: request("r")}
		u.req.Files = []engine.File{file("a", "t/t", "content")}
		u.world = newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.Uploads = u.policy })
		u.store.set(func() {
			u.store.onCreate = func(task engine.Task) error {
				if !stored {
					_ = u.store.Erase(ctx, task.ID)
				}
				u.store.set(func() { u.store.onLookup = func() error { return unavailable } })
				return unavailable
			}
		})
		_, err := u.Create(ctx, alice, u.req)
		wantCode(t, err, engine.CodeStoreUnavailable)
		test(t, u)
	})
}

// back lets the store answer again, and waits, in synctest's time, until it was
// asked.
func (u *unsureWorld) back() {
	u.store.set(func() { u.store.onCreate, u.store.onLookup = nil, nil })
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

func (u *unsureWorld) want(t *testing.T, submitted, released, deleted int, settled string) {
	t.Helper()
	synctest.Wait()
	u.exec.mu.Lock()
	defer u.exec.mu.Unlock()
	got := fmt.Sprintf("%d %d %d %v", len(u.exec.submitted), u.exec.released, u.store.deletes.Load(), u.policy.settled)
	if want := fmt.Sprintf("%d %d %d %s", submitted, released, deleted, settled); got != want {
		t.Errorf("submitted, released, deleted, settled: %s, want %s", got, want)
	}
}

func TestUnsureCreateWasStored(t *testing.T) {
	withUnsureCreate(t, true, func(t *testing.T, w *unsureWorld) {
		time.Sleep(time.Minute)
		w.want(t, 0, 0, 0, "[]") // nobody knows: nothing is given up
		w.back()
		w.want(t, 1, 0, 0, "[true]")
		res, err := w.Create(context.Background(), alice, w.req)
		if err != nil || !res.Deduplicated || res.Task.ID != w.exec.submitted[0].ID {
			t.Errorf("the repeat: %+v, %v", res, err)
		}
		r, err := w.store.Open(context.Background(), res.Task.Attachments[0])
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if b, _ := io.ReadAll(r); string(b) != "content" {
			t.Errorf("the file holds %q", b)
		}
		time.Sleep(time.Hour)
		w.want(t, 1, 0, 0, "[true]")
	})
}

func TestUnsureCreateWasNotStored(t *testing.T) {
	withUnsureCreate(t, false, func(t *testing.T, w *unsureWorld) {
		w.back()
		w.want(t, 0, 1, 1, "[false]")
		res, err := w.Create(context.Background(), alice, w.req)
		if err != nil || res.Deduplicated {
			t.Errorf("the repeat: %+v, %v", res, err)
		}
		w.want(t, 1, 1, 1, "[false true]")
	})
}

// The client repeats its request before anybody has looked: the task that this
// makes has files of its own.
func TestUnsureCreateIsRepeatedFirst(t *testing.T) {
	withUnsureCreate(t, false, func(t *testing.T, w *unsureWorld) {
		time.Sleep(30 * time.Second) // between two looks
		w.store.set(func() { w.store.onCreate, w.store.onLookup = nil, nil })
		res, err := w.Create(context.Background(), alice, w.req)
		if err != nil || res.Deduplicated {
			t.Errorf("the repeat: %+v, %v", res, err)
		}
		w.back()
		w.want(t, 1, 1, 1, "[true false]")
		if r, err := w.store.Open(context.Background(), res.Task.Attachments[0]); err != nil {
			t.Error(err)
		} else {
			r.Close()
		}
	})
}

// Somebody else has seen to the task by then: it was taken for lost.
func TestUnsureCreateIsOver(t *testing.T) {
	withUnsureCreate(t, true, func(t *testing.T, w *unsureWorld) {
		task, err := w.store.Store.Lookup(context.Background(), "alice", "r")
		if err != nil {
			t.Fatal(err)
		}
		w.emit(t, task, engine.Failed{Code: "WORKER_LOST"})
		w.back()
		w.want(t, 0, 1, 0, "[true]")
	})
}

// The store stays away, or the engine is shut down first: the files may be the
// task's, so they stay, and the place is given back.
func TestUnsureCreateIsGivenUp(t *testing.T) {
	withUnsureCreate(t, true, func(t *testing.T, w *unsureWorld) {
		time.Sleep(3 * time.Minute)
		w.want(t, 0, 1, 0, "[true]")
		if !strings.Contains(w.log.String(), "its attachment is kept") {
			t.Error("the log does not say so")
		}
	})
	withUnsureCreate(t, true, func(t *testing.T, w *unsureWorld) {
		start := time.Now()
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the shutdown took %v", took)
		}
		w.want(t, 0, 1, 0, "[true]")
	})
}

// What belongs to the host panics in the background: that ends no process.
func TestUnsureCreatePanics(t *testing.T) {
	withUnsureCreate(t, true, func(t *testing.T, w *unsureWorld) {
		w.exec.onSubmit = func(context.Context, engine.Task) error { panic("no") }
		w.back()
		task, err := w.store.Store.Lookup(context.Background(), "alice", "r")
		if err != nil || task.Status != engine.StatusFailed {
			t.Errorf("%+v, %v", task, err)
		}
	})
}
