package socket

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	eventsPerWait = 256
	// readBuffer is a loop's, lent to Readable. A client says little.
	readBuffer = 16 << 10
	// readsPerTurn bounds what one socket may hand over before the others of
	// its loop have theirs.
	readsPerTurn = 4
)

// interest is registered once: with edges, a write that does not block causes
// no event, and one that does causes one when it can go on.
const interest = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// loop watches the descriptors of its sockets and makes all their Handlers'
// calls.
//
// Its epoll descriptor is itself watched by Go's poller (epoll sets nest). So
// the goroutine parks like any other: a thread that blocks in epoll_wait would
// hold its P until the scheduler's monitor notices, up to 10 ms later.
type loop struct {
	g    *Group
	epfd int
	file *os.File // epfd, as Go's poller sees it
	raw  syscall.RawConn

	mu       sync.Mutex
	refused  error // why no more are taken; guarded by mu
	stopping bool  // guarded by mu
	slots    []slot
	freeSlot uint32    // the first free slot, counted from 1; 0 is none
	arrivals []arrival // guarded by mu
	resumed  []*Socket // guarded by mu: were paused, may have something to read
}

// slot is what the data of an epoll event names. Its generation grows with
// each use, so that an event that was fetched before a close is not taken for
// the next user's.
type slot struct {
	s          *Socket
	generation uint32
	nextFree   uint32
}

// arrival is a new socket whose first bytes were read before.
type arrival struct {
	s       *Socket
	pending []byte
}

func (g *Group) startLoops() error {
	for range g.opt.Loops {
		l, err := newLoop(g)
		if err != nil {
			for _, l := range g.loops {
				l.close()
			}
			g.wg.Wait()
			g.loops = nil
			return err
		}
		g.loops = append(g.loops, l)
		g.wg.Add(1)
		go l.run()
	}
	return nil
}

func newLoop(g *Group) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil { // NewFile's sign that it can be polled
		_ = unix.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{g: g, epfd: epfd, file: os.NewFile(uintptr(epfd), "epoll")}
	if err := l.file.SetReadDeadline(time.Time{}); err != nil { // it is not polled after all
		_ = l.file.Close()
		return nil, err
	}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		_ = l.file.Close()
		return nil, err
	}
	return l, nil
}

// adopt takes over tcp's connection.
func (l *loop) adopt(s *Socket, tcp *net.TCPConn, pending []byte) error {
	fd, err := duplicate(tcp)
	if err != nil {
		return err
	}
	s.mu.Lock() // the first event waits until all is set
	defer s.mu.Unlock()
	s.fast = fast{loop: l, fd: int32(fd)}
	if err := l.register(s, pending); err != nil {
		_ = unix.Close(fd)
		return err
	}
	l.g.open.Add(1)
	l.g.opt.apply(fd)
	if l.g.opt.KeepAlive.Enable {
		_ = tcp.SetKeepAliveConfig(l.g.opt.KeepAlive) // an option of the connection, not of a descriptor
	}
	return nil
}

// register gives s a slot and its descriptor to epoll.
func (l *loop) register(s *Socket, pending []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused != nil {
		return l.refused
	}
	if l.freeSlot == 0 {
		l.slots = append(l.slots, slot{})
		l.freeSlot = uint32(len(l.slots))
	}
	place := l.freeSlot - 1
	at := &l.slots[place]
	event := unix.EpollEvent{Events: interest, Fd: int32(place), Pad: int32(at.generation)}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, int(s.fast.fd), &event); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	l.freeSlot, at.nextFree, at.s = at.nextFree, 0, s
	s.fast.slot = place
	if len(pending) > 0 {
		// Under the same lock as the registration: run takes the arrivals
		// before it looks at an event, so these come first.
		l.arrivals = append(l.arrivals, arrival{s: s, pending: append([]byte(nil), pending...)})
		l.wake()
	}
	return nil
}

// resume has run look at s again.
func (l *loop) resume(s *Socket) {
	l.mu.Lock()
	l.resumed = append(l.resumed, s)
	l.mu.Unlock()
	l.wake()
}

// release frees the slot of a closed socket.
func (l *loop) release(place uint32) {
	l.mu.Lock()
	at := &l.slots[place]
	at.s = nil
	at.generation++
	at.nextFree, l.freeSlot = l.freeSlot, place+1
	l.mu.Unlock()
}

// wake lets run look at what was left for it under mu.
func (l *loop) wake() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) }

// run is the loop's goroutine.
func (l *loop) run() {
	defer l.g.wg.Done()
	defer l.file.Close() // no socket is left to use epfd
	var (
		events  [eventsPerWait]unix.EpollEvent
		ready   [eventsPerWait]*Socket
		buf     = make([]byte, readBuffer)
		again   []*Socket // have more to read
		fetched int
		failed  error
	)
	fetch := func(epfd uintptr) bool {
		fetched, failed = epollWait(int(epfd), events[:])
		return fetched != 0 || failed != nil || len(again) > 0
	}
	for {
		fetched, failed = 0, nil
		err := l.raw.Read(fetch)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// wake. Its reason was left under mu before, so it is seen below.
			err = l.file.SetReadDeadline(time.Time{})
		}
		if err = errors.Join(err, failed); err != nil {
			l.fail(err)
			return
		}
		l.mu.Lock()
		stopping, arrivals, resumed := l.stopping, l.arrivals, l.resumed
		l.arrivals, l.resumed = nil, nil
		for i := range events[:fetched] {
			ready[i] = l.find(&events[i])
		}
		l.mu.Unlock()
		if stopping {
			return
		}
		for _, a := range arrivals {
			a.s.arrived(a.pending)
		}
		again = append(again, resumed...)
		turn := again
		again = nil
		for _, s := range turn {
			if s.turn(buf) {
				again = append(again, s)
			}
		}
		for i, s := range ready[:fetched] {
			if s != nil && s.event(events[i].Events, buf) {
				again = append(again, s)
			}
			ready[i] = nil
		}
	}
}

// find returns the socket that an event is about, nil if it was closed after
// the event was fetched. Called with mu held.
func (l *loop) find(e *unix.EpollEvent) *Socket {
	if at := l.slots[e.Fd]; at.generation == uint32(e.Pad) {
		return at.s
	}
	return nil
}

func epollWait(epfd int, events []unix.EpollEvent) (n int, err error) {
	for {
		n, err = unix.EpollWait(epfd, events, 0)
		if err != unix.EINTR {
			return max(n, 0), os.NewSyscallError("epoll_wait", err)
		}
	}
}

// fail ends a loop that cannot watch any more: each of its sockets hangs up.
func (l *loop) fail(err error) {
	for _, s := range l.refuse(err) {
		s.mu.Lock()
		s.hangup(err)
		s.closeLocked()
		s.mu.Unlock()
	}
}

// close closes the loop's sockets and lets run end.
func (l *loop) close() {
	for _, s := range l.refuse(net.ErrClosed) {
		s.Close()
	}
	l.mu.Lock()
	l.stopping = true
	l.mu.Unlock()
	l.wake()
}

// refuse lets no more sockets in and returns those that are there.
func (l *loop) refuse(why error) []*Socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		l.refused = why
	}
	var rest []*Socket
	for _, at := range l.slots {
		if at.s != nil {
			rest = append(rest, at.s)
		}
	}
	return rest
}
