//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// observedHost is a demo host to give as -host, and tells its process id when it
// has had 20 connections for as long as said: a run's first message comes a
// second after its subscribers.
func observedHost(t *testing.T, long time.Duration) (script string, crowded <-chan int) {
	t.Helper()
	dir := t.TempDir()
	script = filepath.Join(dir, "host")
	// Its process is the host's own, since exec keeps the number.
	text := "#!/bin/sh\necho $$ > '" + dir + "/pid'\nexec '" + demoHost + "' \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	found := make(chan int, 1)
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		var since time.Time
		for pid := 0; ; {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if pid == 0 {
				b, _ := os.ReadFile(filepath.Join(dir, "pid"))
				pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
				continue
			}
			switch {
			case since.IsZero() && sockets(pid) > 20: // and a listener
				since = time.Now()
			case !since.IsZero() && time.Since(since) > long:
				found <- pid
				return
			}
		}
	})
	t.Cleanup(func() {
		close(over)
		watching.Wait()
	})
	return script, found
}

// sockets is how many a process has open.
func sockets(pid int) (n int) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is good
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
