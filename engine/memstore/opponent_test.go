package memstore

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Whoever is signalled may do anything with the store, short of closing it.
func TestListenerCallsBack(t *testing.T) {
	b := open(t, Config{})
	for _, before := range []bool{true, false} {
		id := b.create().ID
		if before {
			_, _ = b.RequestCancel(t.Context(), id, "r")
		}
		done, listening := make(chan struct{}), make(chan struct{})
		var stop func()
		var err error
		stop, err = b.Listen(t.Context(), id, func(engine.Signal) {
			<-listening
			defer close(done)
			stop()
			b.emit(id, engine.TypeCancelled, `{"reason":"r"}`)
			_, _ = b.RequestCancel(context.Background(), id, "again")
			if again, err := b.Listen(context.Background(), id, func(engine.Signal) {}); err == nil {
				again()
			}
			_ = b.Erase(context.Background(), id)
		})
		close(listening)
		if err != nil {
			t.Fatal(err)
		}
		if !before {
			_, _ = b.RequestCancel(t.Context(), id, "r")
		}
		<-done
		if b.known(id) {
			t.Error("Erase had no effect")
		}
	}
}

// inside calls back where a Follower must not, to see what the store has done
// by then: Get happens to take no lock.
type inside struct {
	tally
	b      *bench
	record engine.Task
}

func (f *inside) Push(events []engine.Event) {
	f.record, _ = f.b.Get(context.Background(), events[0].TaskID, engine.Fresh)
}

func TestRecordIsThereBeforeTheEvent(t *testing.T) {
	b := open(t, Config{})
	id := b.create().ID
	f := &inside{b: b}
	stop, err := b.Follow(t.Context(), id, engine.EventID{}, f)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	b.emit(id, engine.TypeStarted, `{}`)
	if f.record.Status != engine.StatusRunning {
		t.Errorf("with TASK_STARTED the record was %s", f.record.Status)
	}
	b.finish(id)
	if f.record.Terminal == nil || f.record.Status != engine.StatusCompleted {
		t.Errorf("with the terminal event the record was %s", f.record.Status)
	}
}

// Close, at any moment, in the middle of everything.
func TestCloseInTheMiddle(t *testing.T) {
	for range 5 {
		b := open(t, Config{})
		id := b.create().ID
		var group sync.WaitGroup
		ready := make(chan struct{}, 64)
		work := func(do func() error) {
			group.Go(func() {
				for n := 0; ; n++ {
					switch err := do(); engine.CodeOf(err) {
					case "", engine.CodeTaskAlreadyTerminal, engine.CodeTaskNotFound:
					case engine.CodeStoreUnavailable:
						return
					default:
						t.Error(err)
						return
					}
					if n == 2 {
						ready <- struct{}{}
					}
					runtime.Gosched() // few processors, one lock: let the others have it
				}
			})
		}
		const workers = 7
		ctx := t.Context()
		work(func() error {
			task, err := b.tryCreate()
			if err == nil {
				err = b.Erase(ctx, task.ID)
			}
			return err
		})
		work(func() error {
			_, err := b.Append(ctx, engine.Append{TaskID: id, Token: randomName(), Events: []engine.Draft{{Type: engine.TypeMessage}}})
			return err
		})
		work(func() error {
			stop, err := b.Follow(ctx, id, engine.EventID{}, &tally{})
			if err == nil {
				stop()
			}
			return err
		})
		work(func() error {
			stop, err := b.Listen(ctx, id, func(engine.Signal) {})
			if err == nil {
				stop()
			}
			return err
		})
		work(func() error { _, err := b.RequestCancel(ctx, id, "r"); return err })
		work(func() error { _, err := b.Read(ctx, id, engine.EventID{}, 10); return err })
		work(func() error {
			a, err := b.Put(ctx, "a", "", strings.NewReader("x"))
			if err == nil {
				err = b.Delete(ctx, a)
			}
			return err
		})
		for range workers {
			<-ready
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
		if b.Ready(ctx) == nil {
			t.Error("a closed store is ready")
		}
	}
}

// Erase, eviction and the end of a task race for it; nobody is told twice.
func TestEraseInTheMiddle(t *testing.T) {
	for range 200 {
		b := open(t, Config{MaxTasks: 1})
		id := b.create().ID
		c, stop := b.follow(id)
		var group sync.WaitGroup
		group.Go(func() {
			_, _ = b.Append(t.Context(), engine.Append{TaskID: id, Token: "end", Events: []engine.Draft{{Type: engine.TypeCompleted}}})
		})
		group.Go(func() { _, _ = b.tryCreate() })
		group.Go(func() { _ = b.Erase(t.Context(), id) })
		group.Go(func() { b.sweep() })
		group.Wait()
		stop()
		if c.lost.Load() != 1 || c.pushed.Load() > 1 {
			t.Errorf("%d losses, %d events", c.lost.Load(), c.pushed.Load())
		}
		b.tasks.Range(func(id, _ any) bool { _ = b.Erase(t.Context(), id.(string)); return true })
		b.wantEmpty()
		_ = b.Close()
	}
}
