package socket

import (
	"io"
	"math"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fast is a descriptor that was taken over. Every system call on it is made
// with the Socket's lock held and the Socket not closed.
type fast struct {
	loop *loop
	fd   int32
	slot uint32
}

func (f *fast) group() *Group { return f.loop.g }

// duplicate returns a descriptor of tcp's connection that is ours, 3 or above:
// lower numbers belong to standard streams, whoever closed them. It shares the
// description, so it does not block either, and closing one of the two does
// not end the connection.
func duplicate(tcp *net.TCPConn) (fd int, err error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	if err := raw.Control(func(original uintptr) {
		fd, dupErr = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 3)
	}); err != nil {
		return -1, err
	}
	return fd, os.NewSyscallError("fcntl", dupErr)
}

// fastWrite writes until all is written or the socket is full. It ends with
// EAGAIN only: that is what makes the kernel report the next free space.
// fastWrite holds the lock that event needs to see full, so an edge in between
// is not lost.
func (s *Socket) fastWrite(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := sendNow(s.fast.fd, p[n:])
		switch err {
		case 0:
			n += m
		case unix.EINTR:
		case unix.EAGAIN:
			s.state |= full
			return n, nil
		default:
			s.failed = uint16(err)
			// Whatever it was, the loop hears of the end.
			_ = unix.Shutdown(int(s.fast.fd), unix.SHUT_RDWR)
			return n, os.NewSyscallError("send", err)
		}
	}
	return n, nil
}

// sendNow is send(2) of p, which is not empty. The call never waits, so the
// scheduler need not be told of it; and it has neither the message header that
// sendmsg copies in, nor the address that package unix's Sendto wants.
func sendNow(fd int32, p []byte) (n int, err unix.Errno) {
	// The pointer is used during the call only (unsafe.Pointer, rule 4).
	r, _, err := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	return int(r), err
}

// fastFinish sends a FIN after what was written.
func (s *Socket) fastFinish() {
	err := unix.Shutdown(int(s.fast.fd), unix.SHUT_WR)
	if err != nil || s.state&ended != 0 {
		s.closeLocked() // there is no peer to wait for
	}
}

// fastClose ends the connection and gives the descriptor back.
func (s *Socket) fastClose() {
	fd := int(s.fast.fd)
	// The order matters: an epoll entry belongs to the open connection, not to
	// the number, and outlives our close while the original is open.
	_ = unix.EpollCtl(s.fast.loop.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	// For the same reason our close alone would not tell the peer.
	_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	_ = unix.Close(fd)
	s.fast.loop.release(s.fast.slot)
}

// arrived hands over what was read before the take-over.
func (s *Socket) arrived(pending []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state&(closed|draining) == 0 {
		s.call(func() { s.h.Readable(pending) })
	}
}

// event is a loop's: it does what the events ask for. more is true if bytes
// were left that no further event will tell of, unless the loop knows already.
func (s *Socket) event(events uint32, buf []byte) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.state |= left
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		// The end is what a read finds behind the last bytes, whatever the
		// events say: so bytes come before it.
		more = s.receive(buf) && s.state&queued == 0
	}
	if events&unix.EPOLLOUT != 0 && s.state&(full|closed) == full {
		s.state &^= full
		s.call(s.h.Writable)
	}
	if more {
		s.state |= queued
	}
	return more
}

// turn is a loop's, for a socket that event or turn returned true for.
func (s *Socket) turn(buf []byte) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	more = s.receive(buf)
	if !more {
		s.state &^= queued
	}
	return more
}

// receive reads until nothing is left, or it is the others' turn. Of a paused
// socket it finds the end, if there is one.
func (s *Socket) receive(buf []byte) (more bool) {
	for range readsPerTurn {
		switch {
		case s.state&closed != 0:
			return false
		case s.state&(paused|left) == paused:
			s.state |= unread
			return false
		}
		n, err := unix.Read(int(s.fast.fd), buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false
		case err != nil || n == 0:
			s.hangup(s.lost(err))
			return false
		case s.state&(draining|paused) == 0: // else it is thrown away
			s.call(func() { s.h.Readable(buf[:n]) })
		}
	}
	return true
}

// fastResume has the loop read what came during a pause.
func (s *Socket) fastResume() { s.fast.loop.resume(s) }

// lost is the reason of the connection's end, after a read that gave err.
func (s *Socket) lost(err error) error {
	switch {
	case s.failed != 0:
		return os.NewSyscallError("send", unix.Errno(s.failed))
	case err != nil:
		return os.NewSyscallError("read", err)
	}
	return io.EOF
}

func (s *Socket) fastUserTimeout(d time.Duration) { setUserTimeout(int(s.fast.fd), d) }

// fastBacklog asks for the send queue: what is not sent and what is not
// acknowledged (SIOCOUTQ, tcp(7)).
func (s *Socket) fastBacklog() (n int, ok bool) {
	n, err := unix.IoctlGetInt(int(s.fast.fd), unix.SIOCOUTQ)
	return n, err == nil
}

// apply sets the options of a new connection. They are refinements: a kernel
// that does not know one serves without it.
func (o Options) apply(fd int) {
	if o.NotSentBytes > 0 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, o.NotSentBytes)
	}
	if o.UserTimeout > 0 {
		setUserTimeout(fd, o.UserTimeout)
	}
}

func setUserTimeout(fd int, d time.Duration) {
	ms := min(max(0, (d+time.Millisecond-1)/time.Millisecond), math.MaxInt32)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms))
}

// tune sets the options of a connection that is served through net.Conn.
func (o Options) tune(tcp *net.TCPConn) {
	control(tcp, o.apply)
}

// tcpUserTimeout is SetUserTimeout for such a connection; it reports whether
// the system has the option.
func tcpUserTimeout(tcp *net.TCPConn, d time.Duration) bool {
	control(tcp, func(fd int) { setUserTimeout(fd, d) })
	return true
}

func control(tcp *net.TCPConn, f func(fd int)) {
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
