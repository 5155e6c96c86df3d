package engine

import "context"

// Engine runs the services. Make one with New; it is safe for concurrent use.
type Engine struct{}

// New checks cfg and returns an engine. An error names the field of Config.
func New(cfg Config) (*Engine, error) { panic("unwritten") }

// Emitter opens runs for workers that are not behind a TaskExecutor.
func (e *Engine) Emitter() *Emitter { panic("unwritten") }

// Ready asks every readiness probe and returns an answer for each, nil for one
// that is ready.
func (e *Engine) Ready(ctx context.Context) map[string]error { panic("unwritten") }

// Shutdown ends the engine: creates are refused with SERVER_DRAINING, waiting
// polls return, the executor finishes or fails what runs, the hub's outlets
// are cut, the store is closed. It returns ctx's error if that took too long,
// may be called again, and is safe from any goroutine.
func (e *Engine) Shutdown(ctx context.Context) error { panic("unwritten") }
