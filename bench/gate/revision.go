package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// revision is a commit to compare with, and why it is that one.
type revision struct{ commit, why string }

// baseOf finds the revision to compare with.
func baseOf(ctx context.Context, s settings) (revision, error) {
	git := func(args ...string) (string, error) { return git(ctx, s.repo, args...) }
	commit := func(rev, why string) (revision, error) {
		c, err := git("rev-parse", "--verify", "--quiet", rev+"^{commit}")
		if err != nil {
			return revision{}, fmt.Errorf("there is no revision %s: %w", rev, err)
		}
		return revision{c, why}, nil
	}
	if s.base != "" {
		return commit(s.base, "as asked for")
	}
	head, err := commit("HEAD", "the last commit: the working tree has changes")
	if err != nil {
		return revision{}, err
	}
	if branch, err := git("symbolic-ref", "--quiet", "--short", "HEAD"); err != nil || branch != s.main {
		for _, main := range []string{s.main, "origin/" + s.main} {
			left, err := git("merge-base", "HEAD", main)
			if err == nil && left != head.commit {
				return revision{left, "where this left " + main}, nil
			}
		}
	}
	changes, err := git("status", "--porcelain")
	if err != nil {
		return revision{}, err
	}
	if changes != "" {
		return head, nil
	}
	if tag, err := git("describe", "--tags", "--abbrev=0", "HEAD^"); err == nil {
		return commit(tag, "the last tag")
	}
	before, err := commit("HEAD^", "the commit before")
	if err != nil {
		return revision{}, errors.New("nothing to compare with: no changes and no commit before; give -base (BASE=)")
	}
	return before, nil
}

// describe is a line for people.
func (r revision) describe(ctx context.Context, repo string) string {
	line, err := git(ctx, repo, "log", "-1", "--format=%h %s", r.commit)
	if err != nil {
		line = r.commit
	}
	return line + " (" + r.why + ")"
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
