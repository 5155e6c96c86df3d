package fiberbridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Listen serves app on addr until ctx ends, then drains as Serve does. It is
// app.Listen with an orderly end:
//
//	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
//	context.AfterFunc(ctx, stop) // a second signal ends the process at once
//	err := bridge.Listen(ctx, app, ":8080")
//
// If addr cannot be listened on it returns an error at once and drains nothing.
func (b *Bridge) Listen(ctx context.Context, app *fiber.App, addr string) error {
	if app == nil {
		return errNoApp
	}
	ln, err := new(net.ListenConfig).Listen(ctx, app.Config().Network, addr)
	if err != nil {
		return fmt.Errorf("fiberbridge: %w", err)
	}
	return b.Serve(ctx, app, ln)
}

// Serve serves app on ln until ctx ends. Then it shuts down this bridge with
// everything behind it (see Shutdown) and after it the app, within
// DrainConfig.Timeout, and closes ln. It returns nil after a complete drain, an
// error that wraps context.DeadlineExceeded after one that was cut short, and
// the listener's error if serving ended by itself; the drain has taken place
// then, too.
//
// Config.Connections bounds the accepted connections (see Listener). For TLS give
// it tls.NewListener(bridge.Listener(ln), cfg).
//
// Serve uses public methods only: a host with several bridges, or with work of its
// own between the steps, calls app.Listener, Bridge.Shutdown and
// app.ShutdownWithContext itself.
func (b *Bridge) Serve(ctx context.Context, app *fiber.App, ln net.Listener) error {
	if app == nil {
		return errNoApp
	}
	if app.Config().Prefork {
		_ = ln.Close() // never used
		return errPrefork
	}
	ln = b.listener(ln, b.mostConnections(app))
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-served:
		served <- nil // it is not waited for again
		if failed == nil {
			failed = errors.New("the app was shut down by somebody else")
		}
		failed = fmt.Errorf("fiberbridge: serving ended: %w", failed)
	}
	return errors.Join(failed, b.drainApp(ctx, app, ln, served))
}

// mostConnections returns the smaller of Config.Connections.Max and what app's
// server can serve.
func (b *Bridge) mostConnections(app *fiber.App) int {
	most := b.cfg.Connections.Max
	if concurrency := app.Server().Concurrency; concurrency > 0 {
		if room := concurrencyRoom(concurrency); most == 0 || room < most {
			most = room
		}
	}
	return most
}

// drainApp drains the bridge, then app.
func (b *Bridge) drainApp(ctx context.Context, app *fiber.App, ln net.Listener, served <-chan error) error {
	within := b.cfg.Drain.Timeout
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	// A little is left for the server, even if a task took all the time.
	most, cancelBridge := context.WithTimeout(ctx, within-min(within/10, 500*time.Millisecond))
	defer cancelBridge()
	// Streams first: Fiber's own shutdown does not know them.
	err := errors.Join(b.Shutdown(most), app.ShutdownWithContext(ctx))
	// Fiber does not close a listener that it has not begun to serve.
	_ = ln.Close()
	select {
	case end := <-served:
		err = errors.Join(err, end)
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("fiberbridge: drain: %w", err)
	}
	return nil
}

var errNoApp = errors.New("fiberbridge: the app is nil")
