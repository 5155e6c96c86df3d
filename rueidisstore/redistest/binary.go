package redistest

import (
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Binary is the server that the tests of this process start.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := findBinary()
	if err != nil {
		t.Fatalf("redistest: no redis-server: %v", err)
	}
	return path
}

var findBinary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("REDISTEST_SERVER"); path != "" {
		return exec.LookPath(path)
	}
	const name = "redis-server"
	path, err := exec.LookPath(name)
	if err == nil || os.Getuid() != 0 {
		return path, err
	}
	// Debian's package name is that of the program.
	const install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends " + name
	cmd := exec.Command("sh", "-c", install)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, failed := cmd.CombinedOutput(); failed != nil {
		_, _ = os.Stderr.Write(out)
		return "", err
	}
	return exec.LookPath(name)
})
