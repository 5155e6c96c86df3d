//go:build !unix

package accept

import (
	"net"
	"syscall"
)

var passingErrors = []error{syscall.Errno(10024), syscall.Errno(10055), syscall.ECONNABORTED, syscall.ECONNRESET} // WSAEMFILE, WSAENOBUFS

func descriptor(*net.TCPConn) int { return -1 }

// Descriptors returns a bound for systems that name none.
func Descriptors() int { return 1<<16 + 1<<13 }
