//go:build unix

package accept

import (
	"net"
	"syscall"
)

// passingErrors are errors of accept(2), on Linux and the BSDs, after which a later
// accept may succeed.
var passingErrors = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, // out of something
	syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPROTO, // the client's fault
}

// descriptor returns the number of conn's descriptor, -1 if it has none.
func descriptor(conn *net.TCPConn) (number int) {
	number = -1
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { number = int(fd) })
	}
	return number
}

// Descriptors returns how many descriptors the process may have open.
func Descriptors() int {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 1024
	}
	return int(min(uint64(lim.Cur), 1<<20)) //nolint:unconvert // Cur is signed on some systems
}
