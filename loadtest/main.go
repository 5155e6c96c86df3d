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
	exitLost        = 1 // lost, repeated, out of order, a gap that nobody announced, or an attack that was felt
	exitFailed      = 2 // wrong usage, or the set-up failed
	exitInterrupted = 130
)

// roleEnv makes this program the bare server of a comparison, or an attacker.
const roleEnv = "TASKBRIDGE_LOADTEST_ROLE"

// pinnedEnv says that this program runs on the client's CPUs already.
const pinnedEnv = "TASKBRIDGE_LOADTEST_PINNED"

func main() {
	playRole()
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
	case r.Checks.Violations() > 0, len(r.Failures) > 0:
		return exitLost
	case r.Interrupted:
		return exitInterrupted
	case err != nil:
		return exitFailed
	}
	return exitOK
}

// playRole ends the process if it is started for a part in a run.
func playRole() {
	switch os.Getenv(roleEnv) {
	case "bare":
		os.Exit(serveBare())
	case "attacker":
		os.Exit(playAttack())
	}
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
