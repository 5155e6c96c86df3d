// Quickstart is the demo host: a small Fiber app that owns its own lifecycle
// and authentication and mounts the TaskBridge routes, with a page to try them
// on.
//
//	go run ./examples/quickstart -addr 127.0.0.1:8080
//
// What belongs to a host is here: flags.go reads the settings, auth.go tells
// who a request comes from, tasks.go is the work, host.go wires it together.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr, signals))
}

// left is given each host when run has done with it. What a drain was too short
// for, a process leaves to its exit; a test, after which others come, cannot.
var left = func(*host) {}

// run is main without the process: it serves until the first signal, drains,
// and returns the exit code. A second signal makes it return at once.
func run(args []string, getenv func(string) string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	s, err := parseSettings(args, getenv, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))

	h, stop, err := start(s, logger, signals)
	switch {
	case stop != nil && h != nil:
		_ = h.shutdown(s.drain)
		left(h)
		return exitOK
	case stop != nil:
		return exitOK
	case err != nil:
		complain(stderr, err)
		return exitFailed
	}
	defer left(h)
	profiles, stopPprof, err := servePprof(s.pprof)
	if err != nil {
		complain(stderr, err)
		_ = h.shutdown(s.drain)
		return exitFailed
	}
	defer stopPprof()
	if profiles != "" {
		_, _ = fmt.Fprintf(stdout, "profiles on %s\n", profiles)
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.addr)
	if err != nil {
		complain(stderr, err)
		_ = h.shutdown(s.drain)
		return exitFailed
	}
	// The kernel accepts from here on.
	_, _ = fmt.Fprintf(stdout, "listening on http://%s\n", listener.Addr())

	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	ended := make(chan error, 1)
	go func() { ended <- h.bridge.Serve(ctx, h.app, listener) }()

	select {
	case err := <-ended:
		// By itself serving ends only if the listener fails.
		logger.Error("serving ended", "error", err)
		return exitFailed
	case sig := <-signals:
		logger.Info("draining", "signal", sig.String(), "at_most", s.drain)
		drain()
	}
	select {
	case err := <-ended:
		if err != nil {
			logger.Warn("the drain was cut short", "error", err)
		}
		return exitOK
	case sig := <-signals:
		logger.Warn("exiting at once", "signal", sig.String())
		return exitFailed
	}
}

// start makes the host. A signal, which is returned, cancels the wait for Redis. After a
// second signal start returns at once.
func start(s settings, logger *slog.Logger, signals <-chan os.Signal) (*host, os.Signal, error) {
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	type result struct {
		host *host
		err  error
	}
	made := make(chan result, 1)
	go func() { // waited for, unless the process ends at once
		h, err := newHost(ctx, s, logger)
		made <- result{h, err}
	}()
	var stop os.Signal
	select {
	case r := <-made:
		return r.host, nil, r.err
	case stop = <-signals:
	}
	logger.Info("the start is cancelled", "signal", stop.String())
	giveUp()
	select {
	case r := <-made:
		return r.host, stop, r.err
	case <-signals:
		return nil, stop, nil
	}
}

func complain(stderr io.Writer, err error) {
	_, _ = fmt.Fprintln(stderr, "quickstart:", err)
}

// shutdown ends a host that has not begun to serve, within the time given.
func (h *host) shutdown(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return h.bridge.Shutdown(ctx)
}
