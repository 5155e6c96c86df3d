package e2e

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// line is a network between a client and a host: it can cut every connection,
// and it can lose everything that is sent over those that are open, as a
// network does that went away without a word.
type line struct {
	url string

	mu    sync.Mutex
	links map[*link]struct{}
	// oneFrame is set for the next WebSocket handshake: see firstFrameOnly.
	oneFrame bool
	opened   int
	// heard is when something last came from the host, quiet the longest time
	// between two such moments since listen.
	heard time.Time
	quiet time.Duration
}

// link is one connection through a line.
type link struct {
	near, far net.Conn

	mu     sync.Mutex
	silent bool
}

func startLine(t *testing.T, target string) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{url: "http://" + listener.Addr().String(), links: map[*link]struct{}{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(target, "http://"))
			if err != nil {
				_ = near.Close()
				continue
			}
			k := &link{near: near, far: far}
			l.mu.Lock()
			l.links[k] = struct{}{}
			l.opened++
			l.mu.Unlock()
			running.Go(func() { l.pump(k, far, l.watch(near)) })
			running.Go(func() { l.pump(k, near, far) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		running.Wait()
	})
	return l
}

// pump passes on what one side sends, and closes both ends when it is over.
func (l *line) pump(k *link, to io.Writer, from io.Reader) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		k.mu.Lock()
		silent := k.silent
		k.mu.Unlock()
		if n > 0 && to == io.Writer(k.near) {
			l.hear()
		}
		if n > 0 && !silent {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				err = failed
			}
		}
		// The end of one side is as invisible to the other as what it sent.
		if err != nil && !silent {
			break
		}
		if err != nil {
			return
		}
	}
	k.close()
	l.mu.Lock()
	delete(l.links, k)
	l.mu.Unlock()
}

func (k *link) close() {
	_ = k.near.Close()
	_ = k.far.Close()
}

// cut closes every connection.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.links {
		k.close()
	}
}

// silence loses whatever is sent from now on over the connections that are
// open, in both directions. They stay open. New ones work.
func (l *line) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.links {
		k.mu.Lock()
		k.silent = true
		k.mu.Unlock()
	}
}

// firstFrameOnly lets the next WebSocket's client send one frame. The host
// never gets what follows, as if it were still under way when the host closes.
func (l *line) firstFrameOnly() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oneFrame = true
}

func (l *line) hear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !l.heard.IsZero() {
		l.quiet = max(l.quiet, now.Sub(l.heard))
	}
	l.heard = now
}

// listen begins to measure how long the host is quiet.
func (l *line) listen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard, l.quiet = time.Now(), 0
}

// longestQuiet is the longest time in which nothing came from the host.
func (l *line) longestQuiet() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.quiet, time.Since(l.heard))
}

// connections is how many there were so far.
func (l *line) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}

// watch looks for a WebSocket handshake in what a client sends.
func (l *line) watch(near net.Conn) io.Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.oneFrame {
		return near
	}
	return &handshake{line: l, in: bufio.NewReader(near), conn: near}
}

// handshake is a client's side of a connection: whole lines of a request's
// head, then a frame, then nothing more.
type handshake struct {
	line    *line
	in      *bufio.Reader
	conn    net.Conn
	upgrade bool
	headed  bool // the head is read
	framed  bool // and a frame
	pending []byte
}

func (h *handshake) Read(p []byte) (int, error) {
	for len(h.pending) == 0 {
		if err := h.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, h.pending)
	h.pending = h.pending[n:]
	return n, nil
}

func (h *handshake) fill() error {
	switch {
	case !h.headed:
		text, err := h.in.ReadString('\n')
		h.pending = []byte(text)
		h.upgrade = h.upgrade || strings.EqualFold(strings.TrimSpace(text), "upgrade: websocket")
		if strings.TrimSpace(text) == "" && err == nil {
			h.headed = h.upgrade
			if h.upgrade {
				h.line.mu.Lock()
				h.upgrade = h.line.oneFrame // somebody else may have been first
				h.line.oneFrame = false
				h.line.mu.Unlock()
			}
		}
		return err
	case h.upgrade && !h.framed:
		// A client's text frame: two bytes, a longer length if the short one is
		// 126, four of mask, the payload (RFC 6455, section 5.2).
		head, err := h.in.Peek(4)
		if err != nil {
			return err
		}
		size := 2 + 4 + int(head[1]&0x7f)
		if head[1]&0x7f == 126 {
			size = 4 + 4 + int(head[2])<<8 + int(head[3])
		}
		h.pending = make([]byte, size)
		_, err = io.ReadFull(h.in, h.pending)
		h.framed = true
		return err
	case h.upgrade:
		_, err := io.Copy(io.Discard, h.in)
		if err == nil {
			err = io.EOF
		}
		return err
	default:
		h.pending = make([]byte, 4096)
		n, err := h.in.Read(h.pending)
		h.pending = h.pending[:n]
		return err
	}
}
