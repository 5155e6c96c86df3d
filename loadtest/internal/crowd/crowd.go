//go:build linux

// Package crowd follows tasks with thousands of real subscribers from a few
// epoll loops: one non-blocking socket and a few hundred bytes each, no
// goroutine, no allocation per event. It connects, resumes with its cursor,
// and checks every event of every subscriber.
//
// Linux only.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
)

// Target is a server.
type Target struct {
	Addr netip.AddrPort
	Host string // for the Host header
	Base string // path before /tasks, "/api/v1"
}

// Options of a crowd.
type Options struct {
	Targets []Target
	// Token is the bearer token.
	Token string
	// Loops is how many threads. Defaults to 1.
	Loops int
	// Window is how many connects may be under way in a loop. Defaults to 128.
	Window int
	// Backoff bounds the wait before a reconnect, whatever the server asks.
	// Defaults to 10s.
	Backoff time.Duration
	// SlowBytes is what a slow subscriber reads, every SlowEvery.
	SlowBytes int
	SlowEvery time.Duration
	// Seed of what is random: waits before reconnects.
	Seed uint64
}

// Spec asks for a subscriber.
type Spec struct {
	Task      *Task
	Transport Transport
	Class     Class
	Target    int // the one to begin with
}

// Crowd is a set of subscribers. Its methods may be called from any goroutine.
type Crowd struct {
	opt   Options
	loops []*loop
	added int

	mu      sync.Mutex
	samples []string // what the first violations were
}

// maxSamples bounds the violations that are kept with their words.
const maxSamples = 20

// New starts the loops. Close ends them.
func New(opt Options) (*Crowd, error) {
	if len(opt.Targets) == 0 {
		return nil, errors.New("no target")
	}
	opt.Loops = max(opt.Loops, 1)
	if opt.Window == 0 {
		opt.Window = 128
	}
	if opt.Backoff == 0 {
		opt.Backoff = 10 * time.Second
	}
	if opt.SlowEvery == 0 {
		opt.SlowBytes, opt.SlowEvery = 1024, 100*time.Millisecond
	}
	c := &Crowd{opt: opt}
	for i := range opt.Loops {
		l, err := newLoop(c, i)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("start a loop: %w", err)
		}
		c.loops = append(c.loops, l)
	}
	return c, nil
}

// Close closes all connections at once and waits for the loops.
func (c *Crowd) Close() {
	for _, l := range c.loops {
		l.stop()
	}
	for _, l := range c.loops {
		<-l.ended
	}
}

// Add adds subscribers and begins to connect them: at once, or spread evenly
// over a time. Nobody calls it concurrently.
func (c *Crowd) Add(specs []Spec, spread time.Duration) {
	parts := make([][]Spec, len(c.loops))
	for _, s := range specs {
		i := c.added % len(c.loops)
		parts[i] = append(parts[i], s)
		c.added++
	}
	for i, l := range c.loops {
		part := parts[i]
		l.do(func() {
			fresh := make([]*sub, 0, len(part))
			for _, s := range part {
				fresh = append(fresh, l.add(s))
			}
			l.open(fresh, spread)
		})
	}
}

// Cut closes every connection without a word and stays away until Reopen.
func (c *Crowd) Cut() { c.all(func(l *loop) { l.cut() }) }

// Reopen connects all that were cut, with their cursors, evenly over spread.
func (c *Crowd) Reopen(spread time.Duration) { c.all(func(l *loop) { l.reopen(spread) }) }

// Churn cuts n connections, spread over the loops, which then come back by
// themselves as after any cut.
func (c *Crowd) Churn(n int) {
	for i, l := range c.loops {
		part := n / len(c.loops)
		if i < n%len(c.loops) {
			part++
		}
		l.do(func() { l.churn(part) })
	}
}

// Release makes slow and stalled subscribers read like the others.
func (c *Crowd) Release() { c.all(func(l *loop) { l.release() }) }

// Retarget sends connections that are made from now on to another target.
func (c *Crowd) Retarget(from, to int) { c.all(func(l *loop) { l.route[from] = to }) }

// Forget drops subscribers that are done, and their memory.
func (c *Crowd) Forget() { c.all(func(l *loop) { l.forget() }) }

// Mark makes the crowd note when each subscriber that is now behind its task's
// ordinal in marks reaches it; MarkTimes gives the result.
func (c *Crowd) Mark(marks map[*Task]uint64) {
	c.all(func(l *loop) { l.mark(marks) })
}

// Settle waits until all marks are reached, or for patience without a delivery.
func (c *Crowd) Settle(ctx context.Context, patience time.Duration) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last, since := uint64(0), time.Now()
	for {
		if _, missing := c.MarkTimes(); missing == 0 {
			return
		}
		if now := c.Stats().Deliveries; now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > patience {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// MarkTimes are the Unix microseconds at which marks were reached, and how many
// are not reached yet.
func (c *Crowd) MarkTimes() (reached []int64, missing int) {
	var mu sync.Mutex
	c.all(func(l *loop) {
		mu.Lock()
		defer mu.Unlock()
		reached = append(reached, l.reached...)
		missing += l.marked - len(l.reached)
	})
	return reached, missing
}

// all runs fn on every loop and waits for it.
func (c *Crowd) all(fn func(*loop)) {
	var wg sync.WaitGroup
	for _, l := range c.loops {
		wg.Add(1)
		l.do(func() {
			defer wg.Done()
			fn(l)
		})
	}
	wg.Wait()
}

// Stats are the totals of now.
func (c *Crowd) Stats() Stats {
	var s Stats
	for _, l := range c.loops {
		l.totals.addTo(&s)
	}
	return s
}

// Len is how many subscribers were added.
func (c *Crowd) Len() int { return c.added }

// Interval merges the latencies recorded since the call before.
func (c *Crowd) Interval() *Latencies {
	var mu sync.Mutex
	out := new(Latencies)
	c.all(func(l *loop) {
		mu.Lock()
		defer mu.Unlock()
		out.Merge(l.interval)
		l.total.Merge(l.interval)
		*l.interval = Latencies{}
	})
	return out
}

// Latencies merges all latencies since the crowd began or ResetLatencies.
func (c *Crowd) Latencies() *Latencies {
	c.Interval()
	var mu sync.Mutex
	out := new(Latencies)
	c.all(func(l *loop) {
		mu.Lock()
		defer mu.Unlock()
		out.Merge(l.total)
	})
	return out
}

// ResetLatencies forgets all latencies.
func (c *Crowd) ResetLatencies() {
	c.all(func(l *loop) { *l.interval, *l.total = Latencies{}, Latencies{} })
}

// Resumes are the times in microseconds from a cut by the server to the next
// stream of the same subscriber.
func (c *Crowd) Resumes() *hist.Hist {
	var mu sync.Mutex
	out := new(hist.Hist)
	c.all(func(l *loop) {
		mu.Lock()
		defer mu.Unlock()
		out.Merge(&l.resumes)
	})
	return out
}

// Counters are what the checks found so far.
func (c *Crowd) Counters() check.Counters {
	var mu sync.Mutex
	var sum check.Counters
	c.all(func(l *loop) {
		mu.Lock()
		defer mu.Unlock()
		sum.Add(l.counters)
	})
	return sum
}

// Finish counts what subscribers that have not seen the end miss, up to their
// task's head.
func (c *Crowd) Finish() {
	c.all(func(l *loop) { l.finish() })
}

// Violations are the words for the first violations.
func (c *Crowd) Violations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.samples...)
}

func (c *Crowd) report(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.samples) < maxSamples {
		c.samples = append(c.samples, what)
	}
}
