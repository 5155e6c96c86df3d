package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"thousands": func(v any) string { return thousands(count(v)) },
	"number":    number,
	"mib":       mib,
	"labels":    func(m map[string]Latency) []string { return slices.Sorted(maps.Keys(m)) },
	"who":       who,
	"percent":   func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) },
}).Parse(pageText))

func count(v any) uint64 {
	switch n := v.(type) {
	case int:
		return uint64(max(n, 0))
	case float64:
		return uint64(max(n, 0))
	case uint64:
		return n
	}
	return 0
}

// who says how many subscribers there were of each kind.
func who(m map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, thousands(count(m[k]))+" "+k)
	}
	return strings.Join(parts, ", ")
}

// plot is a chart as the page shows it.
type plot struct {
	Title, Note string
	SVG         template.HTML
	Legend      []legend
}

type legend struct {
	Name   string
	Colour int
	Dashed bool
}

// HTML writes a page that needs nothing but itself.
func (r *Report) HTML(w io.Writer) error {
	var plots []plot
	for _, c := range r.charts() {
		if c.empty() {
			continue
		}
		p := plot{Title: c.title, Note: c.note, SVG: c.svg()}
		if c.yUnit != "" {
			p.Title += ", " + c.yUnit
		}
		for _, l := range c.lines {
			p.Legend = append(p.Legend, legend{l.name, l.colour % colours, l.dashed})
		}
		plots = append(plots, p)
	}
	return page.Execute(w, struct {
		*Report
		Plots  []plot
		Broken bool
	}{r, plots, r.Checks.Violations() > 0 || len(r.Failures) > 0})
}

// charts are the plots of all rounds.
func (r *Report) charts() []*chart {
	latency := &chart{
		title: "Latency from emit to client", yUnit: "ms", xUnit: "share of the deliveries that took at most as long",
		note: "Live events only, by transport. Both axes are logarithmic, the lower one towards 100 %.", nines: true, logY: true,
	}
	overTime := func(title, unit, note string, logY bool) *chart {
		return &chart{title: title, yUnit: unit, xUnit: "seconds", note: note, logY: logY}
	}
	p99 := overTime("Latency over time", "ms", "p50, and p99 dashed, of each half second; those who read.", true)
	deliveries := overTime("Deliveries", "a second", "", false)
	cpu := overTime("CPU per delivery", "µs", "All of the server's CPU time over all deliveries of each half second.", true)
	cores := overTime("CPU", "cores", "The server, and the load tool itself dashed.", false)
	memory := overTime("Memory of the server", "MiB resident", "", false)
	files := overTime("Open streams", "", "And the server's descriptors, dashed.", false)
	errors := overTime("Cuts and violations", "", "Connections cut by the server, in all, and broken promises dashed.", false)
	colour := 0
	for i, round := range r.Rounds {
		for _, label := range slices.Sorted(maps.Keys(round.Latency)) {
			if label == "all" {
				continue
			}
			name := round.Name
			if len(round.Latency) > 2 {
				name += ", " + label
			}
			latency.lines = append(latency.lines, line{name: name, x: CurveQuantiles, y: positive(round.Latency[label].Curve), colour: colour})
			colour++
		}
		add := func(c *chart, name string, dashed bool, of func(*Sample) float64) {
			l := line{name: name, dashed: dashed, colour: i}
			for k := range round.Series {
				y := of(&round.Series[k])
				if c.logY && y <= 0 {
					continue // nothing in that half second
				}
				l.x, l.y = append(l.x, round.Series[k].At), append(l.y, y)
			}
			c.lines = append(c.lines, l)
		}
		add(p99, round.Name, false, func(s *Sample) float64 { return s.P50 })
		add(p99, round.Name+", p99", true, func(s *Sample) float64 { return s.P99 })
		add(deliveries, round.Name, false, func(s *Sample) float64 { return s.Deliveries })
		add(cpu, round.Name, false, func(s *Sample) float64 { return s.PerDeliver })
		add(cores, round.Name, false, func(s *Sample) float64 { return s.Cores })
		add(cores, round.Name+", client", true, func(s *Sample) float64 { return s.Client })
		add(memory, round.Name, false, func(s *Sample) float64 { return float64(s.RSS) / (1 << 20) })
		add(files, round.Name, false, func(s *Sample) float64 { return float64(s.Open) })
		add(files, round.Name+", descriptors", true, func(s *Sample) float64 { return float64(s.Files) })
		add(errors, round.Name+", cuts", false, func(s *Sample) float64 { return float64(s.Cuts) })
		add(errors, round.Name+", violations", true, func(s *Sample) float64 { return float64(s.Violations) })
	}
	return []*chart{latency, p99, deliveries, cpu, cores, memory, files, errors}
}

// positive is for a logarithmic axis: what took no measurable time took a
// hundredth of a millisecond.
func positive(curve []float64) []float64 {
	out := slices.Clone(curve)
	for i := range out {
		out[i] = max(out[i], .01)
	}
	return out
}
