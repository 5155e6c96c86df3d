// Session is a host whose callers signed in with a cookie: the session's user
// owns the tasks, its end closes the streams, and signing out closes them at
// once, on every node.
//
//	SESSION_USERS=ada:secret go run ./examples/session
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
	users := map[string]string{}
	for pair := range strings.SplitSeq(os.Getenv("SESSION_USERS"), ",") {
		name, password, ok := strings.Cut(pair, ":")
		if !ok || name == "" || password == "" {
			return errors.New("SESSION_USERS must be pairs name:password, separated by commas")
		}
		users[name] = password
	}
	app, bridge, err := newApp(users)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return bridge.Listen(ctx, app, "127.0.0.1:8080")
}

func newApp(users map[string]string) (*fiber.App, *fiberbridge.Bridge, error) {
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		return nil, nil, err
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("wait", wait))
	if err != nil {
		return nil, nil, err
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		return nil, nil, err
	}
	s := newSessions(users, eng)
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: eng, Auth: s.authenticate,
		Uploads: fiberbridge.UploadConfig{Disable: true}, // its tasks take no files
	})
	if err != nil {
		return nil, nil, err
	}
	app := fiber.New(fiber.Config{
		ErrorHandler: bridge.ErrorHandler(nil), ReadTimeout: 10 * time.Second,
		StreamRequestBody: true, DisablePreParseMultipartForm: true, // bodies are read behind authentication
	})
	app.Post("/login", s.login)
	app.Post("/logout", s.logout)
	return app, bridge, bridge.Mount(app.Group("/api/v1"))
}

type input struct {
	Millis int `json:"millis"`
}

// wait is the host's work.
func wait(ctx context.Context, run *engine.Run, in input) (input, error) {
	select {
	case <-time.After(time.Duration(in.Millis) * time.Millisecond):
		return in, nil
	case <-ctx.Done():
		return input{}, context.Cause(ctx)
	}
}
