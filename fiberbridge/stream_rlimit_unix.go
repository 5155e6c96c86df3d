//go:build unix

package fiberbridge

import "syscall"

// defaultStreamLimit is the limit of descriptors less a tenth, and at least 64
// less: when they run out, fasthttp's accept loop ends and the app with it.
func defaultStreamLimit() int {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 1024 - 64
	}
	n := int(min(uint64(lim.Cur), 1<<20)) //nolint:gosec,unconvert // Cur is signed on some systems
	return max(n-max(n/10, 64), 1)
}
