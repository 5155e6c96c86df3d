package fiberbridge

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Bridge puts an engine's services on Fiber routes. Make one with New; it is
// safe for concurrent use.
type Bridge struct {
	cfg     Config
	eng     *engine.Engine
	streams *streams
}

// New checks cfg and returns a bridge. An error names the field of Config.
func New(cfg Config) (*Bridge, error) { panic("unwritten") }

// Mount registers the task routes on router, usually a group: the paths of
// Routes are relative to it. It may be called for several routers.
func (b *Bridge) Mount(router fiber.Router) { panic("unwritten") }

// MountHealth registers /health and /ready on router, usually the app itself,
// before any authentication.
func (b *Bridge) MountHealth(router fiber.Router) { panic("unwritten") }

// Shutdown drains: /ready says no, then new work is refused, then every stream
// is told to come back and cut, then the engine is shut down. See DrainConfig.
// It returns ctx's error if that took too long, and may be called again.
func (b *Bridge) Shutdown(ctx context.Context) error { panic("unwritten") }
