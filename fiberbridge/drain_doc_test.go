package fiberbridge

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestKubernetesArithmetic does the sums of docs/deploying.md with the numbers
// of its own example.
func TestKubernetesArithmetic(t *testing.T) {
	page, err := os.ReadFile("../docs/deploying.md")
	if err != nil {
		t.Fatal(err)
	}
	number := func(pattern string) time.Duration {
		t.Helper()
		m := regexp.MustCompile(pattern).FindSubmatch(page)
		if m == nil {
			t.Fatalf("docs/deploying.md does not say %s", pattern)
		}
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n) * time.Second
	}
	notReady := number(`NotReady: ([0-9]+) \* time\.Second`)
	spread := number(`Spread: ([0-9]+) \* time\.Second`)
	timeout := number(`Timeout: ([0-9]+) \* time\.Second`)
	grace := number(`terminationGracePeriodSeconds: ([0-9]+)`)
	handlers := number(`([0-9]+) s for handlers`)
	if notReady > timeout/5 {
		t.Errorf("NotReady %s would be cut down to a fifth of %s", notReady, timeout)
	}
	if left := timeout - notReady; spread > left/4 {
		t.Errorf("Spread %s would be cut down to a quarter of %s", spread, left)
	}
	if notReady+spread+handlers != timeout || timeout+2*time.Second != grace {
		t.Errorf("%s + %s + %s is not %s, or with 2s not %s", notReady, spread, handlers, timeout, grace)
	}
	if probe := number(`timeoutSeconds: ([0-9]+)`); probe <= readyLimit {
		t.Errorf("a probe gives up after %s, and /ready may take %s", probe, readyLimit)
	}
}
