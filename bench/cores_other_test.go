//go:build !linux

package bench

import (
	"runtime"
	"testing"
)

// onOneCore is as far as it goes here: nothing is pinned.
func onOneCore(tb testing.TB) (readers int) {
	procs := runtime.GOMAXPROCS(1)
	tb.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	return -1
}
