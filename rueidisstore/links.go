package rueidisstore

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// links are the open connections of a client. The store keeps them so that it can
// close those that lead to the wrong server: after a promotion behind a virtual
// IP, a Service or a TCP proxy, the old connections stay with the old server,
// which answers READONLY for ever. rueidis drops a connection only if it breaks,
// and has no call that drops one.
type links struct {
	logger  *slog.Logger
	dropped func() // called after connections were dropped
	// dialed counts the connections that were ever made; it numbers them.
	dialed atomic.Uint64

	// life ends with abort. No connection is made after that.
	life context.Context
	end  context.CancelFunc

	mu    sync.Mutex
	open  map[*link]struct{}
	last  time.Time // when some were dropped
	pause time.Duration
}

func newLinks(logger *slog.Logger, dropped func()) *links {
	l := &links{logger: logger, dropped: dropped, open: map[*link]struct{}{}}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

// link is one connection.
type link struct {
	net.Conn
	of     *links
	number uint64
	addr   string
	born   time.Time
}

// These are the first and the longest pause after the store has dropped
// connections, before it drops any again: new ones lead to the same server until
// the address is switched. The pauses are longer after answers that the right
// server may give as well (doubt).
const (
	minDropPause, maxDropPause   = 100 * time.Millisecond, time.Second
	minDoubtPause, maxDoubtPause = 2 * time.Second, 30 * time.Second
)

// dialFunc is how rueidis asks for a connection.
type dialFunc = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// dialer returns the host's function for dialing in o, or else one that dials as
// rueidis does.
func dialer(o rueidis.ClientOption) dialFunc {
	ctxFn, fn := o.DialCtxFn, o.DialFn
	switch {
	case ctxFn != nil:
		return ctxFn
	case fn != nil:
		return func(_ context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
			return fn(addr, d, cfg)
		}
	}
	return func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
		if cfg != nil {
			return (&tls.Dialer{NetDialer: d, Config: cfg}).DialContext(ctx, "tcp", addr)
		}
		return d.DialContext(ctx, "tcp", addr)
	}
}

// through makes a client with the option o dial through l.
func (l *links) through(o *rueidis.ClientOption) {
	dial, nagle := dialer(*o), o.DisableTCPNoDelay
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, cfg *tls.Config) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(l.life, cancel)()
		conn, err := dial(ctx, addr, d, cfg)
		if err != nil {
			return nil, err
		}
		if nagle { // rueidis does not find the TCP connection inside a link
			enableNagle(conn)
		}
		k := &link{Conn: conn, of: l, number: l.dialed.Add(1), addr: addr, born: time.Now()}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.life.Err() != nil {
			k.cut()
			return nil, net.ErrClosed
		}
		l.open[k] = struct{}{}
		return k, nil
	}
}

// abort ends all connections and prevents new ones.
func (l *links) abort() {
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.open {
		k.cut()
	}
}

func enableNagle(conn net.Conn) {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetNoDelay(false)
	}
}

// Close implements net.Conn.
func (k *link) Close() error {
	k.of.mu.Lock()
	delete(k.of.open, k)
	k.of.mu.Unlock()
	return k.Conn.Close()
}

// cut closes the TCP connection, without TLS's farewell: that may wait for a server
// which reads no more.
func (k *link) cut() {
	conn := k.Conn
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	_ = conn.Close()
}

// drop closes the connections to addrs that are numbered up to before, because an
// answer said that they lead to the wrong server. certain is false if the right
// server may give that answer, too; younger connections are spared then. Commands
// that are under way fail as they do whenever a connection breaks, and the next
// command dials. If many commands report the same connection it is dropped once.
func (l *links) drop(before uint64, certain bool, answer string, addrs []string) {
	least, most, age := minDropPause, maxDropPause, time.Duration(0)
	if !certain {
		least, most, age = minDoubtPause, maxDoubtPause, minDoubtPause
	}
	now := time.Now()
	l.mu.Lock()
	if now.Sub(l.last) < l.pause {
		l.mu.Unlock()
		return
	}
	var wrong []*link
	for k := range l.open {
		if k.number <= before && now.Sub(k.born) >= age && slices.Contains(addrs, k.addr) {
			wrong = append(wrong, k)
		}
	}
	if len(wrong) == 0 {
		l.mu.Unlock()
		return
	}
	first := now.Sub(l.last) > 2*most
	if first {
		l.pause = 0
	}
	for _, k := range wrong {
		delete(l.open, k)
	}
	l.last, l.pause = now, jitter(min(max(2*l.pause, least), most))
	l.mu.Unlock()
	level := slog.LevelDebug
	if first {
		level = slog.LevelWarn
	}
	l.logger.Log(context.Background(), level, "rueidisstore: connections lead to a server that does not take commands; dropping them to connect again",
		"address", wrong[0].addr, "connections", len(wrong), "answer", answer)
	for _, k := range wrong {
		k.cut()
	}
	l.dropped()
}
