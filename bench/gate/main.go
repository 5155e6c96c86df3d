// Gate compares the benchmarks of two revisions of this repository and fails if
// the later one is slower, allocates more or makes more system calls.
//
//	gate [flags]                  measure the base and the working tree, and judge
//	gate [flags] judge BASE HEAD  judge two files of recorded output
//
// It exits with 0 if nothing got worse, 1 if something did (or does not run),
// 2 if it was called wrongly, 3 if the machine was too noisy to tell, and 130 if
// it was interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// The exit codes.
const (
	exitOK           = 0
	exitWorse        = 1
	exitUsage        = 2
	exitInconclusive = 3
	exitInterrupted  = 130
)

// settings are the command line.
type settings struct {
	repo      string
	base      string
	main      string
	bench     string
	benchtime string
	count     int
	most      int
	keep      string
	tools     string
	rules     rules
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, rest, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	var base, head recording
	switch {
	case len(rest) == 0:
		base, head, err = measure(ctx, s, stderr)
	case len(rest) == 3 && rest[0] == "judge":
		base, err = load(rest[1])
		if err == nil {
			head, err = load(rest[2])
		}
	default:
		complain(stderr, fmt.Errorf("unknown arguments %q", strings.Join(rest, " ")))
		return exitUsage
	}
	if err == nil {
		err = printTable(ctx, stdout, stderr, s, base, head)
	}
	var verdict verdict
	if err == nil {
		verdict, err = judge(s.rules, base, head)
	}
	switch {
	case ctx.Err() != nil:
		complain(stderr, errors.New("interrupted"))
		return exitInterrupted
	case err != nil:
		complain(stderr, err)
		return exitWorse
	}
	verdict.print(stdout)
	return verdict.code()
}

func parse(args []string, stderr io.Writer) (s settings, rest []string, err error) {
	fs := flag.NewFlagSet("gate", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&s.repo, "repo", ".", "the repository; its working tree is what is judged")
	fs.StringVar(&s.base, "base", "", "the revision to compare with (default: where this branch left main; on main with changes HEAD, without any the last tag or the commit before)")
	fs.StringVar(&s.main, "main", "main", "the main branch")
	fs.StringVar(&s.bench, "bench", ".", "which benchmarks, as go test takes it")
	fs.StringVar(&s.benchtime, "benchtime", "200ms", "how long each runs, as go test takes it")
	fs.IntVar(&s.count, "count", 6, "how often each runs, on either side")
	fs.IntVar(&s.most, "most", 0, "how often what is slower or too noisy to judge runs at most, on either side (default three times count)")
	fs.StringVar(&s.keep, "keep", "", "a folder for the raw output: base.txt and head.txt")
	fs.StringVar(&s.tools, "tools", "", "the folder whose go.mod pins benchstat (default: bench/gate in the repository)")
	fs.Float64Var(&s.rules.slower, "slower", 0.10, "by how much time or CPU per operation may grow")
	fs.Float64Var(&s.rules.alpha, "alpha", 0.05, "how likely chance may be, at most, to say that something changed")
	hot := fs.String("hot", `^(Encode|Ring|Flush|SSE|WebSocket|ManyTasks)\b`, "the hot path: no more allocations and system calls at all")
	if err := fs.Parse(args); err != nil {
		return s, nil, err
	}
	if s.count < 4 {
		return s, nil, fmt.Errorf("-count %d: with fewer than 4 runs nothing can be told from chance", s.count)
	}
	if s.most == 0 {
		s.most = 3 * s.count
	}
	s.most = max(s.most, s.count)
	if s.rules.hot, err = regexp.Compile(*hot); err != nil {
		return s, nil, fmt.Errorf("-hot: %w", err)
	}
	if _, err := regexp.Compile(s.bench); err != nil {
		return s, nil, fmt.Errorf("-bench: %w", err)
	}
	if _, err := time.ParseDuration(s.benchtime); err != nil && !regexp.MustCompile(`^[0-9]+x$`).MatchString(s.benchtime) {
		return s, nil, fmt.Errorf("-benchtime %s: want a duration or 100x", s.benchtime)
	}
	return s, fs.Args(), nil
}

func complain(stderr io.Writer, err error) {
	_, _ = fmt.Fprintln(stderr, "gate:", err)
}
