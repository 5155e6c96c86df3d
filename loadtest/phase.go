//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// load is what a phase puts on a server: tasks that emit at a rate, and their
// subscribers.
type load struct {
	name        string
	tasks       int
	subscribers int
	rate        float64
	duration    time.Duration
	stalled     float64 // shares of the subscribers
	slow        float64
}

// phase is one load on some servers, from creating its tasks to the last
// event.
type phase struct {
	stage    *stage
	load     load
	emission emission
	servers  []*server
	crowd    *crowd.Crowd
	meter    *meter
	round    *report.Round
	tasks    []*crowd.Task
	start    time.Time // the tasks' first message
	end      time.Time // and their last
	counters check.Counters
}

// figure adds one to the round.
func (p *phase) figure(name string, value float64, unit string) {
	p.round.Figures = append(p.round.Figures, report.Figure{Name: name, Value: value, Unit: unit})
}

// begin creates the tasks, which wait, attaches the subscribers, and returns
// before the first message.
func (s *stage) begin(ctx context.Context, l load, servers ...*server) (*phase, error) {
	s.round++
	p := &phase{stage: s, load: l, servers: servers}
	var actual float64
	p.emission, actual = plan(l.rate, l.tasks, s.size, l.duration)
	p.round = &report.Round{
		Name: l.name, Server: servers[0].base, Subscribers: map[string]int{}, Tasks: l.tasks, Rate: actual, Size: s.size,
	}
	var err error
	if p.crowd, err = s.crowd(servers...); err != nil {
		return nil, err
	}
	// Time for the creates and the connects, also on a busy machine.
	lead := time.Second + time.Duration(l.tasks)*500*time.Microsecond + time.Duration(l.subscribers)*300*time.Microsecond
	p.start = time.Now().Add(lead)
	p.end = p.start.Add(time.Duration(p.emission.count) * p.emission.interval)
	s.progress.say("%s: %d tasks, %d subscribers", l.name, l.tasks, l.subscribers)
	if p.tasks, err = s.createTasks(ctx, p); err != nil {
		p.crowd.Close()
		return nil, err
	}
	p.meter = s.measure(p.crowd, p.round, servers...)
	p.crowd.Add(p.specs(), 0)
	if !until(ctx, max(s.timeout, time.Until(p.start)), func() bool { return p.crowd.Stats().Attached >= uint64(l.subscribers) }) {
		attached := p.crowd.Stats().Attached
		err := ctx.Err()
		if err == nil {
			err = fmt.Errorf("only %d of %d subscribers could attach: %v", attached, l.subscribers, p.crowd.Violations())
		}
		p.abandon()
		return nil, err
	}
	if late := time.Since(p.start); late > 0 {
		p.round.Notes = append(p.round.Notes, fmt.Sprintf("the last subscriber attached %.1f s after the first message; what it had missed was replayed and is not in the latencies", late.Seconds()))
	}
	return p, nil
}

// abandon ends a phase without a result.
func (p *phase) abandon() {
	p.meter.stop()
	p.crowd.Close()
}

// createTasks creates the phase's tasks so that they begin together, each a
// little after the one before, so that the rate is even.
func (s *stage) createTasks(ctx context.Context, p *phase) ([]*crowd.Task, error) {
	n := p.load.tasks
	tasks := make([]*crowd.Task, n)
	text := textCheck(s.size, s.anyText)
	shared := p.load.subscribers > n
	var wg sync.WaitGroup
	errs := make([]error, min(n, 16))
	for worker := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := worker; i < n && errs[worker] == nil; i += len(errs) {
				begins := p.start.Add(p.emission.interval * time.Duration(i) / time.Duration(n))
				id, err := p.servers[i%len(p.servers)].create(ctx, "tokens", tokensInput{
					Count: p.emission.count, IntervalMs: int(p.emission.interval.Milliseconds()), Size: p.emission.size,
					StartDelayMs: int(max(time.Until(begins), 0).Milliseconds()),
				})
				if errs[worker] = err; err == nil {
					tasks[i] = crowd.NewTask(id, shared)
					tasks[i].Text = text
				}
			}
		}()
	}
	wg.Wait()
	return tasks, errors.Join(errs...)
}

// specs spreads tasks, transports, classes and servers evenly over the
// subscribers.
func (p *phase) specs() []crowd.Spec {
	var specs []crowd.Spec
	var ws, stalled, slow float64
	for i := range p.load.subscribers {
		one := crowd.Spec{Task: p.tasks[i%len(p.tasks)], Target: i % len(p.servers)}
		if ws += p.stage.ws; ws >= 1-1e-9 {
			ws--
			one.Transport = crowd.WebSocket
		}
		stalled += p.load.stalled
		slow += p.load.slow
		switch {
		case stalled >= 1-1e-9:
			stalled--
			one.Class = crowd.Stalled
		case slow >= 1-1e-9:
			slow--
			one.Class = crowd.Slow
		}
		specs = append(specs, one)
		p.round.Subscribers[label(one.Transport, one.Class)]++
	}
	return specs
}

// steady waits through the tasks' time and notes what its middle cost: without
// the first and last tenth, where streams begin and end.
func (p *phase) steady(ctx context.Context) {
	length := p.end.Sub(p.start)
	pause(ctx, time.Until(p.start.Add(length/10)))
	p.meter.warm()
	from := p.meter.read(true)
	stopProfile := p.stage.startProfile(ctx, p.servers[0], length*8/10)
	pause(ctx, time.Until(p.end.Add(-length/10)))
	p.meter.end()
	p.meter.steady(from, p.meter.read(true))
	stopProfile()
}

// drain waits until all subscribers that read have seen their task's end, or
// nothing has come for the timeout.
func (p *phase) drain(ctx context.Context, want int) {
	deadline := time.Now().Add(p.stage.timeout)
	var last uint64
	until(ctx, time.Hour, func() bool {
		st := p.crowd.Stats()
		if now := st.Deliveries + st.Done; now != last || time.Now().Before(p.end) {
			last, deadline = now, time.Now().Add(p.stage.timeout)
		}
		return st.Done >= uint64(want) || time.Now().After(deadline)
	})
}

// finish ends the phase and puts its round into the report.
func (p *phase) finish(ctx context.Context) {
	p.meter.stop()
	if ctx.Err() == nil {
		p.crowd.Finish()
	} else {
		p.round.Notes = append(p.round.Notes, "interrupted: what had not come yet is not counted as lost")
	}
	st := p.crowd.Stats()
	p.counters = p.crowd.Counters()
	r := p.round
	r.Deliveries, r.Checks = st.Deliveries, p.counters
	r.Seconds = time.Since(p.meter.began).Seconds()
	r.Figures = append(r.Figures, connections(&st, p.crowd.Resumes())...)
	p.crowd.Close()
	p.stage.report.Checks.Add(p.counters)
	p.stage.report.Violations = append(p.stage.report.Violations, p.crowd.Violations()...)
	p.stage.report.Rounds = append(p.stage.report.Rounds, r)
}

// connections are the figures of connections that did not last.
func connections(st *crowd.Stats, resumes *hist.Hist) []report.Figure {
	var out []report.Figure
	for _, f := range []report.Figure{
		{Name: "connections cut by the server", Value: float64(st.Cuts)},
		{Name: "closing notices", Value: float64(st.Closings)},
		{Name: "connects that failed or were put off", Value: float64(st.Delayed)},
		{Name: "from a cut to the next stream, p50", Value: millis(resumes, .5), Unit: "ms"},
		{Name: "from a cut to the next stream, longest", Value: float64(resumes.Max()) / 1000, Unit: "ms"},
	} {
		if f.Value > 0 {
			out = append(out, f)
		}
	}
	return out
}

// play is a phase from beginning to end.
func (s *stage) play(ctx context.Context, l load, servers ...*server) (*report.Round, error) {
	p, err := s.begin(ctx, l, servers...)
	if err != nil {
		return nil, err
	}
	p.steady(ctx)
	p.drain(ctx, l.subscribers)
	p.round.Late = max(time.Since(p.end).Seconds(), 0)
	p.finish(ctx)
	return p.round, nil
}

func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.1fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}
