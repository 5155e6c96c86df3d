//go:build !linux

package socket

import (
	"net"
	"time"
)

// BoundUnacknowledged does nothing where there is no TCP_USER_TIMEOUT.
func BoundUnacknowledged(net.Conn, time.Duration) {}
