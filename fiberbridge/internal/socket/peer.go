package socket

import (
	"net"
	"syscall"
)

// Peer looks at a connection that somebody else serves, without taking a byte
// from it.
type Peer struct{ raw syscall.RawConn }

// PeerOf returns a view of conn's other end. It is false where there is nothing
// to look at: in-memory connections, systems without MSG_PEEK.
func PeerOf(conn net.Conn) (Peer, bool) {
	under, ok := innermost(conn).(syscall.Conn)
	if !ok || !canPeek {
		return Peer{}, false
	}
	raw, err := under.SyscallConn()
	return Peer{raw}, err == nil
}
