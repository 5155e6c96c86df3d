//go:build linux

package crowd

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/wire"
)

// sub is one subscriber: a log that is checked, and a connection now and then.
type sub struct {
	loop      *loop
	task      *Task
	log       check.Log
	sse       wire.SSE
	ws        wire.WS
	head      []byte   // of an answer, until it is complete
	out       []byte   // what the socket did not take
	cursor    [40]byte // the id of the newest event, in the server's own words
	cursorLen uint8
	liveSince int64 // Unix microseconds at which this connection became a stream
	retry     int64 // ms, from the stream
	cutAt     int64 // Unix microseconds at which the last connection was cut
	mark      uint64
	fd        int
	index     int32
	gen       uint32 // of the connection
	target    int
	tries     int
	state     state
	transport Transport
	class     Class
	released  bool
	hup       bool // the peer is gone, and we have not read that yet
	closeSeen bool // a WebSocket's close frame came
}

type state uint8

const (
	away        state = iota // until told
	waiting                  // for its turn or its time
	connecting               // TCP
	asking                   // the request is out
	subscribing              // a WebSocket's first frame is
	streaming
	done
)

func (s *sub) reads() bool { return s.class == Steady || s.released }

// ready takes what epoll says.
func (s *sub) ready(events uint32) {
	if s.state == connecting {
		if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			return
		}
		if code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			s.loop.stats.Delayed++
			s.drop()
			if s.tries++; s.tries == 5 {
				s.note("connect: " + syscall.Errno(code).Error())
			}
			s.comeBack(100)
			return
		}
		s.ask()
		return
	}
	if len(s.out) > 0 && events&unix.EPOLLOUT != 0 {
		s.flush()
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 || s.fd < 0 {
		return
	}
	s.hup = s.hup || events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	if s.state == streaming && !s.reads() {
		return // a slow one reads by the clock, a stalled one not at all
	}
	s.read()
}

func (s *sub) send(b []byte) {
	s.out = append(s.out, b...)
	s.flush()
}

func (s *sub) flush() {
	for len(s.out) > 0 {
		n, err := unix.Write(s.fd, s.out)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // full: epoll tells; broken: reading tells
			return
		}
		s.out = s.out[n:]
	}
	s.out = nil
}

// read takes all that the socket has.
func (s *sub) read() {
	l := s.loop
	for s.fd >= 0 {
		n, errno := readSocket(s.fd, l.buf)
		if errno == unix.EAGAIN {
			return
		}
		if errno == unix.EINTR {
			continue
		}
		if n <= 0 {
			s.ended()
			return
		}
		s.took(l.buf[:n])
		// Less than there was room for: the socket is empty, and epoll tells
		// when that changes. Only an end is not told twice.
		if n < len(l.buf) && !s.hup || s.state == streaming && !s.reads() {
			return
		}
	}
}

// sip is how a slow subscriber reads.
func (s *sub) sip() {
	if s.fd < 0 || s.state != streaming || s.released {
		return
	}
	l := s.loop
	n, errno := readSocket(s.fd, l.buf[:l.crowd.opt.SlowBytes])
	if errno != unix.EAGAIN && n <= 0 {
		s.ended()
		return
	}
	if n > 0 {
		s.took(l.buf[:n])
	}
	if s.fd >= 0 {
		l.after(s, int64(l.crowd.opt.SlowEvery), readTimer)
	}
}

func (s *sub) took(b []byte) {
	l := s.loop
	l.now = time.Now().UnixMicro()
	l.stats.Reads++
	l.stats.Bytes += uint64(len(b))
	if s.state == asking {
		s.head = append(s.head, b...)
		head, n, err := wire.ParseHead(s.head)
		if err != nil {
			s.corrupt("answer", err)
			s.drop()
			s.comeBack(100)
			return
		}
		if n == 0 {
			return
		}
		b = s.head[n:]
		s.head = nil
		if !s.answered(&head) {
			return
		}
	}
	var err error
	switch s.transport {
	case SSE:
		err = s.sse.Feed(b, s.block)
	case WebSocket:
		err = s.ws.Feed(b, s.frame)
	}
	if err != nil && s.fd >= 0 {
		s.corrupt("stream", err)
		s.drop()
		s.comeBack(100)
	}
}

// ended takes the end of a connection.
func (s *sub) ended() {
	l := s.loop
	clean := s.transport == SSE && (s.sse.Ended() || s.sse.Plain && s.log.Terminal()) || s.transport == WebSocket && s.closeSeen
	wasStream := s.state == streaming
	if wasStream {
		s.cutAt = time.Now().UnixMicro()
	}
	s.drop()
	switch {
	case s.log.Terminal() && clean:
		s.finish()
		return
	case wasStream && clean:
		l.counters.BadEnds++
		s.violation("a clean end without the terminal event, behind ordinal ", s.log.Last())
	case s.log.Terminal():
		// Seen, and cut before its end: a reconnect gets 204 or 1000.
		l.stats.Cuts++
	case wasStream:
		l.stats.Cuts++
	default:
		l.stats.Delayed++
	}
	s.comeBack(max(s.retry, 0))
}

func (s *sub) finish() {
	if s.state != done {
		s.state = done
		s.loop.stats.Done++
	}
}

// comeBack connects again after what the server asked for, within bounds, and
// a little chance.
func (s *sub) comeBack(ms int64) {
	l := s.loop
	wait := time.Duration(min(ms, l.crowd.opt.Backoff.Milliseconds())) * time.Millisecond
	wait += time.Duration(l.rand.Int64N(int64(50 * time.Millisecond)))
	s.state = waiting
	if n := len(l.crowd.opt.Targets); n > 1 {
		s.target = (s.target + 1) % n
	}
	l.after(s, int64(wait), openTimer)
}

// drop closes the connection if there is one, and makes its timers void.
func (s *sub) drop() {
	if s.fd < 0 {
		s.gen++
		return
	}
	switch s.state {
	case connecting, asking, subscribing:
		s.loop.opening--
	case streaming:
		s.loop.stats.Open--
	}
	_ = unix.Close(s.fd) // which takes it out of epoll
	s.fd, s.out, s.head, s.hup = -1, nil, nil, false
	s.gen++
}

func (s *sub) note(what string) {
	s.loop.crowd.report(s.String() + ": " + what)
}

func (s *sub) violation(what string, n uint64) {
	s.note(fmt.Sprint(what, n))
}

func (s *sub) corrupt(what string, err error) {
	s.loop.counters.Corrupt++
	s.note(what + ": " + err.Error())
}

func (s *sub) String() string {
	return fmt.Sprintf("%v subscriber %d.%d of task %s", s.transport, s.loop.index, s.index, s.task.ID)
}

// readSocket is read(2) without telling Go's scheduler: the socket never blocks.
func readSocket(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), 0
}
