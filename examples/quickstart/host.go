package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	recoverer "github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/gofiber/fiber/v2/middleware/requestid"
	"github.com/gofiber/fiber/v2/utils"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// workers is how many tasks run at once. Nearly all of them only wait here, for
// a timer or a person, and a waiting one costs a goroutine.
const workers = 10_000

// perSubject is no bound: callers here name whatever subject they like, so that
// limits by subject would be in the way and keep nobody out.
const perSubject = 1 << 30

// lease is how long a host on Redis may be silent before another one ends its
// tasks; the library's default, which is too long for a test.
var lease engine.LeaseConfig

// host is the Fiber app with the bridge in it.
type host struct {
	app    *fiber.App
	bridge *fiberbridge.Bridge
}

// newHost wires the app. Nothing listens yet.
func newHost(ctx context.Context, s settings, logger *slog.Logger) (*host, error) {
	store, err := newStore(ctx, s, logger)
	if err != nil {
		return nil, err
	}
	exec, err := localexec.New(localexec.Config{Workers: workers, Logger: logger}, handlers()...)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	eng, err := engine.New(engine.Config{
		Store:     store,
		Executor:  exec,
		Ownership: engine.OwnerOnly(),
		Delivery:  fanout.Config{FlushInterval: s.flush, MaxFlushInterval: s.maxFlush},
		Lease:     lease,
		Creates:   engine.CreateRate{PerSecond: -1},
		Logger:    logger,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: eng,
		Auth:   authenticate,
		SSE:    fiberbridge.SSEConfig{Heartbeat: s.heartbeat},
		WebSocket: fiberbridge.WebSocketConfig{
			Heartbeat:        s.heartbeat,
			PongTimeout:      s.pongTimeout,
			SubscribeTimeout: s.subscribeTimeout,
		},
		Streams: fiberbridge.StreamsConfig{
			Max: s.maxStreams, WriteTimeout: s.writeTimeout,
			MaxPerSubject: perSubject, MaxPollsPerSubject: perSubject,
		},
		Drain:  fiberbridge.DrainConfig{Timeout: s.drain},
		Logger: logger,
	})
	if err != nil {
		return nil, err
	}

	app := fiber.New(fiber.Config{
		AppName:               "TaskBridge demo",
		BodyLimit:             bodyLimit,
		DisableStartupMessage: true,
		// Uploads pass through without being held, and the bridge reads forms
		// itself and keeps the order of all files.
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		ErrorHandler:                 withRequestID(bridge.ErrorHandler(nil)),
	})
	limitWaits(app.Server())
	app.Use(recoverer.New())
	app.Use(requestid.New())
	app.Use(cors.New(cors.Config{
		// Any origin, since no cookie is involved: a caller names its subject
		// in each request.
		AllowOrigins:  "*",
		ExposeHeaders: "X-Request-Id, Location, Retry-After",
		MaxAge:        600,
	}), refuseOversized)
	err = errors.Join(mountPage(app), bridge.MountHealth(app), bridge.Mount(app.Group("/api/v1")))
	if err != nil {
		return nil, err
	}
	return &host{app: app, bridge: bridge}, nil
}

// withRequestID gives what fasthttp refuses below all middleware (a header that
// is too large, a body that broke off) an id as well.
func withRequestID(handle fiber.ErrorHandler) fiber.ErrorHandler {
	return func(c *fiber.Ctx, err error) error {
		if c.GetRespHeader(fiber.HeaderXRequestID) == "" {
			c.Set(fiber.HeaderXRequestID, utils.UUIDv4())
		}
		return handle(c, err)
	}
}

// store is what a host keeps its tasks in, and has to close if the engine
// does not come to be.
type store interface {
	engine.Store
	io.Closer
}

func newStore(ctx context.Context, s settings, logger *slog.Logger) (store, error) {
	if s.redis != "" {
		return newRedisStore(ctx, s, logger)
	}
	logger.Info("tasks are kept in memory and end with this process; -redis (REDIS_URL) keeps them in Redis")
	return newMemoryStore(s, logger)
}

// newMemoryStore makes the embedded store, which also keeps the attachments of tasks on
// Redis.
func newMemoryStore(s settings, logger *slog.Logger) (*memstore.Store, error) {
	cfg := memstore.Config{
		MaxStreamLength: s.maxStreamLength,
		StreamTTL:       s.streamTTL,
		Logger:          logger,
	}
	if s.uploadDir != "" {
		dir, err := memstore.NewDir(s.uploadDir)
		if err != nil {
			return nil, fmt.Errorf("-upload-dir: %w", err)
		}
		cfg.Attachments = dir
	}
	return memstore.New(cfg)
}
