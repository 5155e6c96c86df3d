package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Text writes the summary.
func (r *Report) Text(w io.Writer) error {
	p := &printer{w: w}
	p.f("\n%s against %s, %.0f s\n", r.Scenario, r.Server, r.Seconds)
	p.f("%d cores (%s), Linux %s, %s\n", r.Machine.Cores, r.Machine.CPU, r.Machine.Kernel, r.Machine.Go)
	for _, round := range r.Rounds {
		round.text(p)
	}
	if len(r.Figures) > 0 {
		p.f("\nin all\n")
		figures(p, r.Figures)
	}
	for _, n := range r.Notes {
		p.f("  note: %s\n", n)
	}
	p.f("\n%s\n", r.Verdict())
	for _, v := range r.Violations {
		p.f("  %s\n", v)
	}
	if len(r.Failures) > 0 {
		p.f("FAILED:\n")
	}
	for _, v := range r.Failures {
		p.f("  %s\n", v)
	}
	return p.err
}

// Verdict says in a line whether anything was lost.
func (r *Report) Verdict() string {
	c := r.Checks
	var parts []string
	for _, x := range []struct {
		n    uint64
		what string
	}{
		{c.Lost, "lost"},
		{c.Repeated, "repeated on a connection"},
		{c.Reordered, "out of order"},
		{c.AfterTerminal, "after the terminal event"},
		{c.BadGaps, "gap notices that were not so"},
		{c.Corrupt, "corrupt"},
		{c.BadEnds, "clean ends without a terminal event"},
		{c.Refused, "refused for good"},
		{c.Incomplete, "subscribers that did not see the end"},
	} {
		if x.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	var b strings.Builder
	if r.Interrupted {
		b.WriteString("INTERRUPTED. ")
	}
	if len(parts) == 0 {
		fmt.Fprintf(&b, "NOTHING LOST: %s events checked, none lost, repeated or out of order", thousands(c.Events))
	} else {
		fmt.Fprintf(&b, "BROKEN: of %s events: %s", thousands(c.Events), strings.Join(parts, ", "))
	}
	if c.AcrossRepeats > 0 {
		fmt.Fprintf(&b, "; %d repeated across reconnects, which is allowed", c.AcrossRepeats)
	}
	if c.Gaps > 0 {
		fmt.Fprintf(&b, "; %d gaps announced, %d events", c.Gaps, c.GapEvents)
	}
	return b.String()
}

func (round *Round) text(p *printer) {
	p.f("\n%s\n", round.Name)
	var who []string
	for _, k := range slices.Sorted(maps.Keys(round.Subscribers)) {
		who = append(who, fmt.Sprintf("%s %s", thousands(uint64(round.Subscribers[k])), k))
	}
	p.f("  %s; %d tasks, %s events/s of %d bytes; %s deliveries in %.1f s, %s a second\n",
		strings.Join(who, ", "), round.Tasks, thousands(uint64(round.Rate)), round.Size, thousands(round.Deliveries), round.Seconds, thousands(uint64(round.PerSecond)))
	if len(round.Latency) > 0 {
		p.f("  %-14s %12s %9s %9s %9s %9s %9s\n", "latency, ms", "events", "p50", "p90", "p99", "p99.9", "max")
		for _, k := range slices.Sorted(maps.Keys(round.Latency)) {
			l := round.Latency[k]
			if k == "all" && len(round.Latency) == 2 {
				continue
			}
			p.f("  %-14s %12s %9.2f %9.2f %9.2f %9.2f %9.2f\n", k, thousands(l.Count), l.P50, l.P90, l.P99, l.P999, l.Max)
		}
	}
	all := append(slices.Clone(round.Processes), round.Client)
	for _, x := range all {
		p.f("  %-14s %6.2f cores (%2.0f %% system), %6.2f µs CPU a delivery; RSS %s, peak %s, end %s; %d descriptors; %.0f switches/s, %.0f preemptions/s\n",
			x.Name, x.Cores, 100*x.SystemShare, x.PerDelivery, mib(x.RSSStart), mib(x.RSSPeak), mib(x.RSSEnd), x.FilesPeak, x.SwitchesPerSec, x.PreemptsPerSec)
	}
	if round.Saturated {
		p.f("  THE CLIENT WAS SATURATED: its latencies are partly its own\n")
	}
	figures(p, round.Figures)
	for _, n := range round.Notes {
		p.f("  note: %s\n", n)
	}
}

func figures(p *printer, all []Figure) {
	for _, f := range all {
		p.f("  %-58s %12s %s", f.Name, number(f.Value), f.Unit)
		if f.Limit > 0 {
			how := "met"
			if f.Value > f.Limit {
				how = "NOT MET"
			}
			p.f("  (at most %s: %s)", number(f.Limit), how)
		}
		p.f("\n")
	}
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// number writes a number with as many digits as mean something.
func number(v float64) string {
	switch {
	case v == float64(int64(v)) && v >= 1000:
		return thousands(uint64(v))
	case v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1 || v <= -1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
