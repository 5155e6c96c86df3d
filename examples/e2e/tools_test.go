package e2e

import (
	"os"
	"os/exec"
	"sync"
	"testing"
)

// installing keeps tests from installing the same thing at once.
var installing sync.Mutex

// tool returns the path of a program, which is installed if it is missing and
// this is root on a Debian system. Without it the test fails: a test that is
// skipped for want of a browser tests nothing.
func tool(t *testing.T, program, debianPackage string) string {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	if path, ok := find(program); ok {
		return path
	}
	if os.Getuid() != 0 {
		t.Fatalf("%s is missing: apt-get install %s", program, debianPackage)
	}
	for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", debianPackage}} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s is missing, and apt-get %v failed: %v\n%s", program, args, err, out)
		}
	}
	path, ok := find(program)
	if !ok {
		t.Fatalf("%s is missing although %s is installed", program, debianPackage)
	}
	return path
}

func find(program string) (string, bool) {
	for _, candidate := range []string{program, "/usr/sbin/" + program} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, true
		}
	}
	return "", false
}
