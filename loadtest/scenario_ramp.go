//go:build linux

package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// maxSteps bounds a ramp that never fails.
const maxSteps = 24

// ramp raises the rate or the subscribers by a factor until p99 exceeds the
// limit or the server does not keep up, then looks twice in between.
func ramp(ctx context.Context, s *stage) error {
	most := int(s.rate*s.step.Seconds()/float64(s.tasks)*50) + 1000
	servers, err := s.servers(ctx, "-max-stream-length", strconv.Itoa(min(most, 20_000)), "-stream-ttl", "5s")
	if err != nil {
		return err
	}
	start := s.rate
	if s.ramp == "subscribers" {
		start = float64(s.subscribers)
	}
	var good, bad float64
	var best *report.Round
	try := func(v float64) (bool, error) {
		l := load{tasks: s.tasks, subscribers: s.subscribers, rate: s.rate, duration: s.step}
		if s.ramp == "subscribers" {
			l.subscribers = int(v)
			if l.subscribers > s.files-200 {
				s.report.Notes = append(s.report.Notes, fmt.Sprintf("stopped at the limit of descriptors, %d", s.files))
				return false, nil
			}
		} else {
			if l.rate = v; v > maxRate*float64(s.tasks) {
				s.report.Notes = append(s.report.Notes, fmt.Sprintf("stopped at %d events a second for each task: more -tasks go further", maxRate))
				return false, nil
			}
		}
		l.name = fmt.Sprintf("%s %.0f", s.ramp, v)
		round, err := s.play(ctx, l, servers...)
		if err != nil {
			return false, err
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		// A server that cannot emit as fast as planned is late without being
		// slow.
		limit := s.limit.Seconds()
		round.Figures = append(round.Figures, report.Figure{Name: "later than planned", Value: round.Late, Unit: "s"})
		ok := round.Latency["all"].P99 <= 1000*limit && round.Late <= limit+.1+.02*s.step.Seconds()
		if ok && (best == nil || v > good) {
			good, best = v, round
		}
		return ok, nil
	}
	for v := start; bad == 0 && len(s.report.Rounds) < maxSteps; v *= s.factor {
		ok, err := try(v)
		if err != nil {
			return err
		}
		if !ok {
			bad = v
		}
	}
	for range 2 {
		if good == 0 || bad == 0 || len(s.report.Notes) > 0 {
			break
		}
		middle := (good + bad) / 2
		ok, err := try(middle)
		if err != nil {
			return err
		}
		if !ok {
			bad = middle
		}
	}
	if best == nil {
		s.report.Notes = append(s.report.Notes, "the first step was too much already")
		return nil
	}
	if s.ramp == "rate" {
		good = best.Rate // as intervals of whole milliseconds made it
	}
	all := best.Latency["all"]
	s.report.Figures = append(s.report.Figures,
		report.Figure{Name: "highest good " + s.ramp, Value: good},
		report.Figure{Name: "its deliveries a second", Value: best.PerSecond},
		report.Figure{Name: "its p50", Value: all.P50, Unit: "ms"},
		report.Figure{Name: "its p99", Value: all.P99, Unit: "ms"})
	for _, p := range best.Processes {
		s.report.Figures = append(s.report.Figures, report.Figure{Name: "its CPU of the " + p.Name, Value: p.Cores, Unit: "cores"})
	}
	s.report.Figures = append(s.report.Figures, report.Figure{Name: "its CPU of the client", Value: best.Client.Cores, Unit: "cores"})
	return nil
}
