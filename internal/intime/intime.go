// Package intime chooses times for tests of things that end by the clock (credentials
// that expire, a socket that is idle for too long, a drain) where the test has to do
// something before that. How long this takes depends on the machine, so no fixed time
// suits both a fast machine and a busy one.
package intime

import (
	"testing"
	"time"
)

// longest is the time after which Try fails the test.
const longest = 5 * time.Minute

// Try calls try with the time that the test has: first at the beginning, and twice as
// much each time that try returns false, because the test's own part took too long. try
// reports faults of the code under test to t as usual.
func Try(t testing.TB, first time.Duration, try func(d time.Duration) bool) {
	t.Helper()
	for d := first; !try(d); d *= 2 {
		if d > longest {
			t.Fatalf("the test's own part is not done in %v", d)
		}
		t.Logf("the test's own part was not done in %v; it gets twice as much", d)
	}
}

// enough is how many times as long as the rehearsal the test's own part may take.
const enough = 20

// For returns how long the test's own part may take: least, or enough times the duration
// of rehearsal, which does the same, if that is more.
func For(t testing.TB, least time.Duration, rehearsal func()) time.Duration {
	t.Helper()
	began := time.Now()
	rehearsal()
	took := time.Since(began)
	if d := enough * took; d > least {
		t.Logf("the rehearsal took %v: the test gets %v", took, d)
		return d
	}
	return least
}
