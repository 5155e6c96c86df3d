//go:build linux

package crowd

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
)

// loop is one thread with an epoll instance. Everything in it belongs to that
// thread; others ask for it with do.
type loop struct {
	crowd *Crowd
	index int
	epoll int
	wake  int // eventfd
	ended chan struct{}

	mu      sync.Mutex
	pending []func()
	closed  bool

	subs    []*sub // nil: a place that is free
	free    []place
	queue   []*sub // wait for a place among those that connect
	opening int    // connects under way
	dials   int
	timers  timers
	buf     []byte
	scratch []byte
	start   time.Time
	now     int64 // Unix microseconds, taken after each read
	rand    *rand.Rand
	route   []int
	stopped bool

	stats    Stats
	totals   totals
	counters check.Counters
	interval *Latencies
	total    *Latencies
	resumes  hist.Hist // from a cut to the next stream
	marked   int
	reached  []int64
}

func newLoop(c *Crowd, index int) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1})
	}
	if err != nil {
		_ = unix.Close(epoll)
		return nil, err
	}
	l := &loop{
		crowd: c, index: index, epoll: epoll, wake: wake, ended: make(chan struct{}),
		buf: make([]byte, 256<<10), start: time.Now(), rand: rand.New(rand.NewPCG(c.opt.Seed, uint64(index))),
		interval: new(Latencies), total: new(Latencies),
	}
	for i := range c.opt.Targets {
		l.route = append(l.route, i)
	}
	go l.run()
	return l, nil
}

// do runs fn on the loop's thread, soon; never, if the loop has ended.
func (l *loop) do(fn func()) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		fn() // nobody else is there any more
		return
	}
	l.pending = append(l.pending, fn)
	l.mu.Unlock()
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (l *loop) stop() { l.do(func() { l.stopped = true }) }

func (l *loop) run() {
	runtime.LockOSThread()
	defer close(l.ended)
	events := make([]unix.EpollEvent, 512)
	for !l.stopped {
		l.ring()
		l.connectMore()
		l.totals.publish(&l.stats)
		n, err := unix.EpollWait(l.epoll, events, l.patience())
		if err != nil && err != unix.EINTR {
			l.crowd.report("epoll_wait: " + err.Error())
			break
		}
		for i := range max(n, 0) {
			l.dispatch(&events[i])
		}
	}
	for _, s := range l.subs {
		if s != nil {
			s.drop()
		}
	}
	l.totals.publish(&l.stats)
	l.mu.Lock()
	l.closed = true
	rest := l.pending
	l.mu.Unlock()
	for _, fn := range rest {
		fn()
	}
	_ = unix.Close(l.wake)
	_ = unix.Close(l.epoll)
}

func (l *loop) dispatch(e *unix.EpollEvent) {
	if e.Fd < 0 {
		var count [8]byte
		_, _ = unix.Read(l.wake, count[:])
		l.mu.Lock()
		todo := l.pending
		l.pending = nil
		l.mu.Unlock()
		for _, fn := range todo {
			fn()
		}
		return
	}
	// An event may speak of a socket that an earlier one of its batch closed.
	if s := l.subs[e.Fd]; s != nil && s.fd >= 0 && uint32(e.Pad) == s.gen {
		s.ready(e.Events)
	}
}

func (l *loop) mono() int64 { return int64(time.Since(l.start)) }

// place is one that was given back, with the generation it had got to: events
// of its last connection may still be on their way.
type place struct {
	index int32
	gen   uint32
}

func (l *loop) add(spec Spec) *sub {
	s := &sub{loop: l, task: spec.Task, transport: spec.Transport, class: spec.Class, target: spec.Target, fd: -1}
	if n := len(l.free); n > 0 {
		s.index, s.gen = l.free[n-1].index, l.free[n-1].gen
		l.free = l.free[:n-1]
		l.subs[s.index] = s
		return s
	}
	s.index = int32(len(l.subs))
	l.subs = append(l.subs, s)
	return s
}

// reopen connects all that were cut.
func (l *loop) reopen(spread time.Duration) {
	var idle []*sub
	for _, s := range l.subs {
		if s != nil && s.state == away {
			idle = append(idle, s)
		}
	}
	l.open(idle, spread)
}

// open connects those that are away, evenly over a time.
func (l *loop) open(idle []*sub, spread time.Duration) {
	for i, s := range idle {
		if spread == 0 {
			l.enqueue(s)
			continue
		}
		s.state = waiting
		l.after(s, int64(spread)*int64(i)/int64(len(idle)), openTimer)
	}
}

func (l *loop) enqueue(s *sub) {
	s.state = waiting
	l.queue = append(l.queue, s)
}

func (l *loop) connectMore() {
	for len(l.queue) > 0 && l.opening < l.crowd.opt.Window {
		s := l.queue[0]
		l.queue = l.queue[1:]
		if s.state == waiting {
			s.connect()
		}
	}
	if len(l.queue) == 0 {
		l.queue = nil
	}
}

func (l *loop) cut() {
	l.queue = nil
	for _, s := range l.subs {
		if s != nil && s.state != done {
			s.drop()
			s.state = away
		}
	}
}

func (l *loop) churn(n int) {
	for try := 0; n > 0 && try < 4*len(l.subs); try++ {
		s := l.subs[l.rand.IntN(len(l.subs))]
		if s != nil && s.state == streaming && !s.log.Terminal() {
			s.drop()
			s.comeBack(0)
			n--
		}
	}
}

func (l *loop) release() {
	for _, s := range l.subs {
		if s != nil && s.class != Steady && !s.released {
			s.released = true
			if s.fd >= 0 {
				s.read()
			}
		}
	}
}

// forget empties the places of those who are done. The others keep theirs:
// epoll knows them by it.
func (l *loop) forget() {
	for i, s := range l.subs {
		if s != nil && s.state == done && s.fd < 0 {
			l.subs[i] = nil
			l.free = append(l.free, place{s.index, s.gen})
		}
	}
}

func (l *loop) mark(marks map[*Task]uint64) {
	l.marked, l.reached = 0, nil
	for _, s := range l.subs {
		if s == nil {
			continue
		}
		s.mark = 0
		if ordinal, ok := marks[s.task]; ok && s.log.Last() < ordinal {
			s.mark = ordinal
			l.marked++
		}
	}
}

func (l *loop) finish() {
	for _, s := range l.subs {
		if s != nil && s.state != done {
			before := l.counters.Lost
			s.log.Finish(s.task.Head(), &l.counters)
			if !s.log.Terminal() {
				s.violation("did not see the end; events missing: ", l.counters.Lost-before)
			}
		}
	}
}
