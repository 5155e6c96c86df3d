//go:build linux

package main

import (
	"cmp"
	"context"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// meter watches a crowd and the processes around it, and writes what it sees
// into a round.
type meter struct {
	crowd    *crowd.Crowd
	round    *report.Round
	progress *progress
	watched  []*measured
	client   *measured

	began   time.Time
	last    reading
	cancel  context.CancelFunc
	stopped chan struct{}

	mu     sync.Mutex
	peaks  []proc.Usage // highest RSS and descriptors, by process
	totals crowd.Latencies
	// ending is that totals are complete: what comes is of tasks that end.
	ending bool
	ends   crowd.Latencies
}

// warm forgets the latencies so far: those of a beginning, when thousands of
// tasks and streams have just been made.
func (m *meter) warm() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crowd.Interval()
	m.totals = crowd.Latencies{}
}

// end closes what warm began: latencies from now on, while thousands of tasks
// end at once, are a figure of their own.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.totals.Merge(m.crowd.Interval())
	m.ending = true
}

// window returns the latencies since the last call, or since warm, and forgets
// them.
func (m *meter) window() *crowd.Latencies {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gather()
	all := m.totals
	m.totals = crowd.Latencies{}
	return &all
}

// resetPeaks makes the peaks count from now on.
func (m *meter) resetPeaks() {
	for _, p := range m.watched {
		_ = proc.ResetPeak(int(p.pid.Load()))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.peaks)
}

// gather adds what came since the last time. m.mu is held.
func (m *meter) gather() *crowd.Latencies {
	l := m.crowd.Interval()
	if m.ending {
		m.ends.Merge(l)
	} else {
		m.totals.Merge(l)
	}
	return l
}

// reading is one look at everything.
type reading struct {
	at     time.Time
	stats  crowd.Stats
	usage  []proc.Usage // of watched
	pids   []int64
	client proc.Usage
}

// measure begins to watch. Stop ends it.
func (s *stage) measure(c *crowd.Crowd, round *report.Round, servers ...*server) *meter {
	m := &meter{crowd: c, round: round, progress: s.progress, client: newMeasured("client", os.Getpid(), nil), began: time.Now(), stopped: make(chan struct{})}
	for _, one := range servers {
		if one.proc != nil {
			_ = proc.ResetPeak(int(one.proc.pid.Load()))
			m.watched = append(m.watched, one.proc)
		}
	}
	if s.redisP != nil {
		m.watched = append(m.watched, s.redisP)
	}
	m.peaks = make([]proc.Usage, len(m.watched)+1)
	m.last = m.read(true)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go m.run(ctx)
	return m
}

const sampleInterval = 500 * time.Millisecond

func (m *meter) run(ctx context.Context) {
	defer close(m.stopped)
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.sample()
		}
	}
}

// stop ends watching; afterwards the latencies are in the round.
func (m *meter) stop() {
	m.cancel()
	<-m.stopped
	m.gather()
	m.latencies(&m.totals)
	if h := m.ends.All(); h.Count() > 0 {
		m.round.Figures = append(m.round.Figures, report.Figure{Name: "p99 of the last tenth, in which the tasks end", Value: millis(h, .99), Unit: "ms"})
	}
}

func (m *meter) latencies(all *crowd.Latencies) {
	r := m.round
	r.Latency = map[string]report.Latency{}
	for t := range all {
		for c := range all[t] {
			if h := &all[t][c]; h.Count() > 0 {
				r.Latency[label(crowd.Transport(t), crowd.Class(c))] = report.LatencyOf(h)
			}
		}
	}
	if len(r.Latency) > 0 {
		r.Latency["all"] = report.LatencyOf(all.All())
	}
}

// label names a transport and a class.
func label(t crowd.Transport, c crowd.Class) string {
	if c == crowd.Steady {
		return t.String()
	}
	return t.String() + " " + c.String()
}

func (m *meter) read(files bool) reading {
	r := reading{at: time.Now(), stats: m.crowd.Stats()}
	for i, p := range m.watched {
		u, err := proc.Read(int(p.pid.Load()), files)
		if err != nil { // it has ended
			u = proc.Usage{}
		}
		r.usage, r.pids = append(r.usage, u), append(r.pids, p.pid.Load())
		m.mu.Lock()
		m.peaks[i].Peak = max(m.peaks[i].Peak, u.Peak, u.RSS)
		m.peaks[i].Files = max(m.peaks[i].Files, u.Files)
		m.mu.Unlock()
	}
	r.client, _ = proc.Read(int(m.client.pid.Load()), false)
	return r
}

func (m *meter) sample() {
	now := m.read(true)
	was := m.last
	m.last = now
	seconds := now.at.Sub(was.at).Seconds()
	m.mu.Lock()
	latencies := m.gather()
	m.mu.Unlock()
	h := latencies.Of(crowd.Steady)
	var server, before proc.Usage
	for i := range now.usage {
		if m.watched[i].name == "redis" {
			continue
		}
		server = sum(server, now.usage[i])
		before = sum(before, was.usage[i])
	}
	delivered := float64(now.stats.Deliveries - was.stats.Deliveries)
	counters := m.crowd.Counters()
	x := report.Sample{
		At: now.at.Sub(m.began).Seconds(), Deliveries: delivered / seconds,
		P50: millis(h, .5), P99: millis(h, .99),
		Cores: max((server.CPU-before.CPU).Seconds()/seconds, 0), RSS: server.RSS, Files: server.Files,
		Voluntary: per(server.Voluntary, before.Voluntary, seconds), Preempted: per(server.Involuntary, before.Involuntary, seconds),
		Client: (now.client.CPU - was.client.CPU).Seconds() / seconds,
		Open:   now.stats.Open, Cuts: now.stats.Cuts, Violations: counters.Violations(),
	}
	if delivered > 0 {
		x.PerDeliver = max(float64((server.CPU-before.CPU).Nanoseconds())/delivered/1000, 0)
	}
	m.round.Series = append(m.round.Series, x)
	m.progress.update("%s: %d streams, %s deliveries/s, p50 %.2f p99 %.2f ms, server %.2f cores %d MiB, client %.2f cores, %d cuts, %d violations",
		m.round.Name, x.Open, short(x.Deliveries), x.P50, x.P99, x.Cores, x.RSS>>20, x.Client, x.Cuts, x.Violations)
}

func sum(a, b proc.Usage) proc.Usage {
	a.CPU += b.CPU
	a.RSS += b.RSS
	a.Files += b.Files
	a.Voluntary += b.Voluntary
	a.Involuntary += b.Involuntary
	return a
}

// per is a rate; a process that ended takes its count with it.
func per(now, before uint64, seconds float64) float64 {
	if now < before {
		return 0
	}
	return float64(now-before) / seconds
}

func millis(h *hist.Hist, q float64) float64 { return float64(h.Quantile(q)) / 1000 }

// steady notes what the processes used between two readings.
func (m *meter) steady(from, to reading) {
	seconds := to.at.Sub(from.at).Seconds()
	delivered := float64(to.stats.Deliveries - from.stats.Deliveries)
	m.round.PerSecond = delivered / seconds
	use := func(p *measured, a, b, peak proc.Usage) report.Process {
		cpu := max((b.CPU - a.CPU).Seconds(), 0)
		x := report.Process{
			Name: p.name, CPUSeconds: cpu, Cores: cpu / seconds, RSSStart: a.RSS, RSSPeak: max(peak.Peak, b.Peak), RSSEnd: b.RSS, FilesPeak: max(peak.Files, b.Files),
			SwitchesPerSec: per(b.Voluntary, a.Voluntary, seconds), PreemptsPerSec: per(b.Involuntary, a.Involuntary, seconds),
		}
		if ticks := (b.User + b.System - a.User - a.System).Seconds(); ticks > 0 {
			x.SystemShare = (b.System - a.System).Seconds() / ticks
		}
		if delivered > 0 {
			x.PerDelivery = cpu * 1e6 / delivered
		}
		return x
	}
	m.round.Processes = nil
	for i, p := range m.watched {
		before := from.usage[i]
		if from.pids[i] != to.pids[i] { // another process: all it used is of this stretch
			before = proc.Usage{RSS: before.RSS}
		}
		m.mu.Lock()
		peak := m.peaks[i]
		m.mu.Unlock()
		m.round.Processes = append(m.round.Processes, use(p, before, to.usage[i], peak))
	}
	m.round.Client = use(m.client, from.client, to.client, proc.Usage{})
	m.round.Saturated = m.round.Client.Cores > .9*float64(cmp.Or(runtime.GOMAXPROCS(0), 1))
}
