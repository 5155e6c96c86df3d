// Command host serves the bridge and careless routes of its own, for tests through
// proxies. A proxy marks each request that passes it with X-Via. A request without that
// mark was executed out of a body, and GET /smuggled lists it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
	"github.com/taskbridge/taskbridge-fiber/internal/smuggling/careless"
)

func main() {
	stream := flag.Bool("stream", true, "fiber.Config's StreamRequestBody")
	parse := flag.Bool("parse", false, "fiber.Config's DisablePreParseMultipartForm, turned round")
	flag.Parse()
	if err := run(fiber.Config{
		StreamRequestBody: *stream, DisablePreParseMultipartForm: !*parse, DisableStartupMessage: true,
	}); err != nil {
		slog.Error("the host ends", "error", err)
		os.Exit(1)
	}
}

func run(cfg fiber.Config) error {
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		return err
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("nothing",
		func(context.Context, *engine.Run, struct{}) (any, error) { return "done", nil }))
	if err != nil {
		return err
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		return err
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: eng,
		Auth: func(c *fiber.Ctx) (engine.AuthContext, error) {
			return engine.AuthContext{Subject: strings.Clone(c.Get("X-User"))}, nil
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	cfg.ErrorHandler = bridge.ErrorHandler(nil)
	app := fiber.New(cfg)
	var smuggled requests
	app.Use(smuggled.note)
	app.Get("/smuggled", func(c *fiber.Ctx) error { return c.JSON(smuggled.all()) })
	careless.Mount(app)
	if err := errors.Join(bridge.MountHealth(app), bridge.Mount(app.Group("/api/v1"))); err != nil {
		return err
	}

	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(os.Stdout, "listening on http://%s\n", listener.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	drained := make(chan error, 1)
	go func() {
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		drained <- errors.Join(bridge.Shutdown(limit), app.ShutdownWithContext(limit))
	}()
	if err := app.Listener(listener); err != nil {
		return err
	}
	return <-drained
}

// requests lists the requests that no proxy has seen.
type requests struct {
	mu    sync.Mutex
	lines []string
}

func (r *requests) note(c *fiber.Ctx) error {
	if c.Get("X-Via") == "" && c.Path() != "/smuggled" {
		line := c.Method() + " " + c.OriginalURL()
		r.mu.Lock()
		r.lines = append(r.lines, line) // made by concatenation, so a copy
		r.mu.Unlock()
	}
	return c.Next()
}

func (r *requests) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.lines...)
}
