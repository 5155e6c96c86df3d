// Package intime is for tests of what ends by the clock (credentials that expire,
// a socket that is idle for too long, a drain) while the test has to do something
// first. How long that takes is the machine's affair: no time is the right one for
// a quick machine and for one that has much else to do.
package intime

import (
	"testing"
	"time"
)

// longest is where Try gives up: no machine that is alive is that slow.
const longest = 5 * time.Minute

// Try calls try with the time that the test has, beginning with first, and with
// twice as much whenever try reports that this was not enough for the test's own
// part. What try finds wrong in what it tests it reports as it would without.
func Try(t testing.TB, first time.Duration, try func(d time.Duration) bool) {
	t.Helper()
	for d := first; !try(d); d *= 2 {
		if d > longest {
			t.Fatalf("the test's own part is not done in %v", d)
		}
		t.Logf("the test's own part was not done in %v; it gets twice as much", d)
	}
}

// enough is how many times longer than now the test's part may take later.
const enough = 20

// For returns how long the test's own part may take: least, and more on a machine
// that takes more than a twentieth of that for rehearsal, which does the same.
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
