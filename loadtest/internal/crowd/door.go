//go:build linux

package crowd

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/wire"
)

// doorTime is how long a connection may take to become a stream.
const doorTime = 20 * time.Second

// wsKey and wsAccept are the handshake of RFC 6455, section 1.3.
const (
	wsKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	wsAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

func (s *sub) connect() {
	l := s.loop
	s.gen++
	target := &l.crowd.opt.Targets[l.route[s.target]]
	fd, err := dial(target.Addr, l.source(target), s.class != Steady && !s.released)
	if err != nil {
		l.stats.Delayed++
		if s.tries++; s.tries == 5 {
			s.note("connect: " + err.Error())
		}
		s.comeBack(100)
		return
	}
	s.fd, s.state = fd, connecting
	l.opening++
	if err := s.register(); err != nil {
		s.note("epoll_ctl: " + err.Error())
		s.drop()
		s.comeBack(100)
		return
	}
	l.after(s, int64(doorTime), doorTimer)
}

func (s *sub) register() error {
	return unix.EpollCtl(s.loop.epoll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     s.index, Pad: int32(s.gen),
	})
}

// source spreads connections on loopback over its addresses, each of which has
// its own ports.
func (l *loop) source(t *Target) [4]byte {
	if !t.Addr.Addr().IsLoopback() || !t.Addr.Addr().Is4() {
		return [4]byte{}
	}
	l.dials++
	return [4]byte{127, 0, byte(l.index), byte(1 + l.dials/4000%200)}
}

// dial begins a connect.
func dial(addr netip.AddrPort, from [4]byte, small bool) (int, error) {
	family := unix.AF_INET
	var to unix.Sockaddr = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if small {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	}
	if from != [4]byte{} {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from}); err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// ask sends the request.
func (s *sub) ask() {
	l := s.loop
	s.state = asking
	s.log.Connect()
	t := &l.crowd.opt.Targets[l.route[s.target]]
	b := l.scratch[:0]
	switch s.transport {
	case SSE:
		b = append(b, "GET "...)
		b = append(b, t.Base...)
		b = append(b, "/tasks/"...)
		b = append(b, s.task.ID...)
		b = append(b, "/events/stream HTTP/1.1\r\nAccept: text/event-stream\r\n"...)
		if s.cursorLen > 0 {
			b = append(b, "Last-Event-ID: "...)
			b = append(b, s.cursor[:s.cursorLen]...)
			b = append(b, "\r\n"...)
		}
	case WebSocket:
		b = append(b, "GET "...)
		b = append(b, t.Base...)
		b = append(b, "/tasks/ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+wsKey+"\r\n"...)
	}
	b = append(b, "Host: "...)
	b = append(b, t.Host...)
	b = append(b, "\r\nAuthorization: Bearer "...)
	b = append(b, l.crowd.opt.Token...)
	b = append(b, "\r\n\r\n"...)
	l.scratch = b
	s.send(b)
}

// answered takes the head of the answer and reports whether a stream follows.
func (s *sub) answered(h *wire.Head) bool {
	l := s.loop
	switch {
	case h.Status == 429 || h.Status == 503:
		l.stats.Delayed++
		s.drop()
		s.comeBack(int64(h.RetryAfter) * 1000)
		return false
	case h.Status == 204 && s.transport == SSE && s.log.Terminal():
		s.drop()
		s.finish()
		return false
	case s.transport == SSE && h.Status == 200,
		s.transport == WebSocket && h.Status == 101 && h.Accept == wsAccept:
	default:
		l.counters.Refused++
		s.violation("refused with status ", uint64(h.Status))
		s.drop()
		s.comeBack(1000)
		return false
	}
	s.retry, s.closeSeen = -1, false
	s.sse.Reset()
	s.ws.Reset()
	s.sse.Plain = !h.Chunked
	if s.transport == WebSocket {
		s.state = subscribing
		s.subscribe()
	} else {
		s.attached()
	}
	return true
}

func (s *sub) subscribe() {
	frame := fmt.Appendf(nil, `{"action":"subscribe","taskId":%q`, s.task.ID)
	if s.cursorLen > 0 {
		frame = fmt.Appendf(frame, `,"lastEventId":%q`, s.cursor[:s.cursorLen])
	}
	s.send(wire.AppendFrame(nil, wire.OpText, append(frame, '}')))
}

// attached is where a connection becomes a stream.
func (s *sub) attached() {
	l := s.loop
	l.opening--
	s.state, s.tries = streaming, 0
	l.stats.Attached++
	l.stats.Open++
	s.liveSince = l.now
	if s.cutAt != 0 {
		l.resumes.Record(l.now - s.cutAt)
		s.cutAt = 0
	}
	if s.class == Slow && !s.released {
		l.after(s, int64(l.crowd.opt.SlowEvery), readTimer)
	}
}

func (s *sub) lateAtDoor() {
	if s.state == connecting || s.state == asking || s.state == subscribing {
		s.note("no stream after " + doorTime.String())
		s.loop.stats.Delayed++
		s.drop()
		s.comeBack(100)
	}
}
