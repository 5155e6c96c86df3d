package rueidisstore

import (
	"log/slog"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// processTTL is the lease of the engines that tests kill, cut off or wait for. A
// process that gets no time for two thirds of it would lose its tasks.
const processTTL = 3 * time.Second

// leaseEngine is an engine on a store, without an executor.
func leaseEngine(store engine.Store, ttl time.Duration, logger *slog.Logger) (*engine.Engine, error) {
	return engine.New(engine.Config{
		Store: store, Ownership: engine.OwnerOnly(), Lease: engine.LeaseConfig{TTL: ttl}, Logger: logger,
	})
}
