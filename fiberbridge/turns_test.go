package fiberbridge_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Large creates are worked on by half of the processors at most, and small ones
// do not wait for them.
func TestLargeCreatesTakeTurns(t *testing.T) {
	most := int64(max(runtime.GOMAXPROCS(0)/2, 1))
	var inside, highest atomic.Int64
	release := make(chan struct{})
	full := make(chan struct{})
	h := newHTTPHost(t, func(o *hostOptions) {
		o.engine.PrepareCreate = func(_ context.Context, _ engine.AuthContext, req *engine.CreateRequest) error {
			if len(req.Input) < 100_000 {
				return nil
			}
			now := inside.Add(1)
			defer inside.Add(-1)
			for was := highest.Load(); now > was && !highest.CompareAndSwap(was, now); was = highest.Load() {
			}
			if now == most {
				select {
				case <-full:
				default:
					close(full)
				}
			}
			<-release
			return nil
		}
	})
	base, client := h.listen(t)
	var group sync.WaitGroup
	statuses := make([]int, 4*most)
	for i := range statuses {
		body := fmt.Sprintf(`{"clientRequestId":"%d","taskType":"words","input":{"padding":%q}}`, i, strings.Repeat("x", 100_000))
		group.Go(func() {
			res, err := client.Do(newRequest("POST", base+"/tasks", body))
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			statuses[i] = res.StatusCode
		})
	}
	select {
	case <-full:
	case <-time.After(enough):
		t.Fatal("the large creates do not come")
	}
	if r := h.as(t, "bob", "POST", "/tasks", `{"clientRequestId":"small","taskType":"words"}`); r.status != 201 {
		t.Errorf("a small create beside large ones: %v", r)
	}
	close(release)
	group.Wait()
	for i, status := range statuses {
		if status != 201 {
			t.Errorf("create %d: %d", i, status)
		}
	}
	if got := highest.Load(); got > most {
		t.Errorf("%d at once, at most %d", got, most)
	}
}
