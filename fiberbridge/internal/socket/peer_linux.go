package socket

import (
	"errors"

	"golang.org/x/sys/unix"
)

const canPeek = true

// Gone reports whether the peer has closed, half-closed or reset the
// connection, even if there are bytes left to read. It may be called at any time,
// also after the connection was closed.
func (p Peer) Gone() (gone bool) {
	_ = p.raw.Control(func(fd uintptr) {
		one := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		for {
			_, err := unix.Poll(one, 0)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		gone = one[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone
}
