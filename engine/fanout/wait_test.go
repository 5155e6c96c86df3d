package fanout

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Linger: time.Second}, src)
		defer closeHub(t, h)
		last := src.append("k", 3, 10, false)
		ctx := t.Context()
		if err := h.Wait(ctx, "k", ID{}); err != nil {
			t.Fatal(err)
		}
		if err := h.Wait(ctx, "k", src.log("k").all[1].ID); err != nil {
			t.Fatal(err)
		}
		const n = 100
		errs := make(chan error, n)
		before := runtime.NumGoroutine()
		for range n {
			go func() { errs <- h.Wait(ctx, "k", last) }()
		}
		synctest.Wait()
		if more := runtime.NumGoroutine() - before; more > n {
			t.Errorf("%d goroutines for %d waits", more, n)
		}
		if len(errs) != 0 {
			t.Fatal("a wait ended with nothing to read")
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := h.Wait(short, "k", last); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		src.append("k", 1, 10, false)
		for range n {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := src.follows.Load(); n != 1 {
			t.Errorf("%d follows", n)
		}
		// A lost log may have something for everyone.
		last = src.log("k").last()
		go func() { errs <- h.Wait(ctx, "k", last) }()
		synctest.Wait()
		src.loseTail("k", 2)
		if err := <-errs; err != nil {
			t.Error(err)
		}
		time.Sleep(3 * time.Second)
		if s := h.Stats(); s != (Stats{}) {
			t.Errorf("%+v", s)
		}
		src.fault = func(_, _ string) error { return fmt.Errorf("gone: %w", ErrNotFound) }
		if err := h.Wait(ctx, "other", ID{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		down := errors.New("down")
		src.fault = func(_, _ string) error { return down }
		began := time.Now()
		if err := h.Wait(ctx, "third", ID{}); !errors.Is(err, down) || time.Since(began) > 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		go func() { errs <- h.Wait(ctx, "k", last) }()
		synctest.Wait()
		closeHub(t, h)
		if err := <-errs; !errors.Is(err, ErrClosed) && !errors.Is(err, down) {
			t.Errorf("%v", err)
		}
		if err := h.Wait(ctx, "k", ID{}); !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}

func TestNewChecksItsConfig(t *testing.T) {
	if _, err := New(Config{}, nil); err == nil {
		t.Error("no Source")
	}
	if _, err := New(Config{Readers: -1}, newSource()); err == nil || err.Error() != "fanout: Config.Readers is negative" {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Linger: time.Hour, RingBytes: 1}, src)
		src.append("k", 30, 10, false)
		var pipes []*pipe
		for i := range 50 {
			p := attach(h, 20*i, OutletConfig{Heartbeat: time.Second})
			p.out.Follow("k", ID{}, opening("k", ID{}))
			pipes = append(pipes, p)
		}
		lingering := attach(h, -1, OutletConfig{})
		lingering.out.Follow("other", ID{}, nil)
		lingering.out.Unfollow("other", nil)
		pipes = append(pipes, lingering)
		waited := make(chan error, 1)
		go func() { waited <- h.Wait(context.Background(), "k", src.log("k").last()) }()
		synctest.Wait()
		closeHub(t, h)
		closeHub(t, h)
		for _, p := range pipes {
			p.untilEnded(t, EndHub)
			p.verify(t)
			p.out.Writable()
			p.out.Send([]byte("C never\n"))
			p.out.Gone()
		}
		if err := <-waited; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if n := src.log("k").open() + src.log("other").open(); n != 0 {
			t.Errorf("%d follows not stopped", n)
		}
		late := attach(h, -1, OutletConfig{})
		if r, ok := late.end(); !ok || r != EndHub {
			t.Error("an outlet on a closed hub lives")
		}
		late.out.Follow("k", ID{}, nil)
		late.verify(t)
	})
}

func TestCloseInTheMiddleOfEverything(t *testing.T) {
	for range 20 {
		src := newSource()
		src.lag = func() time.Duration { return 100 * time.Microsecond }
		h := mustHub(t, Config{Linger: time.Millisecond, RingBytes: 500, Loops: 2}, src)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var pipes []*pipe
		stop := make(chan struct{})
		for i := range 4 {
			key := fmt.Sprint("k", i%2)
			wg.Go(func() {
				for n := range 200 {
					select {
					case <-stop:
						return
					default:
					}
					p := attach(h, 100*(n%5)-1, OutletConfig{})
					p.out.Follow(key, ID{}, opening(key, ID{}))
					p.out.Send([]byte("C x\n"))
					mu.Lock()
					pipes = append(pipes, p)
					mu.Unlock()
					if n%3 == 0 {
						p.out.Gone()
					}
					if n%4 == 0 {
						p.out.End(nil)
					}
					src.append(key, 2, 20, false)
					ctx, cancel := context.WithTimeout(context.Background(), 50*time.Microsecond)
					h.Wait(ctx, key, src.log(key).last())
					cancel()
				}
			})
		}
		first := attach(h, -1, OutletConfig{})
		first.out.Follow("k0", ID{}, nil)
		first.until(t, "an entry", func() bool { return entries(first.text()) > 0 })
		if err := h.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(stop)
		wg.Wait()
		closeHub(t, h)
		for _, p := range pipes {
			p.verify(t)
			if _, ok := p.end(); !ok {
				t.Error("an outlet survived the hub")
			}
		}
		for _, lg := range src.logs {
			if lg.open() > 0 {
				t.Error("a follow survived the hub")
			}
		}
	}
}

func TestCloseWaitsForAStuckSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		src := newSource()
		src.fault = func(string, string) error { <-release; return nil }
		h := mustHub(t, Config{}, src)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, nil)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		p.untilEnded(t, EndHub)
		close(release)
		closeHub(t, h)
		if n := src.log("k").open(); n != 0 {
			t.Errorf("%d follows not stopped", n)
		}
	})
}
