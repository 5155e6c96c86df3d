package accept

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Conn is a TCP connection of a Listener.
type Conn struct {
	*net.TCPConn
	l     *Listener
	place int // in l.conns, guarded by l.mu

	// since is when the read began that waits, busy, or left.
	since atomic.Int64
	// kept: somebody else serves the connection now; see Keep.
	kept   atomic.Bool
	closed atomic.Bool
}

// What Conn.since says otherwise.
const (
	busy int64 = 0  // no read waits
	left int64 = -1 // the connection is being closed for another one
)

// Read reads from the connection. One that is closed for another one has come
// to its end.
func (c *Conn) Read(p []byte) (int, error) {
	if c.kept.Load() {
		return c.TCPConn.Read(p)
	}
	if !c.since.CompareAndSwap(busy, c.l.now()) {
		if c.since.Load() == left {
			return 0, io.EOF
		}
		return c.TCPConn.Read(p) // two readers
	}
	n, err := c.TCPConn.Read(p)
	for {
		since := c.since.Load()
		if since == left {
			if n == 0 {
				return 0, io.EOF
			}
			return n, nil // it came at the last moment and is answered
		}
		if c.since.CompareAndSwap(since, busy) {
			return n, err
		}
	}
}

// leave ends a connection that has been waiting for its client since then, and
// reports whether it still was.
func (c *Conn) leave(since int64) bool {
	if c.kept.Load() || !c.since.CompareAndSwap(since, left) {
		return false
	}
	_ = c.TCPConn.SetReadDeadline(time.Unix(1, 0)) // wakes the read; whoever reads closes
	return true
}

// Keep says that the connection carries no more requests: it waits for nobody,
// however long its reads take, and is not closed for others.
func (c *Conn) Keep() { c.kept.Store(true) }

// Close closes the connection. It may be called again.
func (c *Conn) Close() error {
	err := c.TCPConn.Close()
	if !c.closed.Swap(true) {
		c.l.remove(c)
	}
	return err
}
