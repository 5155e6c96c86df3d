// Minimal is the least code that mounts the bridge well: one kind of task, the
// embedded store, and callers who are believed. See examples/jwt for callers
// who are not, and examples/quickstart for a host with everything.
//
//	go run ./examples/minimal
//
// In a second terminal, create a task and follow it to its end:
//
//	ID=$(curl -s -H 'X-User: ada' -H 'Content-Type: application/json' localhost:8080/api/v1/tasks \
//	  -d '{"clientRequestId": "'$(date +%s%N)'", "taskType": "count"}' | sed 's/.*"taskId":"\([^"]*\)".*/\1/')
//	curl -N -H 'X-User: ada' localhost:8080/api/v1/tasks/$ID/events/stream
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	app, bridge, err := newApp()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return bridge.Listen(ctx, app, "127.0.0.1:8080")
}

func newApp() (*fiber.App, *fiberbridge.Bridge, error) {
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		return nil, nil, err
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("count", count))
	if err != nil {
		return nil, nil, err
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		return nil, nil, err
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{Engine: eng, Auth: whoever})
	if err != nil {
		return nil, nil, err
	}
	app := fiber.New(fiber.Config{
		ErrorHandler: bridge.ErrorHandler(nil),
		// Both: uploads pass through without being held in memory.
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
	})
	// Nobody holds a connection by sending a byte now and then. In fiber.Config
	// it would bound uploads, too; so the bridge looks after those.
	app.Server().ReadTimeout = 10 * time.Second
	return app, bridge, errors.Join(bridge.MountHealth(app), bridge.Mount(app.Group("/api/v1")))
}

type input struct{}

type result struct {
	Counted int `json:"counted"`
}

// count is the host's work.
func count(ctx context.Context, run *engine.Run, _ input) (result, error) {
	for n := range 3 {
		if err := run.Progress(ctx, float64(n)*100/3, "counting"); err != nil {
			return result{}, err
		}
	}
	return result{Counted: 3}, nil
}

// whoever believes the caller. Fiber reuses the memory of its strings, so what
// is kept is copied.
func whoever(c *fiber.Ctx) (engine.AuthContext, error) {
	return engine.AuthContext{Subject: strings.Clone(c.Get("X-User"))}, nil
}
