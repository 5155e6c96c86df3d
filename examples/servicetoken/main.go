// Servicetoken is a host that other services call, each with a token of its own
// that is known by its digest. A service owns what it creates; one with the scope
// "tasks:support" may look at everything and cancel it.
//
//	SERVICE_TOKENS="billing:$(printf %s "$TOKEN" | sha256sum | cut -c-64):tasks:create" go run ./examples/servicetoken
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
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
	services, err := parseServices(os.Getenv("SERVICE_TOKENS"))
	if err != nil {
		return err
	}
	app, bridge, err := newApp(services)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return bridge.Listen(ctx, app, "127.0.0.1:8080")
}

func newApp(known services) (*fiber.App, *fiberbridge.Bridge, error) {
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		return nil, nil, err
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("count", count))
	if err != nil {
		return nil, nil, err
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: policy()})
	if err != nil {
		return nil, nil, err
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: eng, Auth: known.authenticate,
		Uploads: fiberbridge.UploadConfig{Disable: true}, // its tasks take no files
	})
	if err != nil {
		return nil, nil, err
	}
	app := fiber.New(fiber.Config{
		ErrorHandler: bridge.ErrorHandler(nil), ReadTimeout: 10 * time.Second,
		StreamRequestBody: true, DisablePreParseMultipartForm: true, // bodies are read behind authentication
	})
	return app, bridge, bridge.Mount(app.Group("/api/v1"))
}

// policy: owners, if they may create at all; and support.
func policy() engine.OwnershipPolicy {
	const support = "tasks:support"
	mayCreate := engine.ScopeBased(map[engine.Access]string{engine.AccessCreate: "tasks:create"})
	owners := engine.OwnerOnly()
	return engine.AnyOf(
		engine.OwnershipFunc(func(ctx context.Context, auth engine.AuthContext, access engine.Access, task engine.Task) error {
			if access == engine.AccessCreate {
				return mayCreate.Allow(ctx, auth, access, task)
			}
			return owners.Allow(ctx, auth, access, task)
		}),
		engine.ScopeBased(map[engine.Access]string{
			engine.AccessRead: support, engine.AccessSubscribe: support, engine.AccessCancel: support,
		}),
	)
}

type input struct{}

type result struct {
	Counted int `json:"counted"`
}

// count is the host's work.
func count(ctx context.Context, run *engine.Run, _ input) (result, error) {
	return result{Counted: 3}, run.Progress(ctx, 50, "counting")
}
