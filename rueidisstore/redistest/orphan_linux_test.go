package redistest_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

const orphanEnv = "REDISTEST_ORPHAN"

// TestServersDieWithTheTest runs itself as a process that is killed before its
// cleanups can run.
func TestServersDieWithTheTest(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		_, _ = fmt.Fprintln(os.Stdout, "started", redistest.Server(t).Addr())
		select {} // until it is killed
	}
	t.Parallel()
	child := exec.Command(os.Args[0], "-test.run=^TestServersDieWithTheTest$")
	child.Env = append(os.Environ(), orphanEnv+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		if a, ok := strings.CutPrefix(lines.Text(), "started "); ok {
			addr = a
		}
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	if addr == "" {
		t.Fatal("the child started no server")
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) { // polls
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("the server outlived the process that started it")
		}
	}
}
