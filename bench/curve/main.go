// Curve prints what the flush interval buys: CPU per delivery against latency,
// as a Markdown table for each transport. It builds the demo host and the load
// tool and has them do the work: the host on one core, the subscribers on the
// others, and beside it a bare write(2) loop with one event in flight.
//
//	go run ./bench/curve
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are the command line.
type settings struct {
	subscribers int
	rate        float64
	single      float64
	size        int
	duration    time.Duration
	rounds      int
	flushes     []time.Duration
	transports  []string
	serverCPUs  string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, s, os.Stdout, os.Stderr)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "curve:", err)
		os.Exit(1) //nolint:gocritic // the signals' handler ends with the process
	}
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	var flushes, transports string
	fs := flag.NewFlagSet("curve", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&s.subscribers, "subscribers", 2000, "how `many`, all of one task")
	fs.Float64Var(&s.rate, "rate", 500, "events a second")
	fs.Float64Var(&s.single, "single", 25, "events a second that are few enough for one to be in flight")
	fs.IntVar(&s.size, "size", 200, "`bytes` of text in each event")
	fs.DurationVar(&s.duration, "duration", 5*time.Second, "how long each row takes")
	fs.IntVar(&s.rounds, "rounds", 1, "how often the comparison with the bare loop is repeated; its figures are medians")
	fs.StringVar(&flushes, "flush", "0,1ms,2ms,5ms,10ms,20ms", "the flush `intervals`, which do not grow under load as the default does")
	fs.StringVar(&transports, "transports", "sse,websocket", "which")
	fs.StringVar(&s.serverCPUs, "server-cpus", "0", "where the server runs; the client gets the other `CPUs`; empty: anywhere")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	for f := range strings.SplitSeq(flushes, ",") {
		d, err := time.ParseDuration(f)
		if err != nil {
			return s, fmt.Errorf("-flush: %w", err)
		}
		s.flushes = append(s.flushes, d)
	}
	for t := range strings.SplitSeq(transports, ",") {
		if t != sse && t != webSocket {
			return s, fmt.Errorf("-transports: %q is neither %s nor %s", t, sse, webSocket)
		}
		s.transports = append(s.transports, t)
	}
	return s, nil
}

const (
	sse       = "sse"
	webSocket = "websocket"
)

// run prints one table for each transport.
func run(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	temp, err := os.MkdirTemp("", "curve-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	l := loadtest{dir: temp, stderr: stderr, s: s}
	for _, p := range []string{"examples/quickstart", "loadtest"} {
		_, _ = fmt.Fprintf(stderr, "building %s\n", p)
		out, err := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(temp, filepath.Base(p)), modulePath+p).CombinedOutput()
		if err != nil {
			return fmt.Errorf("go build %s: %w\n%s", p, err, out)
		}
	}
	for _, transport := range s.transports {
		c := curve{s: s, transport: transport}
		_, _ = fmt.Fprintf(stderr, "%s, one in flight, and the bare loop\n", transport)
		if c.single, err = l.run(ctx, transport, "-yardstick", "-rate", number(s.single), "-rounds", strconv.Itoa(s.rounds)); err != nil {
			return err
		}
		for _, flush := range s.flushes {
			_, _ = fmt.Fprintf(stderr, "%s, flush interval %v\n", transport, flush)
			// An interval that does not grow with the load.
			args := []string{"-rate", number(s.rate), "-flush", flush.String(), "-host-args", "-max-flush " + flush.String()}
			r, err := l.run(ctx, transport, args...)
			if err != nil {
				return err
			}
			c.rows = append(c.rows, r)
		}
		_, _ = fmt.Fprintf(stderr, "%s, the library's default\n", transport)
		if c.adaptive, err = l.run(ctx, transport, "-rate", number(s.rate)); err != nil {
			return err
		}
		text, err := c.markdown()
		if err != nil {
			return err
		}
		if _, err := io.WriteString(stdout, text); err != nil {
			return err
		}
	}
	return nil
}

const modulePath = "github.com/taskbridge/taskbridge-fiber/"

// loadtest runs the load tool.
type loadtest struct {
	dir    string
	stderr io.Writer
	s      settings
}

func (l loadtest) run(ctx context.Context, transport string, more ...string) (result, error) {
	ws := "0"
	if transport == webSocket {
		ws = "1"
	}
	file := filepath.Join(l.dir, "result.json")
	args := append([]string{
		"-scenario", "fan-out", "-host", filepath.Join(l.dir, "quickstart"), "-json", file, "-ws", ws,
		"-subscribers", strconv.Itoa(l.s.subscribers), "-size", strconv.Itoa(l.s.size),
		"-duration", l.s.duration.String(), "-server-cpus", l.s.serverCPUs,
	}, more...)
	var r result
	cmd := exec.CommandContext(ctx, filepath.Join(l.dir, "loadtest"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("loadtest %s: %w\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
