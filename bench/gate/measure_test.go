package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repo is a small repository with a library and its benchmarks.
type repo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T) repo {
	t.Helper()
	r := repo{t, t.TempDir()}
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
	r.git("init", "--quiet", "--initial-branch=main")
	r.git("config", "user.name", "tester")
	r.git("config", "user.email", "tester@example.com")
	r.write("go.mod", "module example.com/lib\n\ngo 1.25\n")
	r.write("lib.go", "package lib\n\nvar Sink *int\n\nfunc Work() {}\n")
	r.write("bench/ring_test.go", `package bench

import (
	"testing"

	lib "example.com/lib"
)

func BenchmarkRing(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		lib.Work()
	}
}
`)
	r.commit("first")
	return r
}

func (r repo) git(args ...string) string {
	r.t.Helper()
	out, err := git(context.Background(), r.dir, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r repo) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r repo) commit(message string) string {
	r.t.Helper()
	r.git("add", "-A")
	r.git("commit", "--quiet", "-m", message)
	return r.git("rev-parse", "HEAD")
}

func TestBaseRevision(t *testing.T) {
	r := newRepo(t)
	first := r.git("rev-parse", "HEAD")
	check := func(what, base, want, why string) {
		t.Helper()
		got, err := baseOf(t.Context(), settings{repo: r.dir, main: "main", base: base})
		if err != nil || got.commit != want || got.why != why {
			t.Errorf("%s: %+v, %v; want %s, %s", what, got, err, want, why)
		}
	}
	if got, err := baseOf(t.Context(), settings{repo: r.dir, main: "main"}); err == nil {
		t.Errorf("the first commit of all is compared with %+v", got)
	}
	r.write("new.txt", "new")
	check("changes, not committed", "", first, "the last commit: the working tree has changes")
	second := r.commit("second")
	check("main, without a tag", "", first, "the commit before")
	r.git("tag", "v1.0.0", first)
	r.write("more.txt", "more")
	third := r.commit("third")
	check("main, with a tag", "", first, "the last tag")
	r.git("checkout", "--quiet", "-b", "topic")
	check("a branch with nothing on it", "", first, "the last tag")
	r.write("topic.txt", "topic")
	check("a branch with changes only", "", third, "the last commit: the working tree has changes")
	r.commit("topic")
	check("a branch", "", third, "where this left main")
	r.git("checkout", "--quiet", "--detach")
	check("no branch", "", third, "where this left main")
	check("as asked for", "HEAD~2", second, "as asked for")
	if _, err := baseOf(t.Context(), settings{repo: r.dir, base: "nowhere"}); err == nil {
		t.Error("there is no revision nowhere")
	}
}

// gate runs the program on a repository.
func (r repo) gate(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	r.t.Helper()
	r.t.Setenv("TMPDIR", r.t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		r.t.Fatal(err)
	}
	var out, errs strings.Builder
	code = run(ctx, append([]string{"-repo", r.dir, "-tools", here, "-count", "4", "-benchtime", "200x", "-slower", "100"}, args...), &out, &errs)
	r.clean()
	return code, out.String(), errs.String()
}

// clean fails if anything was left behind.
func (r repo) clean() {
	r.t.Helper()
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "benchgate-*"))
	if err != nil || len(left) > 0 {
		r.t.Errorf("left behind: %v, %v", left, err)
	}
	if trees := r.git("worktree", "list"); strings.Count(trees, "\n") > 0 {
		r.t.Errorf("work trees are left: %s", trees)
	}
}

func TestGate(t *testing.T) {
	r := newRepo(t)
	code, out, errs := r.gate(t.Context(), "-base", "HEAD")
	if code != exitOK || strings.Contains(out, "WORSE") {
		t.Errorf("no change: exit status %d: %s%s", code, out, errs)
	}
	if !strings.Contains(errs, " first (as asked for)\n") || !strings.Contains(out, "vs base") {
		t.Errorf("neither the base nor a table: %s%s", out, errs)
	}

	r.write("lib.go", "package lib\n\nvar Sink *int\n\nfunc Work() { Sink = new(int) }\n")
	if code, out, errs = r.gate(t.Context()); code != exitWorse || !strings.Contains(out, "allocs/op: 1, was 0") {
		t.Errorf("one more allocation: exit status %d: %s%s", code, out, errs)
	}

	// Benchmarks that the base's library does not fit: its own are compared.
	r.write("lib.go", "package lib\n\nvar Sink *int\n\nfunc Work() {}\n\nfunc More() {}\n")
	r.write("bench/more_test.go", "package bench\n\nimport (\n\t\"testing\"\n\n\tlib \"example.com/lib\"\n)\n\n"+
		"func BenchmarkMore(b *testing.B) {\n\tfor b.Loop() {\n\t\tlib.More()\n\t}\n}\n")
	code, out, errs = r.gate(t.Context())
	if code != exitOK || !strings.Contains(out, "new: More") || !strings.Contains(errs, "does not build with these benchmarks") {
		t.Errorf("a new benchmark: exit status %d: %s%s", code, out, errs)
	}

	r.write("lib.go", "package lib\n\nfunc Work() {\n")
	if code, out, errs = r.gate(t.Context()); code != exitWorse || !strings.Contains(errs, "the working tree does not build") {
		t.Errorf("broken code: exit status %d: %s%s", code, out, errs)
	}
}

func TestBaseWithoutBenchmarks(t *testing.T) {
	r := newRepo(t)
	benchmarks := filepath.Join(r.dir, benchPackage)
	away := filepath.Join(t.TempDir(), benchPackage)
	if err := os.Rename(benchmarks, away); err != nil {
		t.Fatal(err)
	}
	none := r.commit("no benchmarks")
	r.write("lib.go", "package lib\n")
	nothing := r.commit("nothing to measure")
	r.write("lib.go", "package lib\n\nfunc Work() {}\n")
	if err := os.Rename(away, benchmarks); err != nil {
		t.Fatal(err)
	}
	code, out, errs := r.gate(t.Context(), "-base", none)
	if code != exitOK || strings.Contains(out, "new:") {
		t.Errorf("a base that these benchmarks fit: exit status %d: %s%s", code, out, errs)
	}
	code, out, errs = r.gate(t.Context(), "-base", nothing)
	if code != exitOK || !strings.Contains(out, "new: Ring") || !strings.Contains(out, "nothing to compare") {
		t.Errorf("a base that they do not fit: exit status %d: %s%s", code, out, errs)
	}
}

// stopper ends the context when it reads a text.
type stopper struct {
	strings.Builder
	at   string
	stop context.CancelFunc
}

func (s *stopper) Write(p []byte) (int, error) {
	if strings.Contains(string(p), s.at) {
		s.stop()
	}
	return s.Builder.Write(p)
}

func TestInterrupted(t *testing.T) {
	r := newRepo(t)
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	errs := &stopper{at: "round 1 of", stop: cancel}
	var out strings.Builder
	if code := run(ctx, []string{"-repo", r.dir, "-count", "4", "-benchtime", "10x", "-base", "HEAD"}, &out, errs); code != exitInterrupted {
		t.Errorf("exit status %d, want %d: %s", code, exitInterrupted, errs.String())
	}
	r.clean()
}

// TestSignal: Ctrl-C reaches the program, and it cleans up.
func TestSignal(t *testing.T) {
	r := newRepo(t)
	t.Setenv("TMPDIR", t.TempDir())
	program := filepath.Join(t.TempDir(), "gate")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, "-repo", r.dir, "-count", "1000", "-benchtime", "10x", "-base", "HEAD")
	cmd.Stderr = &stopper{at: "round 1 of", stop: func() { _ = cmd.Process.Signal(os.Interrupt) }}
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("%v, want exit status %d", err, exitInterrupted)
	}
	r.clean()
}
