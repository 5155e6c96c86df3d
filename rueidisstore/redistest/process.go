package redistest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// process is one running server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
}

// logName is the file in a server's directory that its output goes to.
const logName = "log"

// startProcess runs binary in dir.
func startProcess(dir, binary string, args ...string) (*process, error) {
	out, err := os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.CommandContext(context.Background(), binary, args...) // ends by kill
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	// A ^C at the terminal is for the test; what it starts, it stops itself.
	cmd.SysProcAttr = dieWithParent()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent of which the kernel reports the death is this thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	return p, <-started
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the process, also one that is paused, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // the error says that it has ended
	<-p.exited
}

func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// showLog gives a failed test the end of what the server wrote.
func showLog(t testing.TB, name, dir string) {
	const lines, columns = 15, 200
	b, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		return
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = clip(line, columns)
	}
	t.Logf("the end of the log of %s:\n%s", name, strings.Join(all, "\n"))
}

func writeConfig(dir string, lines []string) (string, error) {
	path := filepath.Join(dir, "redis.conf")
	err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	if err != nil {
		return "", fmt.Errorf("write the server's config: %w", err)
	}
	return path, nil
}
