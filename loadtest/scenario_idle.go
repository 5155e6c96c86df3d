//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// idle attaches subscribers to tasks that say nothing, looks at what they cost,
// and has them all gone at once.
func idle(ctx context.Context, s *stage) error {
	shares := []float64{s.ws}
	if s.ws < 0 {
		shares = []float64{0, 1}
	}
	for _, share := range shares {
		s.ws = share
		servers, err := s.servers(ctx)
		if err != nil {
			return err
		}
		if err := s.idleRound(ctx, servers[0]); err != nil {
			return err
		}
		if p := servers[0].proc; p != nil && p.p != nil {
			p.p.Stop(5 * time.Second) // the next one begins empty
		}
	}
	return nil
}

// stock is what a server has at one moment.
type stock struct {
	usage  proc.Usage
	kernel proc.Kernel
	inside *inside
}

func (s *stage) stock(ctx context.Context, one *server) (stock, error) {
	var st stock
	var err error
	if st.inside, err = one.inspect(ctx); err != nil { // which also collects garbage
		return st, err
	}
	if one.proc != nil {
		if st.usage, err = proc.Read(int(one.proc.pid.Load()), true); err != nil {
			return st, err
		}
	}
	st.kernel, err = proc.ReadKernel()
	return st, err
}

func (s *stage) idleRound(ctx context.Context, one *server) error {
	s.round++
	n := s.subscribers
	round := &report.Round{Name: fmt.Sprintf("%d idle subscribers, %.3g %% WebSocket", n, 100*s.ws), Server: one.base, Subscribers: map[string]int{}, Tasks: s.tasks}
	c, err := s.crowd(one)
	if err != nil {
		return err
	}
	defer c.Close()
	p := &phase{stage: s, load: load{tasks: s.tasks, subscribers: n}, servers: []*server{one}, crowd: c, round: round}
	for range s.tasks {
		id, err := one.create(ctx, "stall", struct{}{})
		if err != nil {
			return err
		}
		p.tasks = append(p.tasks, crowd.NewTask(id, true))
	}
	// One of each transport first: what only the first one costs is not theirs.
	first, err := s.crowd(one)
	if err != nil {
		return err
	}
	first.Add([]crowd.Spec{{Task: p.tasks[0]}, {Task: p.tasks[0], Transport: crowd.WebSocket}}, 0)
	ok := until(ctx, s.timeout, func() bool { return first.Stats().Attached == 2 })
	first.Close()
	if !ok {
		return errors.Join(fmt.Errorf("no subscriber can attach: %v", first.Violations()), ctx.Err())
	}
	pause(ctx, time.Second)
	empty, err := s.stock(ctx, one)
	if err != nil {
		return err
	}
	p.meter = s.measure(c, round, one)
	s.progress.say("%s", round.Name)
	from := p.meter.read(true)
	began := time.Now()
	c.Add(p.specs(), 0)
	if !until(ctx, s.timeout, func() bool { return c.Stats().Open >= uint64(n) }) {
		open := c.Stats().Open
		p.meter.stop()
		return errors.Join(fmt.Errorf("only %d of %d could attach: %v", open, n, c.Violations()), ctx.Err())
	}
	p.figure("time to attach all", time.Since(began).Seconds(), "s")
	attached := p.meter.read(true)
	pause(ctx, s.duration)
	full, err := s.stock(ctx, one)
	if err != nil {
		p.meter.stop()
		return err
	}
	p.meter.steady(from, p.meter.read(true))
	each := func(name string, bytes int64) {
		p.figure(name, float64(bytes)/1024/float64(n), "KiB")
	}
	if one.proc != nil {
		p.figure("server's CPU for each attached", (attached.usage[0].CPU-from.usage[0].CPU).Seconds()*1e6/float64(n), "µs")
		round.Figures = append(round.Figures, report.Figure{
			Name: "growth of RSS for each", Value: float64(full.usage.RSS-empty.usage.RSS) / 1024 / float64(n), Unit: "KiB",
			Limit: 1 + .5*s.ws,
		})
		p.figure("RSS of the empty server", float64(empty.usage.RSS)/(1<<20), "MiB")
		p.figure("RSS with all of them", float64(full.usage.RSS)/(1<<20), "MiB")
	}
	if full.inside != nil {
		each("growth of the heap in use for each", full.inside.heap-empty.inside.heap)
		each("growth of stacks for each", full.inside.stacks-empty.inside.stacks)
		p.figure("goroutines, empty", float64(empty.inside.goroutines), "")
		p.figure("goroutines, with all of them", float64(full.inside.goroutines), "")
	}
	each("kernel: slab for each, both ends of the connection", full.kernel.Slab-empty.kernel.Slab)
	each("kernel: socket buffers for each, both ends", full.kernel.TCPBytes-empty.kernel.TCPBytes)

	s.gone(ctx, p, one, empty.usage.Files)
	for _, t := range p.tasks {
		if err := one.cancel(ctx, t.ID); err != nil && ctx.Err() == nil {
			round.Notes = append(round.Notes, err.Error())
		}
	}
	p.meter.stop()
	round.Checks = c.Counters()
	round.Deliveries = c.Stats().Deliveries
	round.Seconds = time.Since(p.meter.began).Seconds()
	s.report.Checks.Add(round.Checks)
	s.report.Violations = append(s.report.Violations, c.Violations()...)
	s.report.Rounds = append(s.report.Rounds, round)
	return nil
}

// gone has all clients gone and measures until the server has its descriptors
// back.
func (s *stage) gone(ctx context.Context, p *phase, one *server, files int) {
	began := time.Now()
	p.crowd.Cut()
	p.figure("time for all clients to be gone", time.Since(began).Seconds(), "s")
	if one.proc == nil {
		return
	}
	left := 0
	back := until(ctx, s.timeout, func() bool {
		var err error
		left, err = proc.Files(int(one.proc.pid.Load()))
		return err == nil && left <= files+2
	})
	if !back {
		p.round.Notes = append(p.round.Notes, fmt.Sprintf("%d descriptors did not come back", left-files))
	}
	p.round.Figures = append(p.round.Figures, report.Figure{
		Name: "time until every descriptor is back", Value: time.Since(began).Seconds(), Unit: "s", Limit: 1,
	})
}
