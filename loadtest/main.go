//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/bare"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
)

// The exit codes.
const (
	exitOK          = 0
	exitLost        = 1 // lost, repeated, out of order, or a gap that nobody announced
	exitFailed      = 2 // wrong usage, or the set-up failed
	exitInterrupted = 130
)

// roleEnv makes this program the bare server of a comparison.
const roleEnv = "TASKBRIDGE_LOADTEST_ROLE"

// pinnedEnv says that this program runs on the client's CPUs already.
const pinnedEnv = "TASKBRIDGE_LOADTEST_PINNED"

func main() {
	if os.Getenv(roleEnv) == "bare" {
		os.Exit(serveBare())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process. It returns when everything it started has
// ended.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err == nil && len(o.clientCPUs) > 0 && os.Getenv(pinnedEnv) == "" {
		err = proc.PinSelf(o.clientCPUs, pinnedEnv+"=1")
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "loadtest:", err)
		return exitFailed
	}
	r, err := execute(ctx, o, stderr)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "loadtest:", err)
	}
	if r == nil {
		return exitFailed
	}
	if failed := publish(r, o, stdout); failed != nil {
		_, _ = fmt.Fprintln(stderr, "loadtest:", failed)
		return exitFailed
	}
	switch {
	case r.Checks.Violations() > 0:
		return exitLost
	case r.Interrupted:
		return exitInterrupted
	case err != nil:
		return exitFailed
	}
	return exitOK
}

// serveBare is the program as the bare server.
func serveBare() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bare.Serve(ctx, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "loadtest: bare server:", err)
		return exitFailed
	}
	return exitOK
}
