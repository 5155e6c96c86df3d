//go:build unix

package rueidisstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// askingEngines are n nodes of a service whose handler asks; runs counts what it
// was answered.
func askingEngines(t *testing.T, cfg Config, n int, answered *atomic.Int64) []*engine.Engine {
	t.Helper()
	var engines []*engine.Engine
	for range n {
		x, err := localexec.New(localexec.Config{}, localexec.Handle("ask",
			func(ctx context.Context, run *engine.Run, in askInput) (string, error) {
				action, err := ask(ctx, run, in)
				if err == nil {
					answered.Add(1)
				}
				return action, err
			}, localexec.Restartable()))
		if err != nil {
			t.Fatal(err)
		}
		eng, err := engine.New(engine.Config{
			Store: open(t, cfg).Store, Executor: x, Ownership: engine.OwnerOnly(),
			Lease: engine.LeaseConfig{TTL: processTTL}, Logger: cfg.Logger,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := eng.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		engines = append(engines, eng)
	}
	return engines
}

// 200 answers at once over two nodes: one is accepted, one is told, one resumes.
func TestOneOfManyAnswers(t *testing.T) {
	cfg := testConfig(t)
	b := open(t, cfg)
	var answered atomic.Int64
	engines := askingEngines(t, cfg, 2, &answered)
	ann := engine.AuthContext{Subject: "ann"}
	for round := range 5 {
		res, err := engines[round%2].Create(t.Context(), ann, engine.CreateRequest{
			ClientRequestID: b.token(), TaskType: "ask", Input: []byte(`{}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		id := res.Task.ID
		eventually(t, "the question", func() bool { return len(b.get(id).Suspensions) == 1 })
		const rivals = 200
		var mu sync.Mutex
		var group sync.WaitGroup
		count, winner := map[engine.ActionStatus]int{}, ""
		start := make(chan struct{})
		for i := range rivals {
			group.Go(func() {
				<-start
				got, err := engines[i%2].Act(t.Context(), ann, engine.ActionRequest{
					TaskID: id, SuspendID: "s", ActionType: "approve", ClientActionID: fmt.Sprint("c", i),
				})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				count[got.Status]++
				if got.Status == engine.ActionStatusAccepted {
					winner = got.ClientActionID
				}
			})
		}
		close(start)
		group.Wait()
		if count[engine.ActionStatusAccepted] != 1 || count[engine.ActionStatusResolved] != rivals-1 {
			t.Errorf("they were told %v", count)
		}
		wantOnce(t, b, id, "approve "+winner)
		if got := answered.Load(); got != int64(round+1) {
			t.Errorf("%d resumed after %d rounds", got, round+1)
		}
	}
}

// What expires without a run that waits for it is seen to within two seconds, by
// whatever node is alive, however much expires together.
func TestExpiryIsKept(t *testing.T) {
	cfg := testConfig(t)
	b := open(t, cfg)
	var answered atomic.Int64
	askingEngines(t, cfg, 2, &answered)
	const tasks = 200
	ids := make([]string, tasks)
	begin := time.Now()
	for i := range ids {
		ids[i] = b.create().ID
		b.append(ids[i], draft(engine.TypeStarted, `{}`))
	}
	// When all of them wait, however long that takes.
	expires := time.Now().Add(time.Second + 2*time.Since(begin))
	for _, id := range ids {
		b.append(id, suspension("s", expires))
	}
	eventually(t, "all have expired", func() bool {
		for _, id := range ids {
			if b.get(id).Terminal == nil {
				return false
			}
		}
		return true
	})
	var late []time.Duration
	for _, id := range ids {
		end := b.get(id).Terminal
		if end.Type != engine.TypeFailed {
			t.Errorf("%s ended with %s", id, end.Type)
		}
		// The id's time is the server's.
		late = append(late, time.UnixMilli(int64(end.ID.Millis)).Sub(expires))
	}
	slices.Sort(late)
	first, half, last := late[0], late[tasks/2], late[tasks-1]
	t.Logf("they expired %v, %v and %v after their time: the first, half of them, the last", first, half, last)
	// The last ones may have to wait for a processor.
	if first < -time.Millisecond || half > 2*time.Second || last > 5*time.Second {
		t.Errorf("they expired %v, %v and %v after their time: the first, half of them, the last", first, half, last)
	}
}
