//go:build unix

package abuse

import (
	"errors"
	"syscall"
)

// smallBuffer gives a socket a receive buffer of 4 KiB before it connects.
func smallBuffer(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
	})
	return errors.Join(err, failed)
}
