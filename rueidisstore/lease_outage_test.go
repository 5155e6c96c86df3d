//go:build unix

package rueidisstore

import (
	"context"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// A server that hangs, or is away, for several TTLs: when it is back all leases
// are over, and neither the reaper of the other node nor the own one takes a
// task from a worker that lives.
func TestLeasesOutliveAnOutage(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]func(*redistest.Instance, func()){
		"hung":      func(s *redistest.Instance, wait func()) { s.Pause(); wait(); s.Resume() },
		"restarted": func(s *redistest.Instance, wait func()) { s.Kill(); wait(); s.Start() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Server(t, redistest.AppendOnly("always"))
			cfg := testConfig(t)
			cfg.Redis = rueidis.ClientOption{InitAddress: []string{server.Addr()}}
			cfg.CommandTimeout = processTTL / 3
			var engines []*engine.Engine
			var b *bench
			for range 2 {
				b = open(t, cfg)
				eng, err := leaseEngine(b.Store, processTTL, cfg.Logger)
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
			task := b.create()
			run, err := engines[0].Emitter().Open(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			if err := run.Emit(t.Context(), engine.Started{}); err != nil {
				t.Fatal(err)
			}
			passes := func(d time.Duration) func() {
				return func() {
					start := time.Now()
					eventually(t, "time passes", func() bool { return time.Since(start) > d })
				}
			}
			outage(server, passes(3*processTTL))
			passes(2 * processTTL)()
			if run.Context().Err() != nil {
				t.Errorf("the run ended: %v", context.Cause(run.Context()))
			}
			if err := run.Emit(t.Context(), engine.Completed{Result: []byte(`1`)}); err != nil {
				t.Error(err)
			}
			if got := b.get(task.ID); got.Status != engine.StatusCompleted {
				t.Errorf("the task is %s", got.Status)
			}
		})
	}
}
