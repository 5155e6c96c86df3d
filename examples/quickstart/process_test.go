package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostEnv makes this test program a host: its value are the flags, one a line.
const (
	hostEnv  = "QUICKSTART_TEST_HOST"
	leaseEnv = "QUICKSTART_TEST_LEASE"
)

func init() {
	flags := os.Getenv(hostEnv)
	if flags == "" {
		return
	}
	if ttl, err := time.ParseDuration(os.Getenv(leaseEnv)); err == nil {
		lease.TTL = ttl
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	os.Exit(run(strings.Split(flags, "\n"), func(string) string { return "" }, os.Stdout, os.Stderr, signals))
}

// serveProcess is serve in a process of its own, which kill ends as a crash
// does. env are variables, "NAME=value".
func serveProcess(t *testing.T, env []string, flags ...string) (d *demo, kill func()) {
	t.Helper()
	flags = append([]string{"-addr", "127.0.0.1:0", "-drain", "1s"}, flags...)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), hostEnv+"="+strings.Join(flags, "\n")), env...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	url, found := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !found {
		t.Fatalf("it said %q: %v", line, err)
	}
	return &demo{t: t, url: url}, kill
}

func (d *demo) String() string { return fmt.Sprint("the host at ", d.url) }
