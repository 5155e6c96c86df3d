package memstore_test

import (
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

func opener(cfg memstore.Config) func(t *testing.T) engine.Store {
	return func(t *testing.T) engine.Store {
		t.Helper()
		store, err := memstore.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store
	}
}

func TestStore(t *testing.T) {
	// The suite retains everything that it does not ask to be trimmed.
	enginetest.TestStore(t, opener(memstore.Config{MaxStreamLength: 1 << 20}), enginetest.StoreOptions{
		OpenShort: func(t *testing.T) (engine.Store, int) {
			return opener(memstore.Config{MaxStreamLength: 10})(t), 10
		},
		OpenExpiring: opener(memstore.Config{
			StreamTTL: 100 * time.Millisecond, RecordTTL: 700 * time.Millisecond, CleanupInterval: 20 * time.Millisecond,
		}),
	})
}
