//go:build linux

package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// slowReaders is the fan-out with everybody reading, then with some who do not:
// what the others feel of it. In the end the slow ones read on, and have to
// get everything, too.
func slowReaders(ctx context.Context, s *stage) error {
	length := strconv.Itoa(int(s.rate*s.duration.Seconds()) + 100)
	servers, err := s.servers(ctx, "-max-stream-length", length)
	if err != nil {
		return err
	}
	l := load{tasks: s.tasks, subscribers: s.subscribers, rate: s.rate, duration: s.duration}
	var without, with []*report.Round
	for i := range s.rounds {
		l.name, l.stalled, l.slow = fmt.Sprintf("everybody reads %d", i+1), 0, 0
		round, err := s.play(ctx, l, servers...)
		if err != nil {
			return err
		}
		without = append(without, round)
		l.name, l.stalled, l.slow = fmt.Sprintf("%.3g %% do not read, %.3g %% slowly %d", 100*s.stalled, 100*s.slow, i+1), s.stalled, s.slow
		if round, err = s.playSlow(ctx, l, servers...); err != nil {
			return err
		}
		with = append(with, round)
	}
	// Of those who read, by their label: the others have their own.
	p99 := func(r *report.Round) float64 {
		return max(r.Latency[label(crowd.SSE, crowd.Steady)].P99, r.Latency[label(crowd.WebSocket, crowd.Steady)].P99)
	}
	a, b := median(without, p99), median(with, p99)
	s.report.Figures = append(s.report.Figures,
		report.Figure{Name: "p99, everybody reads", Value: a, Unit: "ms"},
		report.Figure{Name: "p99 of those who read, beside slow ones", Value: b, Unit: "ms"})
	if a > 0 {
		s.report.Figures = append(s.report.Figures, report.Figure{Name: "p99 of those who read, ratio", Value: b / a, Limit: 1.2})
	}
	return nil
}

func (s *stage) playSlow(ctx context.Context, l load, servers ...*server) (*report.Round, error) {
	p, err := s.begin(ctx, l, servers...)
	if err != nil {
		return nil, err
	}
	p.steady(ctx)
	steady := 0
	for _, t := range []crowd.Transport{crowd.SSE, crowd.WebSocket} {
		steady += p.round.Subscribers[label(t, crowd.Steady)]
	}
	p.drain(ctx, steady)
	behind := l.subscribers - int(p.crowd.Stats().Done)
	p.figure("subscribers behind when the others were through", float64(behind), "")
	released := time.Now()
	p.crowd.Release()
	p.drain(ctx, l.subscribers)
	p.figure("time for them to catch up, once they read", time.Since(released).Seconds(), "s")
	p.finish(ctx)
	return p.round, nil
}
