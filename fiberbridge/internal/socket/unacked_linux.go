package socket

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// BoundUnacknowledged has the kernel end a TCP connection whose peer has not
// acknowledged what was sent, or has kept its window shut, for d
// (TCP_USER_TIMEOUT, tcp(7)). On any other connection it does nothing.
func BoundUnacknowledged(conn net.Conn, d time.Duration) {
	under, ok := innermost(conn).(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := under.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // a connection that is closed needs no bound
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
