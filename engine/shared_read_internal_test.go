package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counted reads take a second and give their number.
type counted struct {
	calls, now, most atomic.Int64
	err              error
}

func (c *counted) read(ctx context.Context) (int64, error) {
	n := c.calls.Add(1)
	c.most.Store(max(c.most.Load(), c.now.Add(1)))
	defer c.now.Add(-1)
	select {
	case <-time.After(time.Second):
		return n, c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// A thousand who ask during a read share one, which begins after it.
func TestSharedReadBeginsAfterWhoAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sharedRead[string, int64]
		var c counted
		ask := func(want int64) {
			if n, err := s.do(t.Context(), "k", c.read); err != nil || n != want {
				t.Errorf("read %d, %v; want %d", n, err, want)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { ask(1) })
		synctest.Wait()
		for range 1000 {
			wg.Go(func() { ask(2) })
		}
		time.Sleep(1500 * time.Millisecond) // the second one is under way
		for range 1000 {
			wg.Go(func() { ask(3) })
		}
		wg.Wait()
		if c.calls.Load() != 3 || c.most.Load() != 1 || len(s.keys) != 0 || s.active != 0 || s.queue != nil {
			t.Errorf("%d reads, %d at once, left: %+v", c.calls.Load(), c.most.Load(), &s)
		}
	})
}

// Who leaves takes nothing from those who stay, and leaves nothing behind,
// whether its read has begun or not, and whoever makes it.
func TestSharedReadIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sharedRead[string, int64]
		var c counted
		var wg sync.WaitGroup
		short := func(d time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			_, err := s.do(ctx, "k", c.read)
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		for _, first := range []time.Duration{500 * time.Millisecond, 3 * time.Second} {
			wg.Go(func() { short(first) }) // alone: its read ends with it
			synctest.Wait()
			for _, d := range []time.Duration{200, 700, 1200, 1700} {
				for range 3 {
					wg.Go(func() { short(d * time.Millisecond) })
				}
			}
			wg.Go(func() {
				if n, err := s.do(t.Context(), "k", c.read); err != nil || n == 0 {
					t.Errorf("who stayed got %d, %v", n, err)
				}
			})
			wg.Wait()
			// All of them leave, at the very moment at which their turn comes.
			wg.Go(func() { short(time.Second) })
			synctest.Wait()
			for range 20 {
				wg.Go(func() { short(time.Second) })
			}
			wg.Wait()
			synctest.Wait()
			if len(s.keys) != 0 || s.active != 0 || s.queue != nil {
				t.Fatalf("left: %+v", &s)
			}
		}
	})
}

// Very many keys: so many at once, each in its turn.
func TestSharedReadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sharedRead[int, int64]
		var c counted
		var wg sync.WaitGroup
		for i := range 10 * sharedReads {
			for range 2 {
				wg.Go(func() {
					if _, err := s.do(t.Context(), i, c.read); err != nil {
						t.Error(err)
					}
				})
			}
		}
		began := time.Now()
		wg.Wait()
		// Those of the first keys, of which one asked too late, read again.
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("took %v", took)
		}
		if c.most.Load() != sharedReads || c.calls.Load() > 11*sharedReads || len(s.keys) != 0 || s.active != 0 || s.queue != nil {
			t.Errorf("%d reads, %d at once, left: %+v", c.calls.Load(), c.most.Load(), &s)
		}
	})
}

// A store that hangs is waited for once, not by one after the other; and who
// asks for something else than the store keeps its own error to itself.
func TestSharedReadOfAStoreThatHangs(t *testing.T) {
	for _, down := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var s sharedRead[int, int64]
			c := counted{err: NewError(CodeTaskNotFound, "no")}
			if down {
				c.err = NewError(CodeStoreUnavailable, "down")
			}
			var wg sync.WaitGroup
			began := time.Now()
			for i := range 10 * sharedReads {
				wg.Go(func() {
					if _, err := s.do(t.Context(), i, c.read); !errors.Is(err, c.err) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if took := time.Since(began); down != (took == time.Second) || len(s.keys) != 0 || s.active != 0 || s.queue != nil {
				t.Errorf("down %v: %v; left: %+v", down, took, &s)
			}
		})
	}
}

// A client that goes away during its read says nothing about the store.
func TestSharedReadOfAClientThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sharedRead[int, int64]
		var c counted
		gone, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		failing := func(ctx context.Context) (int64, error) {
			_, err := c.read(ctx)
			return 0, storeError("read", err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = s.do(gone, 0, failing) })
		synctest.Wait()
		for i := 1; i < 3*sharedReads; i++ {
			wg.Go(func() {
				if _, err := s.do(t.Context(), i, c.read); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// A panic of the store's is the reader's; the others get an error, and the next
// ones a read.
func TestSharedReadPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sharedRead[string, int64]
		var c counted
		var wg sync.WaitGroup
		var panics, errs atomic.Int64
		wg.Go(func() { _, _ = s.do(t.Context(), "k", c.read) })
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				defer func() {
					if recover() != nil {
						panics.Add(1)
					}
				}()
				_, err := s.do(t.Context(), "k", func(context.Context) (int64, error) { panic("store") })
				if CodeOf(err) == CodeInternal {
					errs.Add(1)
				}
			})
		}
		wg.Wait()
		if n, err := s.do(t.Context(), "k", c.read); n != 2 || err != nil || panics.Load() != 1 || errs.Load() != 2 || s.active != 0 {
			t.Errorf("%d, %v; %d panics, %d errors; left: %+v", n, err, panics.Load(), errs.Load(), &s)
		}
	})
}
