//go:build linux

package main

import (
	"context"
	"strconv"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// soakLife is how long a task of the soak emits, at most: half of the soak.
const soakLife = 10 * time.Second

// soak keeps a number of tasks going for a long time: every second some begin
// and some end, with their subscribers, and connections are cut at random. What
// grows meanwhile is a leak.
func soak(ctx context.Context, s *stage) error {
	life := min(soakLife, s.duration/2)
	perTask := s.rate / float64(s.tasks)
	length := strconv.Itoa(int(perTask*life.Seconds()) + 100)
	// Finished logs go soon, so that memory tells of leaks only.
	servers, err := s.servers(ctx, "-max-stream-length", length, "-stream-ttl", "5s")
	if err != nil {
		return err
	}
	c, err := s.crowd(servers...)
	if err != nil {
		return err
	}
	defer c.Close()
	round := &report.Round{Name: "soak", Server: servers[0].base, Subscribers: map[string]int{}, Rate: s.rate, Size: s.size}
	p := &phase{stage: s, servers: servers, crowd: c, round: round}
	before, err := servers[0].inspect(ctx)
	if err != nil {
		return err
	}
	p.meter = s.measure(c, round, servers...)
	began := time.Now()
	p.end = began.Add(s.duration)
	from := p.meter.read(true)
	if err := p.generations(ctx, perTask, life); err != nil {
		p.meter.stop()
		return err
	}
	p.meter.steady(from, p.meter.read(true))
	p.drain(ctx, c.Len())
	if after, err := servers[0].inspect(ctx); err == nil && after != nil {
		p.figure("goroutines before", float64(before.goroutines), "")
		p.figure("goroutines after", float64(after.goroutines), "")
		p.figure("heap in use before", float64(before.heap)/(1<<20), "MiB")
		p.figure("heap in use after", float64(after.heap)/(1<<20), "MiB")
	}
	p.finish(ctx)
	p.figure("slope of the server's RSS, behind the first quarter", slope(round.Series), "MiB/min")
	return nil
}

// generations starts tasks and cuts connections, second by second.
func (p *phase) generations(ctx context.Context, perTask float64, life time.Duration) error {
	s := p.stage
	// Whole tasks and subscribers a second, with what is left over carried on.
	var tasks, subscribers, churn float64
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for time.Now().Add(life).Before(p.end) || p.round.Tasks == 0 {
		tasks += float64(s.tasks) / max(life.Seconds(), 1)
		subscribers += float64(s.subscribers) / max(life.Seconds(), 1)
		g := phase{stage: s, servers: p.servers, crowd: p.crowd, round: p.round, load: load{tasks: int(tasks), subscribers: int(subscribers)}}
		if g.load.tasks > 0 && g.load.subscribers > 0 {
			tasks -= float64(g.load.tasks)
			subscribers -= float64(g.load.subscribers)
			g.emission, _ = plan(perTask*float64(g.load.tasks), g.load.tasks, s.size, life)
			g.start = time.Now().Add(300 * time.Millisecond)
			var err error
			if g.tasks, err = s.createTasks(ctx, &g); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			p.crowd.Add(g.specs(), 0)
			p.round.Tasks += g.load.tasks
		}
		churn += s.churn
		p.crowd.Churn(int(churn))
		churn -= float64(int(churn))
		p.crowd.Forget()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	pause(ctx, time.Until(p.end))
	return nil
}

// slope is the growth of RSS in MiB a minute, by least squares, without the
// first quarter, in which a process finds its size.
func slope(series []report.Sample) float64 {
	series = series[len(series)/4:]
	var n, sx, sy, sxx, sxy float64
	for _, x := range series {
		if x.RSS == 0 {
			continue
		}
		t, mib := x.At/60, float64(x.RSS)/(1<<20)
		n++
		sx += t
		sy += mib
		sxx += t * t
		sxy += t * mib
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
