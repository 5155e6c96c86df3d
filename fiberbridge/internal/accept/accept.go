// Package accept accepts connections without running out of descriptors. Near the
// limit it closes connections that wait for their clients, the longest idle first,
// to accept new ones. While none can be closed, new connections wait in the
// kernel's queue.
package accept

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// grace is how long a connection may wait for its client before it can be
	// closed for another one.
	grace = 25 * time.Millisecond
	// writeGrace is the same for one whose client takes nothing.
	writeGrace = 5 * time.Second
	// tick is how often a full listener checks whether there is room again.
	tick = 5 * time.Millisecond
	// stuckTime is how long no connection can be closed before that is logged.
	stuckTime = 250 * time.Millisecond
	// longestWait bounds the pause after an accept that failed.
	longestWait = time.Second
	// batch: one of so many idle connections is closed at once, so that not every
	// accept has to search for some.
	batch = 32
	// least is how many connections there may be in any case, even if other files
	// use all descriptors.
	least = 8
	// quiet is the shortest time between two log lines of a listener that is full.
	quiet = 10 * time.Second
)

// Options tune a Listener.
type Options struct {
	// Ceiling is the number of descriptors of the process, of whatever kind, from
	// which on idle connections are closed for new ones. The descriptors above it
	// are for files, databases and the like. Zero is no ceiling.
	Ceiling int
	// Max is how many connections may be open. One place of them is kept free for
	// the next connection while idle ones can be closed. Zero is no bound.
	Max int
	// Opened is called with +1 and -1, and Closed with the number of idle
	// connections that are closed for new ones. Waited is called when no
	// connection can be accepted for the moment. All may be nil.
	Opened func(delta int64)
	Closed func(n int64)
	Waited func()
	Log    *slog.Logger
}

// Listener is a net.Listener that keeps accepting when descriptors run out. TCP
// connections that it returns are *Conn; others are not closed for new ones.
type Listener struct {
	net.Listener
	opts  Options
	began time.Time

	// freed holds a token when a connection was closed lately.
	freed chan struct{}
	done  chan struct{}
	once  sync.Once

	mu    sync.Mutex
	conns []*Conn
	// target is how many connections may be open before the next is accepted,
	// negative for no bound.
	target int

	// Only Accept uses these.
	told         time.Time // when the log was last told
	closedUntold int
}

// New returns a Listener on ln. Closing it closes ln.
func New(ln net.Listener, opts Options) *Listener {
	if opts.Opened == nil {
		opts.Opened = func(int64) {}
	}
	if opts.Closed == nil {
		opts.Closed = func(int64) {}
	}
	if opts.Waited == nil {
		opts.Waited = func() {}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Listener{
		Listener: ln, opts: opts, began: time.Now(), target: -1,
		freed: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Accept returns the next connection. Out of descriptors, or full, it waits and
// makes room. It fails only when the listener is closed or broken.
func (l *Listener) Accept() (net.Conn, error) {
	wait := time.Duration(0)
	for {
		if !l.makeRoom() {
			return nil, net.ErrClosed
		}
		conn, err := l.Listener.Accept()
		if err == nil {
			return l.take(conn), nil
		}
		if !passing(err) {
			return nil, err
		}
		l.opts.Waited()
		closed, _ := l.evict(1)
		l.tell("a connection could not be accepted", closed, slog.Any("error", err))
		wait = min(max(2*wait, tick), longestWait)
		if !l.pause(wait) {
			return nil, net.ErrClosed
		}
	}
}

// take counts a connection, and sets how many may stay open if there are too many.
func (l *Listener) take(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	c := &Conn{TCPConn: tcp, l: l}
	number := -1
	if l.opts.Ceiling > 0 {
		number = descriptor(tcp)
	}
	l.mu.Lock()
	c.place = len(l.conns)
	l.conns = append(l.conns, c)
	open := len(l.conns)
	l.target = -1
	if number >= l.opts.Ceiling && l.opts.Ceiling > 0 {
		// The system gives the lowest number that is free: as many descriptors as
		// that are in use, whoever opened them.
		l.target = max(open-(number-l.opts.Ceiling)-1, least)
	}
	if l.opts.Max > 0 && open >= l.opts.Max {
		if most := l.opts.Max - 1; l.target < 0 || most < l.target {
			l.target = most
		}
	}
	l.mu.Unlock()
	l.opts.Opened(1)
	return c
}

// makeRoom returns when one more connection may be accepted, or false if the
// listener was closed. It does not wait for that connection, so that one place
// is always free.
func (l *Listener) makeRoom() bool {
	var stuck time.Time // since when nothing could be closed
	waited := false
	for {
		l.mu.Lock()
		over := 0
		if l.target >= 0 {
			over = len(l.conns) - l.target
		}
		l.mu.Unlock()
		if over <= 0 {
			return true
		}
		switch closed, leaving := l.evict(over); {
		case closed > 0:
			l.tell("idle connections are closed for new ones", closed)
		case leaving > 0:
		case stuck.IsZero():
			stuck = time.Now()
		case time.Since(stuck) > stuckTime:
			if !waited {
				waited = true
				l.opts.Waited()
			}
			l.tell("no connection can be accepted: all open ones are in use", 0)
		}
		if !l.pause(tick) {
			return false
		}
	}
}

// pause waits until a connection was closed, at most for d. It returns false if the
// listener was closed.
func (l *Listener) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.freed:
	case <-timer.C:
	case <-l.done:
		return false
	}
	return true
}

// evict makes sure that n connections are being closed, and closes those first that
// have waited for their clients for longest. If many are idle it closes more. leaving
// is how many were being closed before.
func (l *Listener) evict(n int) (closed, leaving int) {
	type idle struct {
		conn  *Conn
		since int64
	}
	var all []idle
	now := l.now()
	l.mu.Lock()
	for _, c := range l.conns {
		if c.leaving() {
			leaving++
		} else if since, ok := c.idle(now-int64(grace), now-int64(writeGrace)); ok {
			all = append(all, idle{c, since})
		}
	}
	l.mu.Unlock()
	if n <= leaving {
		return 0, leaving
	}
	n = max(n-leaving, len(all)/batch)
	slices.SortFunc(all, func(a, b idle) int { return cmp.Compare(a.since, b.since) })
	for _, i := range all {
		if closed == n {
			break
		}
		if i.conn.leave(i.since) {
			closed++
		}
	}
	if closed > 0 {
		l.opts.Closed(int64(closed))
	}
	return closed, leaving
}

// tell logs what happened, at most once in quiet.
func (l *Listener) tell(what string, closed int, more ...any) {
	l.closedUntold += closed
	if !l.told.IsZero() && time.Since(l.told) < quiet {
		return
	}
	l.mu.Lock()
	open := len(l.conns)
	l.mu.Unlock()
	l.opts.Log.Warn("listener: "+what, append([]any{
		slog.Int("open", open), slog.Int("closed_idle", l.closedUntold), slog.Int("descriptors", l.opts.Ceiling),
	}, more...)...)
	l.told, l.closedUntold = time.Now(), 0
}

// Close closes the listener. The connections stay open.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// Open returns how many connections are open.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

func (l *Listener) remove(c *Conn) {
	l.mu.Lock()
	last := len(l.conns) - 1
	l.conns[c.place] = l.conns[last]
	l.conns[c.place].place = c.place
	l.conns[last] = nil
	l.conns = l.conns[:last]
	l.mu.Unlock()
	l.opts.Opened(-1)
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// now returns the time since the listener was made. It is never zero.
func (l *Listener) now() int64 { return int64(time.Since(l.began)) + 1 }

// passing reports whether an accept may succeed when it is tried again.
func passing(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	for _, errno := range passingErrors {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
