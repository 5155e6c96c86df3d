package conformance_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/internal/sidebyside"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/host"
)

// shared is a host with default settings for all tests that need no others.
var shared struct {
	sync.Mutex
	*host.Host
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := run(m, dir)
	os.RemoveAll(dir)
	os.Exit(code)
}

func run(m *testing.M, dir string) int {
	if err := host.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// What is parallel here waits for most of its time.
	sidebyside.Tests(6)
	code := m.Run()
	if shared.Host != nil {
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// connect returns a client of the shared host, as a subject that no other test
// has.
func connect(t *testing.T) *client.Client {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.Host == nil {
		h, err := host.Run()
		if err != nil {
			t.Fatal(err)
		}
		shared.Host = h
	}
	return client.New(t, shared.URL, subject())
}

// start runs a host of the test's own and returns a client of it.
func start(t *testing.T, flags ...string) (*host.Host, *client.Client) {
	t.Helper()
	h := host.Start(t, flags...)
	return h, client.New(t, h.URL, subject())
}

func subject() string { return strings.ToLower("s" + client.FreshID()) }

// eventually waits for a condition, and fails the test if it does not come.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(client.Patience); ; <-tick.C {
		if is() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// busy is what may take d at most, on a machine that has other things to do.
func busy(d time.Duration) time.Duration { return d + 10*time.Second }

// expiring is a subject whose credentials end at t (to the second).
func expiring(name string, t time.Time) string {
	return fmt.Sprintf("%s;exp=%d", name, t.Unix())
}
