package fanout

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// pipe is a Sink with a window: it takes so many bytes and is full then. It
// keeps all that it took.
type pipe struct {
	out *Outlet // set before bytes flow

	mu       sync.Mutex
	window   int // negative: no bound
	broken   error
	got      bytes.Buffer
	writes   int
	largest  int
	times    []time.Time
	finished []string
	failed   map[string]error
	ended    []EndReason
	inside   bool
	faults   []string
	changed  chan struct{}

	onFinished func(key string)
	onFailed   func(key string)
	onWrite    func()
	onEnded    func(EndReason)
}

func newPipe(window int) *pipe {
	return &pipe{window: window, failed: map[string]error{}, changed: make(chan struct{}, 1)}
}

func (p *pipe) enter() {
	p.mu.Lock()
	if p.inside {
		p.faults = append(p.faults, "two calls at once")
	}
	if len(p.ended) > 0 {
		p.faults = append(p.faults, "a call after Ended")
	}
	p.inside = true
	p.mu.Unlock()
}

func (p *pipe) leave() {
	p.mu.Lock()
	p.inside = false
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *pipe) TryWrite(b []byte) (int, error) {
	p.enter()
	defer p.leave()
	if p.onWrite != nil {
		p.onWrite()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return 0, p.broken
	}
	p.largest = max(p.largest, len(b))
	n := len(b)
	if p.window >= 0 {
		n = min(n, p.window)
		p.window -= n
	}
	p.got.Write(b[:n])
	p.writes++
	p.times = append(p.times, time.Now())
	return n, nil
}

func (p *pipe) Finished(key string) {
	p.enter()
	defer p.leave()
	p.mu.Lock()
	p.finished = append(p.finished, key)
	p.mu.Unlock()
	if p.onFinished != nil {
		p.onFinished(key)
	}
}

func (p *pipe) Failed(key string, err error) {
	p.enter()
	defer p.leave()
	p.mu.Lock()
	p.failed[key] = err
	p.mu.Unlock()
	if p.onFailed != nil {
		p.onFailed(key)
	}
}

func (p *pipe) Ended(r EndReason) {
	p.enter()
	defer p.leave()
	p.mu.Lock()
	p.ended = append(p.ended, r)
	p.mu.Unlock()
	if p.onEnded != nil {
		p.onEnded(r)
	}
}

// open widens the window by n and says so; negative opens it for good.
func (p *pipe) open(n int) {
	p.mu.Lock()
	if n < 0 {
		p.window = -1
	} else if p.window >= 0 {
		p.window += n
	}
	p.mu.Unlock()
	p.out.Writable()
}

func (p *pipe) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got.String()
}

func (p *pipe) end() (EndReason, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ended) == 0 {
		return 0, false
	}
	return p.ended[0], true
}

// until waits for a condition.
func (p *pipe) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-p.changed:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s; got %q", what, clip(p.text()))
		}
	}
}

func (p *pipe) untilEnded(t *testing.T, want EndReason) {
	t.Helper()
	p.until(t, "the end", func() bool { _, ok := p.end(); return ok })
	if got, _ := p.end(); got != want {
		t.Fatalf("ended with %d, want %d", got, want)
	}
}

func (p *pipe) untilText(t *testing.T, suffix string) {
	t.Helper()
	p.until(t, fmt.Sprintf("%q", suffix), func() bool { return strings.HasSuffix(p.text(), suffix) })
}

func (p *pipe) verify(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		t.Error(f)
	}
	if len(p.ended) > 1 {
		t.Errorf("Ended %d times", len(p.ended))
	}
}

func clip(s string) string {
	if len(s) > 400 {
		return s[:200] + " … " + s[len(s)-200:]
	}
	return s
}

var errBroken = errors.New("broken pipe")
