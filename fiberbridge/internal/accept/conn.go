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

	// since is when the read that is waiting began, stalled the same of the write.
	// Both may also be busy or left.
	since, stalled atomic.Int64
	// kept says that the connection carries no more requests; see Keep.
	kept   atomic.Bool
	closed atomic.Bool
}

// These are the other values of Conn.since and Conn.stalled.
const (
	busy int64 = 0  // nothing waits
	left int64 = -1 // the connection is being closed for another one
)

// Read reads from the connection. It returns io.EOF if the connection is being closed
// for another one.
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
			return n, nil // bytes that came at the last moment are still handled
		}
		if c.since.CompareAndSwap(since, busy) {
			return n, err
		}
	}
}

// Write writes to the connection.
func (c *Conn) Write(p []byte) (int, error) {
	if c.kept.Load() || !c.stalled.CompareAndSwap(busy, c.l.now()) {
		return c.TCPConn.Write(p)
	}
	n, err := c.TCPConn.Write(p)
	if since := c.stalled.Load(); since != left {
		c.stalled.CompareAndSwap(since, busy)
	}
	return n, err
}

// idle returns since when the connection waits for its client. ok says that it may be
// closed for another one: its read began before reads, or its write before writes.
func (c *Conn) idle(reads, writes int64) (since int64, ok bool) {
	if c.kept.Load() {
		return 0, false
	}
	if since := c.since.Load(); since > 0 && since <= reads {
		return since, true
	}
	since = c.stalled.Load()
	return since, since > 0 && since <= writes
}

// leaving reports whether the connection is being closed for another one.
func (c *Conn) leaving() bool { return c.since.Load() == left || c.stalled.Load() == left }

// leave ends the connection if it has been waiting for its client from since until
// now, and reports whether it has. The read or write that waits returns, and the
// server closes the connection.
func (c *Conn) leave(since int64) bool {
	switch past := time.Unix(1, 0); {
	case c.kept.Load():
		return false
	case c.since.CompareAndSwap(since, left):
		_ = c.SetReadDeadline(past)
	case c.stalled.CompareAndSwap(since, left):
		_ = c.SetWriteDeadline(past)
	default:
		return false
	}
	return true
}

// Keep says that the connection carries no more requests. It is not closed for others
// then, however long its reads take.
func (c *Conn) Keep() { c.kept.Store(true) }

// Close closes the connection. It may be called again.
func (c *Conn) Close() error {
	err := c.TCPConn.Close()
	if !c.closed.Swap(true) {
		c.l.remove(c)
	}
	return err
}
