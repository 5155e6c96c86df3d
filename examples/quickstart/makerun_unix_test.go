//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// output is what a process says, readable while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// "make run" says where the tasks are kept, and an interrupt ends it without a
// complaint.
func TestMakeRun(t *testing.T) {
	if testing.Short() {
		t.Skip("takes too long for -short")
	}
	var said output
	cmd := exec.CommandContext(t.Context(), "make", "run", "ADDR=127.0.0.1:0")
	cmd.Dir, cmd.Stdout, cmd.Stderr = "../..", &said, &said
	for _, v := range os.Environ() {
		// This test may itself run below make, whose flags are not meant.
		if name, _, _ := strings.Cut(v, "="); !strings.HasPrefix(name, "MAKE") && name != "MFLAGS" && name != "REDIS_URL" {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// What a terminal does with ^C: a signal to the whole group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	group := -cmd.Process.Pid
	t.Cleanup(func() { _ = syscall.Kill(group, syscall.SIGKILL) })
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(4 * patience) // the build may be the first one
	for !strings.Contains(said.String(), "listening on http://127.0.0.1:") {
		select {
		case err := <-ended:
			t.Fatalf("%v: %s", err, said.String())
		case <-deadline:
			t.Fatalf("it does not listen: %s", said.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if !strings.Contains(said.String(), "tasks are kept in memory") {
		t.Errorf("it does not say where its tasks are: %s", said.String())
	}
	if err := syscall.Kill(group, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended: // make ends by the signal itself
	case <-time.After(patience):
		t.Fatalf("it does not end: %s", said.String())
	}
	if out := said.String(); strings.Contains(out, "Error") || strings.Contains(out, "***") || !strings.Contains(out, "draining") {
		t.Errorf("a clean end says: %s", out)
	}
}
