//go:build unix && !linux

package socket

import (
	"errors"

	"golang.org/x/sys/unix"
)

const canPeek = true

// Gone reports whether the peer has closed, half-closed or reset the
// connection. With bytes still to be read it says no. It may be called at any
// time, also after the connection was closed.
func (p Peer) Gone() (gone bool) {
	_ = p.raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			gone = n == 0
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		default:
			gone = true
		}
	})
	return gone
}
