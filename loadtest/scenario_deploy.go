//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// deploy has two hosts on one Redis and restarts one of them while its tasks
// run and its subscribers read. These go to the other one with their cursor.
// Tasks of the host that goes end as its drain or its lease ends them; whatever
// their end is, every subscriber has to see it.
func deploy(ctx context.Context, s *stage) error {
	length := strconv.Itoa(int(s.rate*s.duration.Seconds()/float64(s.tasks)) + 100)
	args := []string{"-max-stream-length", length, "-drain", "5s"}
	s.report.Server = "two demo hosts on one Redis"
	for i := range s.rounds {
		var servers []*server
		for range 2 {
			one, err := s.startHost(ctx, args...)
			if err != nil {
				return err
			}
			servers = append(servers, one)
		}
		servers[1].proc.name = "other server"
		if err := s.deployRound(ctx, i, args, servers); err != nil {
			return err
		}
		for _, one := range servers {
			one.proc.p.Stop(5 * time.Second)
		}
	}
	return nil
}

func (s *stage) deployRound(ctx context.Context, i int, args []string, servers []*server) error {
	l := load{name: fmt.Sprintf("deploy %d", i+1), tasks: s.tasks, subscribers: s.subscribers, rate: s.rate, duration: s.duration}
	p, err := s.begin(ctx, l, servers...)
	if err != nil {
		return err
	}
	from := p.meter.read(true)
	length := p.end.Sub(p.start)
	pause(ctx, time.Until(p.start.Add(length/3)))
	took, err := s.restart(ctx, servers[0], args)
	if err != nil {
		p.abandon()
		return err
	}
	pause(ctx, time.Until(p.end.Add(-length/10)))
	p.meter.steady(from, p.meter.read(true))
	p.drain(ctx, l.subscribers)
	p.figure("the first host was down for", took.Seconds(), "s")
	ends := map[string]int{}
	for _, t := range p.tasks {
		ends[t.End()]++
	}
	for _, how := range slices.Sorted(maps.Keys(ends)) {
		name := how
		if name == "" {
			name = "no end"
		}
		p.figure("tasks that ended "+name, float64(ends[how]), "")
	}
	p.finish(ctx)
	return nil
}

// restart ends a host and starts another one at the same address. It returns
// how long nobody listened there, or nearly: from the signal on.
func (s *stage) restart(ctx context.Context, one *server, args []string) (time.Duration, error) {
	signal := syscall.SIGTERM
	if s.kill {
		signal = syscall.SIGKILL
	}
	s.progress.say("%v for the first host", signal)
	old := one.proc.p
	old.Expect()
	began := time.Now()
	if err := old.Signal(signal); err != nil {
		return 0, err
	}
	select {
	case <-old.Exited():
	case <-time.After(30 * time.Second):
		return 0, errors.New("the host does not end")
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	fresh, err := s.startHost(ctx, append(slices.Clone(args), "-addr", one.target.Addr.String())...)
	if err != nil {
		return 0, fmt.Errorf("start it again: %w", err)
	}
	one.proc.p = fresh.proc.p
	one.proc.pid.Store(fresh.proc.pid.Load())
	return time.Since(began), nil
}
