//go:build linux

// Package proc starts the processes of a run, each on its own CPUs, makes sure
// that they end with it, and reads from /proc what they use.
//
// Linux only.
package proc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a running process that this one has started. The kernel ends it
// when this one dies, however that happens.
type Process struct {
	cmd     *exec.Cmd
	exited  chan struct{}
	stopped atomic.Bool
	lines   chan string // of its standard output, the first few
	mu      sync.Mutex
	tail    bytes.Buffer // of what it wrote to standard error
}

// Command is what to start.
type Command struct {
	Path string
	Args []string
	Env  []string // added to this process's own
	CPUs []int    // may run on; empty: all
	Dir  string
}

// Start starts a process.
func Start(c Command) (*Process, error) {
	cmd := exec.CommandContext(context.Background(), c.Path, c.Args...) // ends by Stop
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	// A ^C at the terminal is for the load tool, which stops what it started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{cmd: cmd, exited: make(chan struct{}), lines: make(chan string, 16)}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = (*tailWriter)(p)
	started := make(chan error)
	go func() {
		// The parent whose death the kernel reports is this thread, and its
		// CPUs are those that the child inherits. It ends with the goroutine,
		// since it is not unlocked.
		runtime.LockOSThread()
		defer close(p.exited)
		err := pinThread(c.CPUs)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err != nil {
			return
		}
		p.readLines(out)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return p, nil
}

func (p *Process) readLines(r io.Reader) {
	defer close(p.lines)
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		select {
		case p.lines <- scanner.Text():
		default: // nobody wants to know
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

// tailWriter keeps the end of what a process says.
type tailWriter Process

const tailBytes = 16 << 10

func (w *tailWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail.Write(b)
	if over := w.tail.Len() - tailBytes; over > 0 {
		w.tail.Next(over)
	}
	return len(b), nil
}

// Said is the end of what the process wrote to standard error.
func (p *Process) Said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tail.String()
}

// AwaitLine waits for a line of output with a prefix and returns its rest.
func (p *Process) AwaitLine(prefix string, patience time.Duration) (string, error) {
	line, err := p.await(patience, func(line string) bool { return strings.HasPrefix(line, prefix) })
	return strings.TrimPrefix(line, prefix), err
}

// AwaitLineWith waits for a line of output that holds a text and returns it.
func (p *Process) AwaitLineWith(text string, patience time.Duration) (string, error) {
	return p.await(patience, func(line string) bool { return strings.Contains(line, text) })
}

func (p *Process) await(patience time.Duration, wanted func(string) bool) (string, error) {
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return "", fmt.Errorf("it ended: %s", strings.TrimSpace(p.Said()))
			}
			if wanted(line) {
				return line, nil
			}
		case <-limit:
			return "", errors.New("it does not say that it is ready")
		}
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stopped reports whether Stop or Expect was called: the end was wanted.
func (p *Process) Stopped() bool { return p.stopped.Load() }

// Expect says that the process is going to end, and should.
func (p *Process) Expect() { p.stopped.Store(true) }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stop ends the process: SIGTERM first, SIGKILL after patience. It waits for
// the end and may be called again.
func (p *Process) Stop(patience time.Duration) {
	p.stopped.Store(true)
	if patience > 0 {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.exited:
			return
		case <-time.After(patience):
		}
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// pinThread lets the calling thread run on some CPUs only.
func pinThread(cpus []int) error {
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to CPUs %v: %w", cpus, err)
	}
	return nil
}

// Allowed are the CPUs that this process may run on.
func Allowed() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	var cpus []int
	for c := range len(set) * 64 {
		if set.IsSet(c) {
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}

// PinSelf makes this process run on some CPUs only, by starting its program
// anew: Go's threads are there already, and each has its own mask. marker is
// set in the new program's environment. It returns on failure only.
func PinSelf(cpus []int, marker string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := pinThread(cpus); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), marker))
}

// RaiseFiles raises the soft limit of descriptors to the hard one and returns
// it.
func RaiseFiles() (int, error) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, err
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, err
	}
	return int(min(lim.Cur, 1<<30)), nil
}
