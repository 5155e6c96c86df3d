package fiberbridge

import (
	"context"
	"net"
	"time"

	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/socket"
)

// peerLook is how often a waiting poll looks whether its client is still
// there. fasthttp would tell only when the answer is written, up to a minute
// later, and keep descriptor, goroutine and buffers until then.
const peerLook = 500 * time.Millisecond

// peerWatch ends a poll's wait when its client has gone or its credential has
// expired, also by a jump of the wall clock.
type peerWatch struct {
	slot    deadline
	peer    socket.Peer
	known   bool // where the system tells of the peer
	expires time.Time
	quit    context.CancelFunc
}

// watchPeer calls quit when the peer of conn has gone, or at expires if that is
// not zero. stop ends the watch.
func (s *streams) watchPeer(conn net.Conn, expires time.Time, quit context.CancelFunc) (stop func()) {
	peer, ok := socket.PeerOf(conn)
	if !ok && expires.IsZero() {
		return func() {}
	}
	w := &peerWatch{peer: peer, known: ok, expires: expires.Round(0), quit: quit}
	s.deadlines.set(w, s.deadlines.now()+instant(peerLook))
	return func() { s.deadlines.drop(w) }
}

func (w *peerWatch) deadline() *deadline { return &w.slot }

func (w *peerWatch) check(now instant, wall time.Time) instant {
	if w.known && w.peer.Gone() || !w.expires.IsZero() && !wall.Before(w.expires) {
		w.quit()
		return 0
	}
	return now + instant(peerLook)
}
