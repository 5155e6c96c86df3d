package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// measure runs the benchmarks of the base and of the working tree in turns: one
// after the other for each benchmark, so that both meet the same machine.
func measure(ctx context.Context, s settings, stderr io.Writer) (base, head recording, err error) {
	rev, err := baseOf(ctx, s)
	if err != nil {
		return base, head, err
	}
	_, _ = fmt.Fprintf(stderr, "base: %s\n", rev.describe(ctx, s.repo))
	b, err := build(ctx, s, rev, stderr)
	if err != nil {
		return base, head, err
	}
	defer b.remove()

	names, err := b.head.list(ctx, s.bench)
	if err != nil {
		return base, head, err
	}
	for round := range s.most {
		if round >= s.count { // once more, with what is still open
			v, err := judge(s.rules, base, head)
			if err != nil {
				return base, head, err
			}
			if names = patterns(v.unsure(round < 2*s.count)); len(names) == 0 {
				break
			}
		}
		start := time.Now()
		if err := b.round(ctx, s, names, round, &base, &head, stderr); err != nil {
			return base, head, err
		}
		_, _ = fmt.Fprintf(stderr, "round %d of %d, of %d benchmarks, took %v\n",
			round+1, max(s.count, round+1), len(names), time.Since(start).Round(time.Second))
	}
	if s.keep == "" {
		return base, head, nil
	}
	if err := os.MkdirAll(s.keep, 0o755); err != nil {
		return base, head, err
	}
	return base, head, errors.Join(base.save(filepath.Join(s.keep, "base.txt")), head.save(filepath.Join(s.keep, "head.txt")))
}

// round runs benchmarks once on either side, one after the other.
func (b builds) round(ctx context.Context, s settings, names []string, round int, base, head *recording, stderr io.Writer) error {
	for _, name := range names {
		sides := []struct {
			program
			to *recording
		}{{b.base, base}, {b.head, head}}
		if round%2 == 1 { // whoever comes first pays for a cold machine
			sides[0], sides[1] = sides[1], sides[0]
		}
		for _, side := range sides {
			out, err := side.run(ctx, name, s.benchtime)
			side.to.text.Write(out)
			if err == nil {
				continue
			}
			if ctx.Err() != nil || side.name == "head" {
				return err
			}
			_, _ = fmt.Fprintf(stderr, "the base's own fault, its figures are missing: %v\n", err)
		}
	}
	return nil
}

// procsSuffix is what go test appends to a name: GOMAXPROCS.
var procsSuffix = regexp.MustCompile(`-\d+$`)

// patterns are those of benchmarks as they are called in the output.
func patterns(names []string) []string {
	var out []string
	for _, name := range names {
		parts := strings.Split(procsSuffix.ReplaceAllString(name, ""), "/")
		for i, part := range parts {
			if i == 0 {
				part = "Benchmark" + part
			}
			parts[i] = "^" + regexp.QuoteMeta(part) + "$"
		}
		out = append(out, strings.Join(parts, "/"))
	}
	return out
}

// list returns patterns, one for each benchmark that matches.
func (p program) list(ctx context.Context, bench string) ([]string, error) {
	if strings.Contains(bench, "/") {
		return []string{bench}, nil // only go test knows how to read that
	}
	want, err := regexp.Compile(bench)
	if err != nil {
		return nil, err
	}
	out, err := p.output(ctx, "-test.list", "^Benchmark")
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.Lines(string(out)) {
		if name = strings.TrimSpace(name); strings.HasPrefix(name, "Benchmark") && want.MatchString(name) {
			names = append(names, "^"+name+"$")
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no benchmark matches %s", bench)
	}
	return names, nil
}

// runTime bounds one benchmark's run, so that one that hangs says so.
const runTime = 5 * time.Minute

func (p program) run(ctx context.Context, pattern, benchtime string) ([]byte, error) {
	if p.path == "" {
		return nil, nil
	}
	out, err := p.output(ctx, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", benchtime,
		"-test.timeout", runTime.String())
	if err != nil {
		return out, fmt.Errorf("%s: %s: %w", p.name, pattern, err)
	}
	return out, nil
}

func (p program) output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Dir = p.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s%s", err, lastLines(out), lastLines(errs.Bytes()))
	}
	return out, err
}

func lastLines(out []byte) string {
	lines := strings.SplitAfter(string(out), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "")
}
