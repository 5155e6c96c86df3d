package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A lone durable event is stored by whoever emits it: with that caller's
// context, and no goroutine.
func TestLoneEventIsStoredInline(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		type key struct{}
		ctx := context.WithValue(context.Background(), key{}, "mine")
		run := w.open(t, w.task(t))
		defer run.Close(ctx)
		var seen []any
		w.store.set(func() {
			w.store.onAppend = func(ctx context.Context, _ engine.Append) error {
				seen = append(seen, ctx.Value(key{}))
				return nil
			}
		})
		for range 2 {
			if err := run.Emit(ctx, engine.Message{Text: "m"}); err != nil {
				t.Fatal(err)
			}
		}
		if fmt.Sprint(seen) != "[mine mine]" {
			t.Errorf("appends had the contexts of %v", seen)
		}
	})
}

// What comes while a caller stores goes into the next append, in order, also
// when that caller has returned.
func TestEventsBehindAnInlineOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		w.slow(time.Second)
		first := make(chan error, 1)
		go func() { first <- run.Emit(ctx, engine.Message{Text: "1"}) }()
		synctest.Wait()
		run.Stream(engine.Message{Text: "2"})
		run.Stream(engine.Message{Text: "3"})
		second := make(chan error, 1)
		go func() { second <- run.Emit(ctx, engine.Message{Text: "4"}) }()
		if err := <-first; err != nil {
			t.Error(err)
		}
		if got, _ := texts(t, w.events(t, task.ID)); got != "1" {
			t.Errorf("the first caller came back with %q stored", got)
		}
		if err := <-second; err != nil {
			t.Error(err)
		}
		if err := run.Close(ctx); err != nil {
			t.Error(err)
		}
		if got, _ := texts(t, w.events(t, task.ID)); got != "1234" {
			t.Errorf("%q is stored", got)
		}
		if n := len(w.store.batches()); n != 2 {
			t.Errorf("%d appends, want 2", n)
		}
	})
}

// A caller whose context ends returns; the event is the pipe's then. What was
// stored all the same is not stored twice, and the next event comes after it.
func TestInlineEventOutlivesItsCaller(t *testing.T) {
	for _, stored := range []bool{false, true} {
		t.Run(fmt.Sprint("stored before ", stored), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				ctx := context.Background()
				task := w.task(t)
				run := w.open(t, task)
				tries := 0
				w.store.set(func() {
					w.store.onAppend = func(ctx context.Context, a engine.Append) error {
						if tries++; tries > 1 {
							return nil
						}
						if stored {
							if _, err := w.store.Store.Append(ctx, a); err != nil {
								t.Error(err)
							}
						}
						<-ctx.Done() // the answer is lost
						return ctx.Err()
					}
				})
				short, stop := context.WithTimeoutCause(ctx, time.Second, errors.New("enough"))
				defer stop()
				start := time.Now()
				if err := run.Emit(short, engine.Message{Text: "1"}); err == nil || err.Error() != "enough" {
					t.Errorf("Emit gave %v", err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("Emit came back after %v", took)
				}
				if err := run.Emit(ctx, engine.Message{Text: "2"}); err != nil {
					t.Error(err)
				}
				if err := run.Close(ctx); err != nil {
					t.Error(err)
				}
				if got, _ := texts(t, w.events(t, task.ID)); got != "12" {
					t.Errorf("%q is stored", got)
				}
			})
		})
	}
}

// A shutdown waits for what a caller stores.
func TestShutdownWaitsForAnInlineEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		w.slow(time.Minute)
		stored := make(chan error, 1)
		go func() { stored <- run.Emit(ctx, engine.Message{Text: "1"}) }()
		synctest.Wait()
		start := time.Now()
		long, stop := context.WithTimeout(ctx, time.Hour)
		defer stop()
		if err := w.Shutdown(long); err != nil || time.Since(start) < time.Minute {
			t.Errorf("Shutdown gave %v after %v", err, time.Since(start))
		}
		if err := <-stored; err != nil {
			t.Error(err)
		}
		wantCode(t, run.Emit(ctx, engine.Message{Text: "2"}), engine.CodeServerDraining)
	})
}

// Refusals come back from the call that met them, and are not those of streamed
// events.
func TestInlineRefusal(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run, other := w.open(t, task), w.open(t, task)
		defer run.Close(ctx)
		w.store.set(func() {
			w.store.onAppend = func(context.Context, engine.Append) error {
				return engine.NewError(engine.CodeInternal, "no")
			}
		})
		wantCode(t, run.Emit(ctx, engine.Completed{}), engine.CodeInternal)
		w.store.set(func() { w.store.onAppend = nil })
		if err := run.Emit(ctx, engine.Message{Text: "1"}); err != nil {
			t.Errorf("after a refusal: %v", err)
		}
		if err := other.Emit(ctx, engine.Completed{}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			wantCode(t, run.Emit(ctx, engine.Message{Text: "2"}), engine.CodeTaskAlreadyTerminal)
		}
		if err := run.Flush(ctx); err != nil {
			t.Errorf("nothing was streamed, and Flush gave %v", err)
		}
		other.Close(ctx)
	})
}
