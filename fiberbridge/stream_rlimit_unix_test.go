//go:build unix

package fiberbridge

import (
	"syscall"
	"testing"
)

// TestDefaultStreamLimitFollowsTheProcess: a tenth of the descriptors, and 64 at
// least, are left for everything else.
func TestDefaultStreamLimitFollowsTheProcess(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}()
	for files, want := range map[uint64]int{512: 448, 640: 576, 1000: 900} {
		limit := before
		limit.Cur = files
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Skip(err)
		}
		if got := defaultStreamLimit(); got != want {
			t.Errorf("%d streams with %d descriptors, want %d", got, files, want)
		}
	}
}
