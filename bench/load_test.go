package bench

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// writers append at the same time, each at its own steady pace. What they send
// in one second does not depend on how fast the store is, unless it takes
// longer than a writer's pause; then the rate falls.
const writers = 256

// load appends to tasks in turn, perSecond events a second in all, until stop
// is called, which returns when the last append is done.
type load struct {
	sent   atomic.Int64
	failed atomic.Int64
	quit   chan struct{}
	group  sync.WaitGroup
}

func startLoad(ctx context.Context, store engine.EventStore, tasks []string, perSecond int) *load {
	l := &load{quit: make(chan struct{})}
	pause := time.Duration(writers) * time.Second / time.Duration(perSecond)
	start := time.Now()
	var next, tokens atomic.Int64
	for w := range writers {
		l.group.Go(func() {
			timer := time.NewTimer(0)
			defer timer.Stop()
			<-timer.C
			for due := start.Add(pause * time.Duration(w) / writers); ; due = due.Add(pause) {
				timer.Reset(time.Until(due))
				select {
				case <-l.quit:
					return
				case <-timer.C:
				}
				now := time.Now()
				_, err := store.Append(ctx, engine.Append{
					TaskID: tasks[int(next.Add(1))%len(tasks)],
					Token:  strconv.FormatInt(tokens.Add(1), 36) + strconv.FormatInt(start.UnixNano(), 36),
					Events: []engine.Draft{{Type: engine.TypeMessage, CreatedAt: now, Payload: stamped(now)}},
				})
				if err != nil {
					l.failed.Add(1)
					continue
				}
				l.sent.Add(1)
			}
		})
	}
	return l
}

func (l *load) stop(tb testing.TB) {
	tb.Helper()
	close(l.quit)
	l.group.Wait()
	if n := l.failed.Load(); n > 0 {
		tb.Errorf("%d appends failed", n)
	}
}
