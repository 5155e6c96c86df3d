package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// program is a test binary with the benchmarks of one revision.
type program struct {
	name string // base or head
	path string
	dir  string // where it runs: its package
}

const benchPackage = "bench"

// builds are both programs; remove takes away all that was made for them.
type builds struct {
	base, head program
	remove     func()
}

// build makes both programs before anything is measured. The base is built with
// the working tree's benchmarks, so that both sides measure the same; only if
// its library does not fit them with its own.
func build(ctx context.Context, s settings, rev revision, stderr io.Writer) (b builds, err error) {
	root, err := git(ctx, s.repo, "rev-parse", "--show-toplevel")
	if err != nil {
		return b, err
	}
	temp, err := os.MkdirTemp("", "benchgate-")
	if err != nil {
		return b, err
	}
	tree := filepath.Join(temp, "base")
	b.remove = func() {
		// It has to work after the context has ended.
		_, _ = git(context.WithoutCancel(ctx), root, "worktree", "remove", "--force", tree)
		_ = os.RemoveAll(temp)
		_, _ = git(context.WithoutCancel(ctx), root, "worktree", "prune")
	}
	defer func() {
		if err != nil {
			b.remove()
		}
	}()
	if _, err := git(ctx, root, "worktree", "add", "--quiet", "--detach", tree, rev.commit); err != nil {
		return b, err
	}
	b.head = program{"head", filepath.Join(temp, "head.test"), filepath.Join(root, benchPackage)}
	if err := compile(ctx, root, b.head.path); err != nil {
		return b, fmt.Errorf("the working tree does not build: %w", err)
	}
	b.base = program{"base", filepath.Join(temp, "base.test"), filepath.Join(tree, benchPackage)}
	if err := transplant(b.head.dir, b.base.dir); err != nil {
		return b, err
	}
	misfit := compile(ctx, tree, b.base.path)
	if misfit == nil {
		return b, nil
	}
	_, _ = fmt.Fprintf(stderr, "the base does not build with these benchmarks; its own are compared by name:\n%v\n", misfit)
	if err := os.RemoveAll(b.base.dir); err != nil {
		return b, err
	}
	if _, err := git(ctx, tree, "checkout", "--quiet", "--", benchPackage); err == nil {
		err = compile(ctx, tree, b.base.path)
		if err == nil {
			return b, nil
		}
		_, _ = fmt.Fprintf(stderr, "nor do its own build:\n%v\n", err)
	}
	b.base.path = "" // nothing to compare with: all is new
	return b, nil
}

// transplant makes the base's benchmarks those of the working tree.
func transplant(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.IsDir() || !strings.HasSuffix(f.Name(), ".go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, f.Name()), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func compile(ctx context.Context, dir, to string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", to, "./"+benchPackage)
	cmd.Dir = dir
	// A workspace would build the base with the library of the working tree.
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go test -c: %w\n%s", err, bytes.TrimSpace(out))
	}
	if _, err := os.Stat(to); err != nil {
		return fmt.Errorf("no tests in ./%s", benchPackage)
	}
	return nil
}
