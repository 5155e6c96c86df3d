package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// chart is a plot that becomes SVG. Colours are classes, so that the page
// chooses them for light and dark.
type chart struct {
	title, note  string
	yUnit, xUnit string
	lines        []line
	// nines spreads x, a share below 1, by its distance to 1: 0.9, 0.99 and
	// 0.999 stand equally far apart.
	nines bool
	// logY has a logarithmic y.
	logY bool
}

type line struct {
	name   string
	x, y   []float64
	dashed bool
	colour int
}

const (
	chartWidth  = 720.0
	chartHeight = 270.0
	plotLeft    = 62.0
	plotRight   = 704.0
	plotTop     = 14.0
	plotBottom  = 232.0
	// colours is how many the page has.
	colours = 8
)

// empty reports whether there is nothing to see.
func (c *chart) empty() bool {
	for _, l := range c.lines {
		for _, y := range l.y {
			if y != 0 {
				return false
			}
		}
	}
	return true
}

func (c *chart) svg() template.HTML {
	xs, ys := c.scales()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, chartWidth, chartHeight, html.EscapeString(c.title))
	for _, t := range ys.ticks {
		y := ys.at(t, plotBottom, plotTop)
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/><text class="tick" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			plotLeft, y, plotRight, y, plotLeft-8, y+4, tickLabel(t))
	}
	for i, t := range xs.ticks {
		x := xs.at(t, plotLeft, plotRight)
		label, anchor := tickLabel(t), "middle"
		if c.nines && i == len(xs.ticks)-1 {
			anchor = "end"
		}
		if c.nines {
			label = [...]string{"0", "50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"}[i]
		}
		fmt.Fprintf(&b, `<line class="mark" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/><text class="tick" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`,
			x, plotBottom, x, plotBottom+4, x, plotBottom+18, anchor, label)
	}
	fmt.Fprintf(&b, `<line class="axis" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, plotLeft, plotBottom, plotRight, plotBottom)
	fmt.Fprintf(&b, `<text class="unit" x="%.1f" y="%.1f" text-anchor="end">%s</text>`, plotRight, plotBottom+34, html.EscapeString(c.xUnit))
	for _, l := range c.lines {
		b.WriteString(`<polyline class="line c`)
		fmt.Fprint(&b, l.colour%colours)
		if l.dashed {
			b.WriteString(" dashed")
		}
		b.WriteString(`" points="`)
		for i := range l.x {
			fmt.Fprintf(&b, "%.1f,%.1f ", xs.at(l.x[i], plotLeft, plotRight), ys.at(l.y[i], plotBottom, plotTop))
		}
		fmt.Fprintf(&b, `"><title>%s</title></polyline>`, html.EscapeString(l.name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// scale maps values to a share of an axis.
type scale struct {
	from, to float64
	shape    func(float64) float64
	ticks    []float64
}

func (s *scale) at(v, start, end float64) float64 {
	lo, hi := s.shape(s.from), s.shape(s.to)
	share := 0.0
	if hi > lo {
		share = (s.shape(min(max(v, s.from), s.to)) - lo) / (hi - lo)
	}
	return start + share*(end-start)
}

func linear(v float64) float64 { return v }

// ninesOf is how many nines a share has.
func ninesOf(v float64) float64 { return -math.Log10(1 - min(v, .99999)) }

func (c *chart) scales() (x, y scale) {
	var xMax, yMax float64
	yMin := math.Inf(1)
	for _, l := range c.lines {
		for i := range l.x {
			xMax, yMax = max(xMax, l.x[i]), max(yMax, l.y[i])
			if l.y[i] > 0 {
				yMin = min(yMin, l.y[i])
			}
		}
	}
	if yMax <= 0 {
		yMax = 1
	}
	if c.nines {
		x = scale{from: 0, to: .99999, shape: ninesOf, ticks: []float64{0, .5, .9, .99, .999, .9999, .99999}}
	} else {
		x = scale{from: 0, to: max(xMax, 1e-9), shape: linear}
		for step, t := niceStep(xMax, 8), 0.0; t <= xMax; t += step {
			x.ticks = append(x.ticks, t)
		}
	}
	if !c.logY {
		step := niceStep(yMax, 4)
		y = scale{from: 0, to: math.Ceil(yMax/step) * step, shape: linear}
		for t := 0.0; t <= y.to+step/2; t += step {
			y.ticks = append(y.ticks, t)
		}
		return x, y
	}
	if math.IsInf(yMin, 1) {
		yMin = .1
	}
	low := math.Floor(math.Log10(yMin))
	high := max(math.Ceil(math.Log10(yMax)), low+1)
	y = scale{from: math.Pow(10, low), to: math.Pow(10, high), shape: math.Log10}
	for e := low; e <= high; e++ {
		y.ticks = append(y.ticks, math.Pow(10, e))
	}
	return x, y
}

// niceStep is 1, 2 or 5 times a power of ten that divides a length into at
// most n.
func niceStep(length float64, n int) float64 {
	if length <= 0 {
		return 1
	}
	raw := length / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= raw*.999 {
			return m * power
		}
	}
	return 10 * power
}

func tickLabel(v float64) string {
	switch {
	case v >= 1e6:
		return trim(v/1e6) + " M"
	case v >= 1e4:
		return trim(v/1e3) + " k"
	}
	return trim(v)
}

func trim(v float64) string {
	s := fmt.Sprintf("%.3f", v)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
