package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// tableUnits are those that benchstat shows.
const tableUnits = ".unit:(sec/op OR x-bare OR allocs/op OR allocs/round OR writes/flush OR syscalls/flush)"

// printTable has benchstat, pinned in go.mod as a tool, print its table.
func printTable(ctx context.Context, stdout, stderr io.Writer, s settings, base, head recording) error {
	temp, err := os.MkdirTemp("", "benchgate-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	args := []string{"tool", "benchstat", "-filter", tableUnits}
	for _, side := range []struct {
		name string
		r    *recording
	}{{"base", &base}, {"head", &head}} {
		if side.r.text.Len() == 0 {
			continue
		}
		path := filepath.Join(temp, side.name+".txt")
		if err := side.r.save(path); err != nil {
			return err
		}
		args = append(args, side.name+"="+path)
	}
	module := s.tools
	if module == "" {
		root, err := git(ctx, s.repo, "rev-parse", "--show-toplevel")
		if err != nil {
			return err
		}
		module = filepath.Join(root, benchPackage, "gate")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("benchstat: %w", err)
	}
	return nil
}
