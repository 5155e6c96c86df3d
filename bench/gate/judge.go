package main

import (
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"

	"golang.org/x/perf/benchmath"
)

// rules say what is worse.
type rules struct {
	slower float64 // share of the base's time
	alpha  float64
	hot    *regexp.Regexp // names without "Benchmark"
}

// limit is how one unit is judged.
type limit struct {
	unit string
	// time has noise, a count has next to none.
	time bool
	// share and absolute are by how much the median may grow, whichever is more.
	share, absolute float64
}

// limits are those of a benchmark that measures these units.
func (r rules) limits(name string, units map[string][]float64) []limit {
	all := []limit{
		{unit: unitTime, time: true, share: r.slower},
		{unit: processor(units), time: true, share: r.slower},
	}
	if !r.hot.MatchString(name) {
		return all
	}
	allocs := "allocs/op"
	if _, ok := units["allocs/round"]; ok {
		allocs = "allocs/round" // counted over a fixed number of rounds, not rounded down
	}
	// Less than this is what a run of the runtime's own makes of a count: the
	// growth of a map, a timer's system call.
	return append(all,
		limit{unit: allocs, share: 0.01, absolute: 0.5},
		limit{unit: "writes/flush", absolute: 0.005},
		limit{unit: "syscalls/flush", absolute: 0.02},
	)
}

const (
	unitTime = "sec/op"
	// unitBare is CPU time over that of a bare write loop of the same run: what
	// is left of the machine's moods.
	unitBare = "x-bare"
	// unitYardstick is that loop's CPU time itself.
	unitYardstick = "bare-cpu-sec/delivery"
)

// processor is the unit of what a benchmark takes of the CPU, which other
// programs change less than the time that passes: the ratio to the yardstick if
// there is one.
func processor(units map[string][]float64) string {
	for _, unit := range []string{unitBare, "cpu-sec/delivery", "cpu-sec/event"} {
		if len(units[unit]) > 0 {
			return unit
		}
	}
	return ""
}

// finding is what can be said of one unit of one benchmark.
type finding struct {
	name, unit string
	what       outcome
	why        string
	time       bool // not a count
}

type outcome int

const (
	fine outcome = iota
	noisy
	worse
)

// verdict is all findings.
type verdict struct {
	findings         []finding
	added, gone      []string
	compared, judged int
}

// judge compares what both have.
func judge(r rules, base, head recording) (verdict, error) {
	var v verdict
	before, err := base.series()
	if err != nil {
		return v, err
	}
	after, err := head.series()
	if err != nil {
		return v, err
	}
	for _, name := range after.names {
		if _, ok := before.values[name]; !ok {
			v.added = append(v.added, name)
			continue
		}
		v.compared++
		v.compare(r, name, before.values[name], after.values[name])
	}
	for _, name := range before.names {
		if _, ok := after.values[name]; !ok {
			v.gone = append(v.gone, name)
		}
	}
	return v, nil
}

func (v *verdict) compare(r rules, name string, before, after map[string][]float64) {
	var times []finding
	for _, l := range r.limits(name, before) {
		b, h := before[l.unit], after[l.unit]
		switch {
		case len(h) == 0 && len(b) > 0:
			v.findings = append(v.findings, finding{name: name, unit: l.unit, what: worse, why: "it is not measured any more"})
		case len(h) == 0 || len(b) == 0:
		case l.time:
			times = append(times, r.slowdown(l, name, b, h, moved(r, before, after)))
			v.judged++
		default:
			v.findings = append(v.findings, r.count(l, name, b, h))
			v.judged++
		}
	}
	// A steady processor tells what a noisy clock cannot, and the other way round:
	// on several cores waiting for each other is the processor's time, too.
	for _, f := range times {
		if f.what == noisy && slices.ContainsFunc(times, func(o finding) bool { return o.what != noisy }) {
			continue
		}
		v.findings = append(v.findings, f)
	}
}

// slowdown judges a time. moved says that the machine was another one for the
// two sides.
func (r rules) slowdown(l limit, name string, base, head []float64, moved string) finding {
	f := finding{name: name, unit: l.unit, time: true}
	b, h := r.sample(base), r.sample(head)
	grown := center(h)/center(b) - 1
	p := benchmath.AssumeNothing.Compare(b, h).P
	f.why = fmt.Sprintf("%+.1f %% (p=%.3f)", 100*grown, p)
	if l.unit == unitTime && moved != "" {
		f.what, f.why = noisy, f.why+"; "+moved
		return f
	}
	if slices.Min(head) > slices.Max(base)*(1+l.share) {
		f.what = worse // the best run now is that much slower than the worst was
		return f
	}
	if n := unrest(l.share, base, head); n != "" {
		f.what, f.why = noisy, f.why+"; "+n
		return f
	}
	switch {
	case grown <= l.share:
	case p < r.alpha:
		f.what = worse
	default:
		f.what = noisy
	}
	return f
}

// count judges what does not depend on the machine.
func (r rules) count(l limit, name string, base, head []float64) finding {
	f := finding{name: name, unit: l.unit}
	b, h := r.sample(base), r.sample(head)
	more := center(h) - center(b)
	p := benchmath.AssumeNothing.Compare(b, h).P
	f.why = fmt.Sprintf("%.4g, was %.4g (p=%.3f)", center(h), center(b), p)
	if more > max(l.absolute, l.share*center(b)) && p < r.alpha {
		f.what = worse
	}
	return f
}

// unrest says why times are too scattered to find a change of that share in.
func unrest(share float64, base, head []float64) string {
	if d := halves(base); d > share {
		return fmt.Sprintf("the base differs from itself by %.0f %%, one half of its runs from the other", 100*d)
	}
	for _, side := range []struct {
		name   string
		values []float64
	}{{"base", base}, {"head", head}} {
		if d := scatter(side.values); d > share {
			return fmt.Sprintf("the runs of the %s are %.0f %% apart", side.name, 100*d)
		}
	}
	return ""
}

// moved says that the yardstick, which is the same code on both sides, took
// another time on one of them.
func moved(r rules, before, after map[string][]float64) string {
	b, h := before[unitYardstick], after[unitYardstick]
	if len(b) == 0 || len(h) == 0 {
		return ""
	}
	if d := math.Abs(median(h)/median(b) - 1); d > r.slower {
		return fmt.Sprintf("a bare write loop differed by %.0f %% between the two", 100*d)
	}
	return ""
}

// halves is how much the medians of every other run differ.
func halves(values []float64) float64 {
	var odd, even []float64
	for i, v := range values {
		if i%2 == 0 {
			even = append(even, v)
		} else {
			odd = append(odd, v)
		}
	}
	if len(odd) == 0 {
		return 0
	}
	a, b := median(odd), median(even)
	return max(a, b)/min(a, b) - 1
}

// scatter is the distance of the quartiles, as a share of the median: a single
// run that was disturbed does not count.
func scatter(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	at := func(q float64) float64 {
		i := q * float64(len(s)-1)
		lo, hi := s[int(math.Floor(i))], s[int(math.Ceil(i))]
		return lo + (hi-lo)*(i-math.Floor(i))
	}
	return (at(0.75) - at(0.25)) / at(0.5)
}

func median(values []float64) float64 {
	return center(benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds))
}

func (r rules) sample(values []float64) *benchmath.Sample {
	return benchmath.NewSample(slices.Clone(values), &benchmath.Thresholds{CompareAlpha: r.alpha})
}

func center(s *benchmath.Sample) float64 { return benchmath.AssumeNothing.Summary(s, 0.95).Center }

func (v verdict) with(what outcome) []finding {
	var out []finding
	for _, f := range v.findings {
		if f.what == what {
			out = append(out, f)
		}
	}
	return out
}

// unsure are the benchmarks about which more runs would tell more: too noisy to
// judge, and if again is set those that are slower, which is to be found again.
func (v verdict) unsure(again bool) []string {
	var names []string
	for _, f := range v.findings {
		if (f.what == noisy || f.what == worse && f.time && again) && !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	return names
}

func (v verdict) code() int {
	switch {
	case len(v.with(worse)) > 0:
		return exitWorse
	case len(v.with(noisy)) > 0:
		return exitInconclusive
	}
	return exitOK
}

func (v verdict) print(w io.Writer) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	for _, name := range v.added {
		line("new: %s", name)
	}
	for _, name := range v.gone {
		line("gone: %s", name)
	}
	for _, f := range v.with(noisy) {
		line("too noisy: %s %s: %s", f.name, f.unit, f.why)
	}
	for _, f := range v.with(worse) {
		line("WORSE: %s %s: %s", f.name, f.unit, f.why)
	}
	switch v.code() {
	case exitWorse:
		line("FAIL: %d of %d measurements of %d benchmarks got worse", len(v.with(worse)), v.judged, v.compared)
	case exitInconclusive:
		line("INCONCLUSIVE: the machine was too noisy to judge %d of %d measurements; nothing that could be judged got worse.",
			len(v.with(noisy)), v.judged)
		line("Try again when it is quiet, or with a larger COUNT.")
	default:
		if v.compared == 0 {
			line("PASS: nothing to compare: the base has none of these benchmarks")
			return
		}
		line("PASS: none of %d measurements of %d benchmarks got worse", v.judged, v.compared)
	}
}
