package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// portableBuffer is each portable socket's own: its reader waits inside Read.
const portableBuffer = 2 << 10

// portable serves a connection through net.Conn. One goroutine reads; another
// exists while there is something to write. Fields below turn are guarded by
// the Socket's lock.
type portable struct {
	g     *Group
	conn  net.Conn // what is read and written
	inner net.Conn // what conn is made of: closing it ends both at once

	// turn is held around each of the Handler's calls, which come from both
	// goroutines. It is locked before the Socket's lock.
	turn sync.Mutex

	running int           // goroutines
	writing bool          // one of them writes
	out     []byte        // what it writes
	failed  error         // what it met
	timeout time.Duration // for one write
	idle    chan struct{} // closed when nothing is written any more; nil until somebody asks
	resume  chan struct{} // closed when a pause ends; nil until the reader waits for it
}

func (g *Group) adoptPortable(s *Socket, conn net.Conn, pending []byte) error {
	p := &portable{g: g, conn: conn, inner: innermost(conn), running: 1}
	s.port = p
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return net.ErrClosed
	}
	g.portable[s] = struct{}{}
	g.wg.Add(1)
	g.mu.Unlock()
	g.open.Add(1)

	_ = conn.SetDeadline(time.Time{}) // what is left of the request's
	if tcp, ok := p.inner.(*net.TCPConn); ok {
		g.opt.tune(tcp)
		if g.opt.KeepAlive.Enable {
			_ = tcp.SetKeepAliveConfig(g.opt.KeepAlive)
		}
	}
	if g.opt.UserTimeout > 0 {
		s.SetUserTimeout(g.opt.UserTimeout)
	}
	go p.read(s, append([]byte(nil), pending...))
	return nil
}

// exit is the end of one of the goroutines.
func (p *portable) exit(s *Socket) {
	s.mu.Lock()
	p.running--
	s.settle()
	s.mu.Unlock()
	p.g.wg.Done()
}

// read is the goroutine that reads.
func (p *portable) read(s *Socket, pending []byte) {
	defer p.exit(s)
	if len(pending) > 0 && !p.deliver(s, pending) {
		return
	}
	buf := make([]byte, portableBuffer)
	for {
		p.awaitResume(s)
		n, err := p.conn.Read(buf)
		if n > 0 && !p.deliver(s, buf[:n]) {
			return
		}
		if err != nil {
			p.hangup(s, err)
			return
		}
	}
}

// deliver hands b to the Handler, and tells whether to go on reading.
func (p *portable) deliver(s *Socket, b []byte) bool {
	p.turn.Lock()
	defer p.turn.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state&(closed|draining) == 0 {
		s.call(func() { s.h.Readable(b) })
	}
	return s.state&closed == 0
}

func (p *portable) hangup(s *Socket, err error) {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // a FIN that TLS did not announce
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.failed != nil {
		err = p.failed // told once: the end that is read then looks like a FIN
	}
	s.hangup(err)
}

// tryWrite hands b to the writer, unless that is busy. Called with the
// Socket's lock held.
func (p *portable) tryWrite(s *Socket, b []byte) (int, error) {
	if p.failed != nil {
		return 0, p.failed
	}
	if p.out != nil {
		s.state |= full
		return 0, nil
	}
	p.out = b
	p.startWriter(s)
	return len(b), nil
}

// awaitFarewell waits until what was accepted before a CloseGracefully is
// written, or its linger or ctx is over.
func (p *portable) awaitFarewell(ctx context.Context, s *Socket) {
	s.mu.Lock()
	if s.state&(draining|closed) != draining || !p.writing {
		s.mu.Unlock()
		return
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	s.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// finish lets the writer send a FIN after what it has. Called with the
// Socket's lock held.
func (p *portable) finish(s *Socket) { p.startWriter(s) }

func (p *portable) startWriter(s *Socket) {
	if p.writing {
		return
	}
	p.writing = true
	p.running++
	p.g.wg.Add(1)
	go p.write(s)
}

// write is the goroutine that writes. It ends when nothing is left to write.
func (p *portable) write(s *Socket) {
	defer p.exit(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if p.idle != nil && !p.writing {
			close(p.idle)
			p.idle = nil
		}
	}()
	for s.state&closed == 0 {
		switch {
		case p.out != nil:
			p.writeOut(s)
		case p.failed != nil:
			err := p.failed
			p.writing = false
			s.mu.Unlock()
			p.hangup(s, err)
			s.mu.Lock()
			return
		case s.state&draining != 0:
			s.mu.Unlock()
			half := p.closeWrite()
			s.mu.Lock()
			p.writing = false
			if !half || s.state&ended != 0 {
				s.closeLocked()
			}
			return
		case s.state&full != 0:
			s.mu.Unlock()
			p.writable(s)
			s.mu.Lock()
		default:
			p.writing = false
			return
		}
	}
	p.writing = false
}

// writeOut writes what TryWrite accepted. Called with the Socket's lock held,
// which it lets go of in between.
func (p *portable) writeOut(s *Socket) {
	out, timeout := p.out, p.timeout
	s.mu.Unlock()
	if timeout > 0 {
		_ = p.conn.SetWriteDeadline(time.Now().Add(timeout))
	}
	_, err := p.conn.Write(out)
	if timeout > 0 {
		_ = p.conn.SetWriteDeadline(time.Time{})
	}
	s.mu.Lock()
	p.out, p.failed = nil, err
}

// writable tells the Handler that it may write again.
func (p *portable) writable(s *Socket) {
	p.turn.Lock()
	defer p.turn.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state&full != 0 && s.state&(closed|draining) == 0 {
		s.state &^= full
		s.call(s.h.Writable)
	}
}

// setUserTimeout is called with the Socket's lock held.
func (p *portable) setUserTimeout(d time.Duration) {
	if tcp, ok := p.inner.(*net.TCPConn); ok && tcpUserTimeout(tcp, d) {
		return
	}
	p.timeout = max(0, d)
}

// closeWrite ends what we send, TLS and TCP. It reports false if conn cannot
// do that without closing.
func (p *portable) closeWrite() (half bool) {
	for c := p.conn; c != nil; c = insideFasthttp(c) {
		if closer, ok := c.(interface{ CloseWrite() error }); ok {
			_ = closer.CloseWrite()
			half = true
			break
		}
	}
	if tcp, ok := p.inner.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // below TLS; again does no harm
		half = true
	}
	return half
}

// close ends the connection, which lets both goroutines end. Called with the
// Socket's lock held.
//
// It closes the innermost connection: closing TLS would first write, which may
// block, and closing fasthttp's wrappers does nothing or puts them back in a
// pool that their owner will put them in again.
func (p *portable) close(s *Socket) {
	if tcp, ok := p.inner.(*net.TCPConn); ok {
		_ = tcp.Close()
		return
	}
	p.running++
	p.g.wg.Add(1)
	go func() { // nobody knows how long it takes
		defer p.exit(s)
		_ = p.inner.Close()
	}()
}
