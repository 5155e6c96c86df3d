//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// fanOut is one task with many subscribers, and with -yardstick the bare loop
// in turns with it.
func fanOut(ctx context.Context, s *stage) error {
	length := strconv.Itoa(int(s.rate*s.duration.Seconds()) + 100)
	servers, err := s.servers(ctx, "-max-stream-length", length)
	if err != nil {
		return err
	}
	var yard *server
	if s.yardstick {
		if yard, err = s.startBare(ctx); err != nil {
			return err
		}
	}
	l := load{tasks: s.tasks, subscribers: s.subscribers, rate: s.rate, duration: s.duration}
	var ours, bare []*report.Round
	for i := range s.rounds {
		l.name = fmt.Sprintf("fan-out %d", i+1)
		round, err := s.play(ctx, l, servers...)
		if err != nil {
			return err
		}
		ours = append(ours, round)
		if yard == nil {
			continue
		}
		l.name = fmt.Sprintf("bare write loop %d", i+1)
		if round, err = s.play(ctx, l, yard); err != nil {
			return err
		}
		bare = append(bare, round)
	}
	if yard != nil {
		s.compare(ours, bare)
	}
	return nil
}

// compare states how the server stands to the bare loop, by medians.
func (s *stage) compare(ours, bare []*report.Round) {
	perDelivery := func(r *report.Round) float64 {
		if len(r.Processes) == 0 {
			return 0
		}
		return r.Processes[0].PerDelivery
	}
	latency := func(q func(report.Latency) float64) func(*report.Round) float64 {
		return func(r *report.Round) float64 { return q(r.Latency["all"]) }
	}
	for _, c := range []struct {
		name  string
		of    func(*report.Round) float64
		unit  string
		limit float64
	}{
		{"CPU per delivery", perDelivery, "µs", 1.15 + .05*min(s.ws*1e9, 1)},
		{"p50", latency(func(l report.Latency) float64 { return l.P50 }), "ms", 1.3},
		{"p99", latency(func(l report.Latency) float64 { return l.P99 }), "ms", 1.3},
	} {
		a, b := median(ours, c.of), median(bare, c.of)
		f := []report.Figure{{Name: c.name, Value: a, Unit: c.unit}, {Name: c.name + ", bare loop", Value: b, Unit: c.unit}}
		if b > 0 {
			f = append(f, report.Figure{Name: c.name + ", ratio", Value: a / b, Limit: c.limit})
		}
		s.report.Figures = append(s.report.Figures, f...)
	}
}

func median(rounds []*report.Round, of func(*report.Round) float64) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, of(r))
	}
	slices.Sort(all)
	n := len(all)
	if n == 0 {
		return 0
	}
	return (all[(n-1)/2] + all[n/2]) / 2
}
