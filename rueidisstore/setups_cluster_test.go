package rueidisstore_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// testStores runs the suite of engine.Store, with two stores on one Redis for
// its nodes. Each test has a prefix of its own.
func testStores(t *testing.T, option rueidis.ClientOption) {
	var configs sync.Map // of an open store, for its peers
	open := func(t *testing.T, cfg rueidisstore.Config) *rueidisstore.Store {
		t.Helper()
		s := rueidisstore.MustNew(t, cfg)
		configs.Store(s, cfg)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	opener := func(set func(*rueidisstore.Config)) func(t *testing.T) engine.Store {
		return func(t *testing.T) engine.Store {
			t.Helper()
			cfg := rueidisstore.Config{
				Redis: option, Prefix: fmt.Sprintf("suite%d", prefixes.Add(1)),
				CommandTimeout: 30 * time.Second, // on a busy machine
				Logger:         slog.New(slog.NewTextHandler(rueidisstore.LastLines(t), nil)),
			}
			set(&cfg)
			return open(t, cfg)
		}
	}
	enginetest.TestStore(t, opener(func(c *rueidisstore.Config) { c.MaxStreamLength = 1 << 20 }), enginetest.StoreOptions{
		Peer: func(t *testing.T, store engine.Store) engine.Store {
			t.Helper()
			cfg, _ := configs.Load(store)
			return open(t, cfg.(rueidisstore.Config))
		},
		OpenShort: func(t *testing.T) (engine.Store, int) {
			return opener(func(c *rueidisstore.Config) { c.MaxStreamLength = 10 })(t), 10
		},
		OpenExpiring: opener(func(c *rueidisstore.Config) {
			c.StreamTTL, c.RecordTTL = 500*time.Millisecond, 4*time.Second
		}),
	})
}

func TestStoreOnCluster(t *testing.T) {
	t.Parallel()
	testStores(t, at(redistest.Cluster(t).Addrs()...))
}

// TestStoreOnClusterWithSlotsOnTheMove runs the suite while slots, with what
// is in them, go round the nodes.
func TestStoreOnClusterWithSlotsOnTheMove(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	stop := make(chan struct{})
	var moving sync.WaitGroup
	moving.Go(func() {
		pace := time.NewTicker(50 * time.Millisecond) // leaves others a processor
		defer pace.Stop()
		for slot := 0; ; slot = (slot + 331) % 16384 {
			select {
			case <-stop:
				return
			case <-pace.C:
				cluster.MigrateSlot(slot)
			}
		}
	})
	t.Run("suite", func(t *testing.T) { testStores(t, at(cluster.Addrs()...)) })
	close(stop)
	moving.Wait()
}
