package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// calls counts system calls by name.
type calls map[string]int

// writes are those that move bytes to a peer. The few that go to pipes and
// eventfds are among them.
func (c calls) writes() int {
	return c.of("write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice", "io_uring_enter")
}

// polls are those that ask the kernel which descriptors are ready, or tell it
// which to watch.
func (c calls) polls() int {
	return c.of("epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl", "poll", "ppoll")
}

// all are all of them but those with which Go's scheduler puts threads to sleep
// and wakes them: how many those are depends on how slow everything else is.
func (c calls) all() int {
	n := -c.of("futex", "nanosleep", "sched_yield", "rt_sigreturn", "tgkill", "getpid")
	for _, calls := range c {
		n += calls
	}
	return n
}

func (c calls) of(names ...string) (n int) {
	for _, name := range names {
		n += c[name]
	}
	return n
}

// trace counts the system calls that this process makes while do runs: all of
// them, exactly, whatever makes them. What is traced is slow, so nothing is
// timed meanwhile. It fails, without calling do, where there is no strace or it
// may not attach.
func trace(tb testing.TB, do func()) (calls, error) {
	tb.Helper()
	// Where only a parent may trace, this names somebody else who may; other
	// systems do not know the call.
	_ = unix.Prctl(unix.PR_SET_PTRACER, unix.PR_SET_PTRACER_ANY, 0, 0, 0)
	summary := filepath.Join(tb.TempDir(), "calls")
	cmd := exec.Command("strace", "-f", "-c", "-U", "calls,name", "-o", summary, "-p", strconv.Itoa(os.Getpid()))
	errs, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("system calls are counted by strace (Debian's package name): %w", err)
	}
	said := bufio.NewScanner(errs)
	var lines []string
	attached := false
	for !attached && said.Scan() {
		lines = append(lines, said.Text())
		attached = strings.Contains(said.Text(), " attached")
	}
	if !attached {
		return nil, fmt.Errorf("strace does not attach (%w): %s", cmd.Wait(), strings.Join(lines, "; "))
	}
	do()
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		return nil, err
	}
	for said.Scan() {
		lines = append(lines, said.Text())
	}
	_ = cmd.Wait() // it ends by the signal
	counted, err := readCalls(summary)
	if err != nil {
		return nil, fmt.Errorf("%w; strace said: %s", err, strings.Join(lines, "; "))
	}
	return counted, nil
}

// readCalls reads strace's table: a line of a number and a name for each call.
func readCalls(path string) (calls, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	counted := calls{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[1] == "total" {
			continue
		}
		if n, err := strconv.Atoi(fields[0]); err == nil {
			counted[fields[1]] += n
		}
	}
	if len(counted) == 0 {
		return nil, fmt.Errorf("strace counted nothing: %q", text)
	}
	return counted, nil
}
