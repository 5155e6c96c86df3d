// Jwt is a host whose callers carry a JSON Web Token: its subject owns the
// tasks, its scopes say what it may start, and its expiry ends the streams that
// it opened. It is a module of its own, since only it needs the token library.
//
//	JWT_SECRET=... JWT_ISSUER=https://id.example JWT_AUDIENCE=tasks go run .
package main

import (
	"context"
	"errors"
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
	t, err := trustFromEnv(os.Getenv)
	if err != nil {
		return err
	}
	app, bridge, err := newApp(t)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return bridge.Listen(ctx, app, "127.0.0.1:8080")
}

// trust says which tokens are believed.
type trust struct {
	secret           []byte
	issuer, audience string
}

// trustFromEnv reads trust from the environment. It refuses an empty issuer or
// audience, which would accept tokens of every issuer or service.
func trustFromEnv(getenv func(string) string) (trust, error) {
	t := trust{[]byte(getenv("JWT_SECRET")), getenv("JWT_ISSUER"), getenv("JWT_AUDIENCE")}
	switch {
	case len(t.secret) < 32:
		return trust{}, errors.New("JWT_SECRET must have at least 32 bytes") // RFC 7518, section 3.2
	case t.issuer == "":
		return trust{}, errors.New("JWT_ISSUER must say whose tokens are accepted (their iss)")
	case t.audience == "":
		return trust{}, errors.New("JWT_AUDIENCE must say what this service is called in tokens (their aud)")
	}
	return t, nil
}

func newApp(t trust) (*fiber.App, *fiberbridge.Bridge, error) {
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		return nil, nil, err
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("wait", wait))
	if err != nil {
		return nil, nil, err
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: ownersWithScope("tasks:create")})
	if err != nil {
		return nil, nil, err
	}
	auth := authFromToken(t.secret, t.issuer, t.audience)
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: eng, Auth: auth,
		Uploads: fiberbridge.UploadConfig{Disable: true}, // its tasks take no files
	})
	if err != nil {
		return nil, nil, err
	}
	app := fiber.New(fiber.Config{
		ErrorHandler: bridge.ErrorHandler(nil), ReadTimeout: 10 * time.Second,
		StreamRequestBody: true, DisablePreParseMultipartForm: true, // bodies are read behind authentication
	})
	api := app.Group("/api/v1")
	api.Get("/me", signedIn(auth), me)
	return app, bridge, bridge.Mount(api)
}

type input struct {
	Millis int `json:"millis"`
}

// wait is the host's work.
func wait(ctx context.Context, run *engine.Run, in input) (input, error) {
	if err := run.Progress(ctx, 50, "waiting"); err != nil {
		return input{}, err
	}
	select {
	case <-time.After(time.Duration(in.Millis) * time.Millisecond):
		return in, nil
	case <-ctx.Done():
		return input{}, context.Cause(ctx)
	}
}
