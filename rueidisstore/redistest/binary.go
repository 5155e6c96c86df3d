package redistest

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
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

// major is the first number of the server's version: 6 and 7 differ in what a
// configuration file may say.
func major(t testing.TB) int {
	t.Helper()
	n, err := findMajor()
	if err != nil {
		t.Fatalf("redistest: the server's version: %v", err)
	}
	return n
}

var versionText = regexp.MustCompile(`\bv=(\d+)\.`)

var findMajor = sync.OnceValues(func() (int, error) {
	path, err := findBinary()
	if err != nil {
		return 0, err
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return 0, err
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s --version says %q", path, out)
	}
	return strconv.Atoi(string(m[1]))
})
