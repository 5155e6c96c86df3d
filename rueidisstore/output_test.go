package rueidisstore

import (
	"bytes"
	"io"
	"slices"
	"sync"
	"testing"
)

// LastLines takes what is logged while a test runs. If it fails, the end of that
// is shown: a test that cuts connections all the time has thousands of lines.
func LastLines(tb testing.TB) io.Writer {
	l := &lastLines{}
	tb.Cleanup(func() {
		if tb.Failed() {
			l.show(tb)
		}
	})
	return l
}

const (
	shownLines   = 40
	shownColumns = 300
)

type lastLines struct {
	mu     sync.Mutex
	lines  [][]byte
	before int // lines that are not kept
}

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(p) {
		line = bytes.TrimRight(line, "\n")
		if len(line) > shownColumns {
			line = append(line[:shownColumns:shownColumns], " …"...)
		}
		l.lines = append(l.lines, slices.Clone(line))
	}
	if over := len(l.lines) - shownLines; over > 0 {
		l.before += over
		l.lines = slices.Delete(l.lines, 0, over)
	}
	return len(p), nil
}

func (l *lastLines) show(tb testing.TB) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) > 0 {
		tb.Logf("the log, after %d other lines:\n%s", l.before, bytes.Join(l.lines, []byte("\n")))
	}
}

// clip keeps a line of a failure readable.
func clip(b []byte) []byte {
	if len(b) > shownColumns {
		return append(b[:shownColumns:shownColumns], " …"...)
	}
	return b
}
