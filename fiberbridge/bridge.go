package fiberbridge

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Bridge puts an engine's services on Fiber routes. Make one with New; it is
// safe for concurrent use.
//
// Mount and MountHealth register everything. Hosts that compose routes by hand
// use the handlers on their own: Create, Snapshot, Poll, Cancel, Action, SSE,
// WebSocket, OpenAPI, Health and Ready. Those of one task find it in the route
// parameter "taskId".
type Bridge struct {
	cfg     Config
	eng     *engine.Engine
	streams *streams
	turns   *turns

	// notReady is set when Shutdown begins.
	notReady atomic.Bool
	// dependencies is what the log knows of those of /ready.
	dependencies dependencies
	// shutdown lets one Shutdown at a time work; it holds one token.
	shutdown chan struct{}
	// drained says that the time of DrainConfig.NotReady is over. It is
	// guarded by the token.
	drained bool

	// openAPI is the document that Routes.OpenAPI serves.
	openAPI []byte
	// textBytes bounds a JSON body, and what a form has beside its files: more
	// than the engine takes is not read.
	textBytes int64
	// noFiles: none are taken, or there is nowhere to keep them.
	noFiles bool
	// tellSettings makes Mount warn of the app's settings once only.
	tellSettings sync.Once
	// owned caches where the bridge's handlers are in an app, for ErrorHandler.
	owned ownedRoutes
}

// New checks cfg and returns a bridge. An error names the field of Config.
//
// It fails in a child process of Fiber's prefork; see [Bridge.Mount].
func New(cfg Config) (*Bridge, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if fiber.IsChild() {
		return nil, errPrefork
	}
	b := &Bridge{cfg: cfg, eng: cfg.Engine, turns: newTurns(), shutdown: make(chan struct{}, 1)}
	b.shutdown <- struct{}{}
	b.textBytes = textBytes(cfg.Engine.Limits())
	b.noFiles = cfg.Uploads.Disable || !cfg.Engine.AcceptsFiles()
	b.openAPI = openAPIDocument(cfg.Routes)
	s, err := newStreams(b)
	if err != nil {
		return nil, fmt.Errorf("fiberbridge: %w", err)
	}
	b.streams = s
	return b, nil
}

// Mount registers the task routes on router, usually a group: the paths of
// Routes are relative to it. It may be called for several routers, before the
// app listens.
//
// It fails if Fiber does not take a route; and, before it registers anything,
// if router is nil, or if its app has Fiber's Prefork on, whose processes cannot
// be drained. Run several processes on one store instead, behind a proxy or on one
// port (SO_REUSEPORT, see Serve). If the error is ignored, New still fails in every
// child.
//
// Mount also makes sure, on all routes of the app that router belongs to, that no
// part of a request's body is taken for another request; see [SettleBodies].
//
// Unless the app streams bodies, Mount also sets DisablePreParseMultipartForm on
// the app's server: Fiber's own parser silently drops parts that it does not
// understand. The form functions of fiber.Ctx work as before.
//
// Mount logs once, at WARN and with what to set, if the app's settings do not go
// with UploadConfig or let a few clients block all others (no ReadTimeout, or a
// Concurrency that waiting polls can use up).
func (b *Bridge) Mount(router fiber.Router) error {
	if err := b.register(router, b.taskRoutes()); err != nil {
		return err
	}
	creates := b.cfg.Routes.Create != routeOff
	if creates {
		leaveFormsToHandlers(appOf(router))
	}
	b.tellSettings.Do(func() {
		b.tellHostSettings(router)
		if creates {
			b.tellUploadLimits(router)
		}
	})
	return nil
}

// MountHealth registers /health and /ready on router, usually the app itself,
// before any authentication. It fails as Mount does.
func (b *Bridge) MountHealth(router fiber.Router) error { return b.register(router, b.healthRoutes()) }

func (b *Bridge) register(router fiber.Router, routes []route) (err error) {
	if isNilRouter(router) {
		return errors.New("fiberbridge: the router is nil")
	}
	if hasPrefork(router) {
		return errPrefork
	}
	// Fiber tells of what it cannot register by a panic: a method that the app
	// does not have, more parameters than it counts, a failing hook.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("fiberbridge: Fiber does not take the routes: %v", r)
		}
	}()
	if app := appOf(router); app != nil {
		settleApp(app)
	}
	for _, r := range routes {
		router.Add(r.method, r.path, r.handler)
		if r.method == fiber.MethodGet {
			router.Add(fiber.MethodHead, r.path, r.handler)
		}
	}
	return nil
}
