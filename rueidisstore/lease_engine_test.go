package rueidisstore

import (
	"log/slog"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// processTTL is the lease of the engines that tests kill, cut off or wait for.
const processTTL = 1500 * time.Millisecond

// leaseEngine is an engine on a store, without an executor.
func leaseEngine(store engine.Store, logger *slog.Logger) (*engine.Engine, error) {
	return engine.New(engine.Config{
		Store: store, Ownership: engine.OwnerOnly(), Lease: engine.LeaseConfig{TTL: processTTL}, Logger: logger,
	})
}
