//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/abuse"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// honestCreators work beside the subscribers.
const honestCreators = 20

// settleTime is how long a server may take until everything is back.
const settleTime = 30 * time.Second

func abuseDefaults(o *options, given explicit) {
	if !given["subscribers"] {
		o.subscribers = 200
	}
	if !given["tasks"] {
		o.tasks = min(20, o.subscribers)
	}
	if !given["ws"] {
		o.ws = .5
	}
	if o.short && !given["duration"] {
		o.duration = 3 * time.Second
	}
	o.pprof = true
}

// abused plays each attack on a demo host of its own, on which honest clients
// work: first beside a busy loop, then beside the attack.
func abused(ctx context.Context, s *stage) error {
	if !s.judgesTimes() {
		s.report.Notes = append(s.report.Notes, "timings are reported and not judged: that takes -server-cpus, and no -short")
	}
	for _, attack := range s.attacks {
		for range s.rounds {
			if err := s.abuseRound(ctx, attack); err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
		}
	}
	return nil
}

// judgesTimes: a server that shares its core with the attacker is slower than
// one that does not, whatever the attack.
func (s *stage) judgesTimes() bool { return !s.short && len(s.serverCPUs) > 0 }

func (s *stage) abuseRound(ctx context.Context, attack *abuse.Attack) error {
	s.hostFiles = attack.Files
	one, err := s.startHost(ctx, "-redis-prefix", fmt.Sprintf("abuse-%d-%d", os.Getpid(), s.round))
	if err != nil {
		return err
	}
	defer s.stopHosts(one)
	// The tasks go on until they are cancelled.
	length := 2*s.duration + endTime + settleTime + time.Minute
	p, err := s.begin(ctx, load{name: attack.Name, tasks: s.tasks, subscribers: s.subscribers, rate: s.rate, duration: length}, one)
	if err != nil {
		return err
	}
	honest := newCreators(one.base, honestCreators)
	v := &verdict{stage: s, attack: attack, phase: p, one: one, honest: honest}
	err = v.measure(ctx)
	honest.close()
	if err != nil {
		p.abandon()
		return err
	}
	for _, t := range p.tasks {
		if err := one.cancel(ctx, t.ID); err != nil && ctx.Err() == nil {
			p.round.Notes = append(p.round.Notes, err.Error())
		}
	}
	p.end = time.Now()
	p.drain(ctx, s.subscribers)
	p.finish(ctx)
	if ctx.Err() == nil {
		v.judge()
	}
	return nil
}

// stopHosts ends a host, and the Redis of our own, which the next attack gets
// empty.
func (s *stage) stopHosts(one *server) {
	one.proc.p.Stop(3 * time.Second)
	if s.redisP != nil {
		s.redisP.p.Stop(3 * time.Second)
		s.redisP, s.redisURL = nil, ""
	}
}

// measure plays the busy loop and the attack, and waits until the server is as
// it was.
func (v *verdict) measure(ctx context.Context) error {
	s := v.stage
	pause(ctx, min(s.duration/2, 3*time.Second)) // what only a beginning costs
	if !until(ctx, s.timeout, func() bool { made, _, _ := v.honest.counts(); return made >= honestCreators }) {
		_, _, words := v.honest.counts()
		return errors.Join(fmt.Errorf("the honest creators cannot work: %v", words), ctx.Err())
	}
	var err error
	if v.before, err = s.stock(ctx, v.one); err != nil {
		return err
	}
	if v.busy, err = v.window(ctx, &abuse.Busy); err != nil {
		return err
	}
	v.phase.meter.resetPeaks()
	from := v.phase.meter.read(true)
	if v.attacked, err = v.window(ctx, v.attack); err != nil {
		return err
	}
	v.phase.meter.steady(from, v.phase.meter.read(true))
	v.settle(ctx)
	v.lost = v.honest.lost(ctx)
	return ctx.Err()
}

// felt is what honest clients felt in a stretch.
type felt struct {
	events  crowd.Latencies
	p99     float64 // of events, ms
	max     float64
	late    uint64 // events over a second
	request float64
	longest float64
	refused int
	words   []string
	cuts    uint64
	delayed uint64
	result  *abuse.Result
}

// window plays an attack and returns what the honest clients felt while it went
// on, and what they were refused until it was over.
func (v *verdict) window(ctx context.Context, attack *abuse.Attack) (*felt, error) {
	s, p := v.stage, v.phase
	_, refusedBefore, wordsBefore := v.honest.counts()
	before := p.crowd.Stats()
	p.meter.warm()
	v.honest.window()
	attacker, err := s.attack(v.one, attack, s.duration)
	if err != nil {
		return nil, err
	}
	pause(ctx, s.duration)
	events, requests := p.meter.window(), v.honest.window()
	all := events.All()
	f := &felt{
		events: *events, p99: millis(all, .99), max: float64(all.Max()) / 1000, late: all.Over(time.Second.Microseconds()),
		request: millis(&requests, .99), longest: float64(requests.Max()) / 1000,
	}
	if f.result, err = attacker.result(ctx, endTime); err != nil && ctx.Err() == nil {
		return nil, err
	}
	_, refused, words := v.honest.counts()
	after := p.crowd.Stats()
	f.refused, f.words = refused-refusedBefore, words[min(len(wordsBefore), len(words)):]
	f.cuts, f.delayed = after.Cuts-before.Cuts, after.Delayed-before.Delayed
	return f, ctx.Err()
}

// answers are the answers that an attacker got, for a note.
func answers(r *abuse.Result) string {
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(r.Answers)) {
		parts = append(parts, fmt.Sprintf("%d of %d", r.Answers[status], status))
	}
	if r.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d connections without one", r.Failed))
	}
	if len(parts) == 0 {
		parts = []string{"no answer"}
	}
	return fmt.Sprintf("the attacker sent %d, and had %s", r.Sent, strings.Join(parts, ", "))
}

// figures puts what was felt into the round.
func (v *verdict) figures() {
	r := v.phase.round
	times := func(name string, attacked, busy float64) {
		r.Figures = append(r.Figures,
			report.Figure{Name: name + ", beside a busy loop", Value: busy, Unit: "ms"},
			report.Figure{Name: name + ", beside the attack", Value: attacked, Unit: "ms"})
		if busy > 0 {
			f := report.Figure{Name: name + ", ratio", Value: attacked / busy}
			if v.stage.judgesTimes() {
				f.Limit = maxRatio
			}
			r.Figures = append(r.Figures, f)
		}
	}
	times("p99 of honest events", v.attacked.p99, v.busy.p99)
	times("p99 of honest requests", v.attacked.request, v.busy.request)
	v.phase.figure("longest honest event", v.attacked.max, "ms")
	v.phase.figure("longest honest request", v.attacked.longest, "ms")
	v.phase.figure("honest events over a second late, beside a busy loop", float64(v.busy.late), "")
	v.phase.figure("honest events over a second late, beside the attack", float64(v.attacked.late), "")
	v.phase.figure("honest requests refused", float64(v.attacked.refused)+float64(v.attacked.delayed), "")
	v.phase.figure("honest streams cut", float64(v.attacked.cuts), "")
	r.Figures = append(r.Figures, report.Figure{Name: "peak RSS of the server", Value: float64(v.peak()) / (1 << 20), Unit: "MiB", Limit: maxRSS >> 20})
	v.phase.figure("time until everything is back", v.took.Seconds(), "s")
	for _, x := range []struct {
		when string
		at   stock
	}{{"before", v.before}, {"after", v.after}} {
		v.phase.figure("descriptors "+x.when, float64(x.at.usage.Files), "")
		if x.at.inside != nil {
			v.phase.figure("goroutines "+x.when, float64(x.at.inside.goroutines), "")
			v.phase.figure("heap in use "+x.when, float64(x.at.inside.heap)/(1<<20), "MiB")
		}
		v.phase.figure("RSS "+x.when, float64(x.at.usage.RSS)/(1<<20), "MiB")
	}
	r.Notes = append(r.Notes, v.attack.About, answers(v.attacked.result))
}
