//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/wire"
)

// reconnectStorm cuts all subscribers of a task, lets each fall behind, and has
// them all back within a moment while the task goes on.
func reconnectStorm(ctx context.Context, s *stage) error {
	s.window = 1024
	away := time.Duration(float64(s.behind) / s.rate * float64(time.Second) * float64(s.tasks))
	length := 2*time.Second + away + s.spread + max(5*s.spread, 2*time.Second)
	servers, err := s.servers(ctx, "-max-stream-length", strconv.Itoa(int(s.rate*length.Seconds())+s.behind+100))
	if err != nil {
		return err
	}
	for i := range s.rounds {
		l := load{name: fmt.Sprintf("storm %d", i+1), tasks: s.tasks, subscribers: s.subscribers, rate: s.rate, duration: length}
		p, err := s.begin(ctx, l, servers...)
		if err != nil {
			return err
		}
		if err := p.storm(ctx, away); err != nil {
			p.abandon()
			return err
		}
		p.drain(ctx, l.subscribers)
		p.finish(ctx)
	}
	return nil
}

func (p *phase) storm(ctx context.Context, away time.Duration) error {
	s := p.stage
	from := p.meter.read(true)
	pause(ctx, time.Until(p.start.Add(time.Second)))

	if !s.cold {
		// One that stays keeps the log followed, as some always do.
		stay, err := s.crowd(p.servers...)
		if err != nil {
			return err
		}
		defer stay.Close()
		var specs []crowd.Spec
		for _, t := range p.tasks {
			specs = append(specs, crowd.Spec{Task: crowd.NewTask(t.ID, false)})
		}
		stay.Add(specs, 0)
		if !until(ctx, s.timeout, func() bool { return stay.Stats().Open == uint64(len(specs)) }) {
			return errors.New("those that were to stay could not attach")
		}
	}
	p.crowd.Cut()
	heads := map[*crowd.Task]uint64{}
	for _, t := range p.tasks {
		heads[t] = t.Head() + uint64(s.behind)
	}
	s.progress.say("%d subscribers are cut; waiting until each has missed %d events", s.subscribers, s.behind)
	pause(ctx, away)
	for _, t := range p.tasks {
		err := errors.New("it does not get there")
		if !until(ctx, s.timeout, func() bool {
			var head uint64
			head, err = p.servers[0].head(ctx, t.ID)
			return err == nil && head >= heads[t]
		}) {
			return fmt.Errorf("wait for the head of a task: %w", errors.Join(err, ctx.Err()))
		}
	}
	for _, one := range p.servers {
		if one.proc != nil {
			_ = proc.ResetPeak(int(one.proc.pid.Load()))
		}
	}
	p.crowd.Mark(heads)
	before := p.meter.read(true)
	began := time.Now()
	p.crowd.Reopen(s.spread)
	p.crowd.Settle(ctx, s.timeout)
	after := p.meter.read(true)
	reached, missing := p.crowd.MarkTimes()
	p.meter.steady(from, after)
	if missing > 0 {
		p.round.Notes = append(p.round.Notes, fmt.Sprintf("%d subscribers did not get to the head", missing))
	}
	if len(reached) > 0 {
		slices.Sort(reached)
		since := func(at int64) float64 { return time.UnixMicro(at).Sub(began).Seconds() }
		p.figure("the first one back is at its head after", since(reached[0]), "s")
		p.figure("half of them", since(reached[len(reached)/2]), "s")
		p.figure("the last one", since(reached[len(reached)-1]), "s")
	}
	delivered := float64(after.stats.Deliveries - before.stats.Deliveries)
	p.figure("deliveries in the storm", delivered, "")
	p.figure("bytes read in the storm", float64(after.stats.Bytes-before.stats.Bytes)/(1<<20), "MiB")
	for i, m := range p.meter.watched {
		a, b := before.usage[i], after.usage[i]
		p.figure(m.name+": RSS when it begins", float64(a.RSS)/(1<<20), "MiB")
		p.figure(m.name+": RSS at its peak", float64(b.Peak)/(1<<20), "MiB")
		p.figure(m.name+": growth for each that came back", float64(max(b.Peak-a.RSS, 0))/1024/float64(s.subscribers), "KiB")
		if delivered > 0 {
			p.figure(m.name+": CPU per delivery in the storm", (b.CPU-a.CPU).Seconds()*1e6/delivered, "µs")
		}
	}
	return nil
}

// head is the ordinal of a task's newest event, from its snapshot.
func (s *server) head(ctx context.Context, taskID string) (uint64, error) {
	status, body, err := s.call(ctx, http.MethodGet, "/tasks/"+taskID, nil)
	if err != nil {
		return 0, err
	}
	var snapshot struct {
		LastEventID *string `json:"lastEventId"`
	}
	if err := json.Unmarshal(body, &snapshot); err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("snapshot: status %d: %.200s", status, body)
	}
	if snapshot.LastEventID == nil {
		return 0, nil
	}
	_, ordinal, ok := wire.ParseID([]byte(*snapshot.LastEventID))
	if !ok {
		return 0, fmt.Errorf("snapshot: lastEventId %q", *snapshot.LastEventID)
	}
	return ordinal, nil
}
