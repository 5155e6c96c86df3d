// Package host builds and runs the demo host as a process of its own.
package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for the host, also on a busy machine.
const patience = 2 * time.Minute

// Host is a running demo host.
type Host struct {
	// URL is "http://127.0.0.1:PORT".
	URL string

	cmd    *exec.Cmd
	exited chan struct{}
	log    *tail
	killed bool
}

// binary is built once per process, by Build.
var binary struct {
	sync.Mutex
	path string
}

// Build compiles the demo host into dir. It must be called before Start.
func Build(dir string) error {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return errors.New("host: no source position")
	}
	root := filepath.Join(filepath.Dir(here), "..", "..", "..")
	path := filepath.Join(dir, "quickstart")
	args := []string{"build", "-o", path}
	if race {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./examples/quickstart")...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the demo host: %w\n%s", err, out)
	}
	binary.Lock()
	defer binary.Unlock()
	binary.path = path
	return nil
}

// Start runs the demo host on a free port until the test ends. When it ends
// the process must still be alive and must not have logged a panic or a race,
// unless the test stopped it itself.
func Start(t testing.TB, flags ...string) *Host {
	t.Helper()
	h, err := Run(flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the host's last lines:\n%s", h.log)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// Run is Start outside a test: the caller closes.
func Run(flags ...string) (*Host, error) {
	binary.Lock()
	path := binary.path
	binary.Unlock()
	if path == "" {
		return nil, errors.New("host: Build was not called")
	}
	h := &Host{exited: make(chan struct{}), log: &tail{max: 200}}
	h.cmd = exec.Command(path, append([]string{"-addr", "127.0.0.1:0"}, flags...)...)
	h.cmd.Env = append(environment(), "GORACE=halt_on_error=0")
	// Both streams into one pipe: the line with the address may be on either.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	h.cmd.Stdout, h.cmd.Stderr = w, w
	if err := h.cmd.Start(); err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	w.Close() // the child has it

	address := make(chan string, 1)
	go func() {
		defer close(h.exited)
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadString('\n')
			h.log.add(line)
			if _, url, ok := strings.Cut(line, "listening on "); ok {
				select {
				case address <- strings.TrimSpace(url):
				default:
				}
			}
			if err != nil {
				break
			}
		}
		r.Close()
		_ = h.cmd.Wait() // read from ProcessState
	}()

	select {
	case h.URL = <-address:
		return h, nil
	case <-h.exited:
		return nil, fmt.Errorf("the host ended before it listened:\n%s", h.log)
	case <-time.After(patience):
		return nil, errors.Join(fmt.Errorf("the host does not listen:\n%s", h.log), h.cmd.Process.Kill())
	}
}

// environment is ours without the variables that stand for flags.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "ADDR", "REDIS_URL", "REDIS_PREFIX", "HEARTBEAT", "FLUSH", "DRAIN", "MAX_STREAM_LENGTH", "STREAM_TTL",
			"SUBSCRIBE_TIMEOUT", "PONG_TIMEOUT", "WRITE_TIMEOUT", "MAX_STREAMS", "UPLOAD_DIR":
		default:
			env = append(env, kv)
		}
	}
	return env
}

// Dial opens a bare connection to the host.
func (h *Host) Dial() (net.Conn, error) {
	return net.DialTimeout("tcp", strings.TrimPrefix(h.URL, "http://"), patience)
}

// Terminate sends SIGTERM.
func (h *Host) Terminate() error { return h.cmd.Process.Signal(syscall.SIGTERM) }

// Wait waits for the process to end and returns its exit code.
func (h *Host) Wait(ctx context.Context) (int, error) {
	select {
	case <-h.exited:
		return h.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("the host still runs: %w\n%s", ctx.Err(), h.log)
	}
}

// Kill ends the process without a word to it, and waits until it is gone. It
// must not be called while Close is.
func (h *Host) Kill() error {
	h.killed = true
	if err := h.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-h.exited
	return nil
}

// Close ends the process if it still runs, and tells what was wrong with it.
func (h *Host) Close() error {
	select {
	case <-h.exited:
		if code := h.cmd.ProcessState.ExitCode(); code != 0 && !h.killed {
			return fmt.Errorf("the host ended with %d:\n%s", code, h.log)
		}
	default:
		if err := h.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-h.exited
	}
	if bad := h.log.bad(); bad != "" {
		return fmt.Errorf("the host logged %q:\n%s", bad, h.log)
	}
	return nil
}

// tail keeps the last lines of a log.
type tail struct {
	max int

	mu    sync.Mutex
	lines []string
	worst string
}

func (l *tail) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, sign := range []string{"panic:", "WARNING: DATA RACE", "fatal error:", "level=ERROR"} {
		if l.worst == "" && strings.Contains(line, sign) {
			l.worst = strings.TrimSpace(line)
		}
	}
	if l.lines = append(l.lines, line); len(l.lines) > l.max {
		l.lines = l.lines[1:]
	}
}

func (l *tail) bad() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.worst
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "")
}

var _ io.Closer = (*Host)(nil)
