//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// progress is the line that tells how far a run is: rewritten on a terminal,
// else one line every few seconds.
type progress struct {
	w    io.Writer
	live bool

	mu    sync.Mutex
	last  time.Time
	drawn bool
}

const quietInterval = 5 * time.Second

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		p.live = err == nil
	}
	return p
}

// say begins something new; it is always shown.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	_, _ = fmt.Fprintf(p.w, "· "+format+"\n", args...)
	p.last = time.Now()
}

// update shows how things stand.
func (p *progress) update(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		if time.Since(p.last) >= quietInterval {
			p.last = time.Now()
			_, _ = fmt.Fprintf(p.w, "  "+format+"\n", args...)
		}
		return
	}
	_, _ = fmt.Fprintf(p.w, "\r\x1b[K  "+format, args...)
	p.drawn = true
}

func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

func (p *progress) erase() {
	if p.drawn {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}
