package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func TestCreateRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config, _ *memConfig) { c.Creates = engine.CreateRate{PerSecond: 2, Burst: 5} })
		defer w.stop(t)()
		n := 0
		create := func(auth engine.AuthContext) error {
			n++
			_, err := w.Create(t.Context(), auth, request(fmt.Sprint("rate-", n)))
			return err
		}
		for i := range 5 {
			if err := create(alice); err != nil {
				t.Fatalf("create %d: %v", i, err)
			}
		}
		var e *engine.Error
		if err := create(alice); !errors.As(err, &e) || e.Code != engine.CodeRateLimited || e.RetryAfter != 500*time.Millisecond {
			t.Fatalf("over the burst: %v", err)
		}
		if err := create(bob); err != nil {
			t.Errorf("another subject: %v", err)
		}
		time.Sleep(e.RetryAfter)
		if err := create(alice); err != nil {
			t.Errorf("after the time that was named: %v", err)
		}
		// Repeats and invalid requests count, and what the rate refuses does not.
		time.Sleep(time.Hour)
		for _, req := range []engine.CreateRequest{request("rate-1"), {}, request("rate-1"), {TaskType: "x"}, request("rate-1")} {
			if _, err := w.Create(t.Context(), alice, req); engine.CodeOf(err) == engine.CodeRateLimited {
				t.Fatalf("%+v: %v", req, err)
			}
		}
		for range 10 {
			if _, err := w.Create(t.Context(), alice, request("rate-1")); engine.CodeOf(err) != engine.CodeRateLimited {
				t.Fatalf("a repeat over the rate: %v", err)
			}
		}
		time.Sleep(e.RetryAfter)
		if res, err := w.Create(t.Context(), alice, request("rate-1")); err != nil || !res.Deduplicated {
			t.Errorf("a repeat after the time that was named: %v", err)
		}
		time.Sleep(time.Hour)
		for i := range 6 {
			if err := create(alice); (err == nil) != (i < 5) {
				t.Errorf("create %d after a pause: %v", i, err)
			}
		}
	})
}

// Any number of subjects takes a bounded number of buckets, and who goes on
// creating is not forgotten.
func TestCreateRateManySubjects(t *testing.T) {
	w := newWorld(t, func(c *engine.Config, m *memConfig) {
		c.Creates = engine.CreateRate{PerSecond: 1, Burst: 1}
		m.MaxTasks = 1 << 20
	})
	limited := 0
	for i := range 40_000 {
		if i%10_000 == 0 {
			_, err := w.Create(t.Context(), alice, request(fmt.Sprint("many-", i)))
			if engine.CodeOf(err) == engine.CodeRateLimited {
				limited++
			}
		}
		_, err := w.Create(t.Context(), engine.AuthContext{Subject: fmt.Sprint("s", i)}, request("1"))
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := w.RateSubjects(); n > 2<<14 {
		t.Errorf("%d subjects are remembered", n)
	}
	t.Logf("alice was limited %d times", limited)
}

func TestCreateRateUnbounded(t *testing.T) {
	w := newWorld(t, func(c *engine.Config, _ *memConfig) { c.Creates.PerSecond = -1 })
	for i := range 1500 {
		if _, err := w.Create(t.Context(), alice, request(fmt.Sprint("free-", i))); err != nil {
			t.Fatal(err)
		}
	}
}

// What a subject adds to the store is bounded in bytes, repeats and other subjects
// aside. A task larger than the burst is let in when the burst is there.
func TestCreateVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config, _ *memConfig) {
			c.Creates = engine.CreateRate{BytesPerSecond: 1000, BurstBytes: 3000}
		})
		defer w.stop(t)()
		create := func(auth engine.AuthContext, id string, size int) error {
			req := request(id)
			req.Input = []byte(`{"x":"` + strings.Repeat("x", size-len(`{"x":""}`)) + `"}`)
			req.Metadata = nil
			_, err := w.Create(t.Context(), auth, req)
			return err
		}
		for i := range 3 {
			if err := create(alice, fmt.Sprint(i), 990); err != nil {
				t.Fatalf("create %d: %v", i, err)
			}
		}
		var e *engine.Error
		if err := create(alice, "too much", 990); !errors.As(err, &e) || e.Code != engine.CodeRateLimited ||
			e.RetryAfter <= 0 || e.RetryAfter > time.Second {
			t.Fatalf("over the burst: got %v, want RATE_LIMITED for a second at most", err)
		}
		if err := create(alice, "1", 990); err != nil {
			t.Errorf("a repeat: %v", err)
		}
		if err := create(bob, "1", 990); err != nil {
			t.Errorf("another subject: %v", err)
		}
		time.Sleep(e.RetryAfter)
		if err := create(alice, "too much", 990); err != nil {
			t.Errorf("after the time that was named: %v", err)
		}
		time.Sleep(time.Hour)
		if err := create(alice, "large", 10_000); err != nil {
			t.Errorf("larger than the burst, which is there: %v", err)
		}
		if err := create(alice, "small", 990); engine.CodeOf(err) != engine.CodeRateLimited {
			t.Errorf("right behind it: got %v, want RATE_LIMITED", err)
		}
	})
}
