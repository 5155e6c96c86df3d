// Package report holds what a run found, and writes it as text, as JSON and as
// one HTML page.
package report

import (
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
)

// Report is a whole run.
type Report struct {
	Scenario string    `json:"scenario"`
	Command  string    `json:"command"`
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"`
	Machine  Machine   `json:"machine"`
	Server   string    `json:"server"`
	Rounds   []*Round  `json:"rounds"`
	// Figures are what the rounds amount to, for this scenario.
	Figures    []Figure       `json:"figures,omitempty"`
	Notes      []string       `json:"notes,omitempty"`
	Checks     check.Counters `json:"checks"`
	Violations []string       `json:"violations,omitempty"`
	// Failures are the goals of the scenario, other than that nothing is lost,
	// that were missed, in words.
	Failures    []string `json:"failures,omitempty"`
	Interrupted bool     `json:"interrupted,omitempty"`
}

// Machine is what it ran on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Round is one measured stretch against one server.
type Round struct {
	Name        string             `json:"name"`
	Server      string             `json:"server"`
	Subscribers map[string]int     `json:"subscribers"` // by transport and class
	Tasks       int                `json:"tasks"`
	Rate        float64            `json:"rate"` // events per second, as planned
	Size        int                `json:"size"` // bytes of text in each
	Seconds     float64            `json:"seconds"`
	Deliveries  uint64             `json:"deliveries"`
	PerSecond   float64            `json:"perSecond"` // deliveries, in the steady part
	Latency     map[string]Latency `json:"latency"`   // by transport and class, and "all"
	Processes   []Process          `json:"processes"` // in the steady part
	Client      Process            `json:"client"`
	Saturated   bool               `json:"clientSaturated"`
	Figures     []Figure           `json:"figures,omitempty"`
	Notes       []string           `json:"notes,omitempty"`
	Series      []Sample           `json:"series,omitempty"`
	Checks      check.Counters     `json:"checks"`
	// Late is how many seconds after the planned end everybody had everything.
	Late float64 `json:"late"`
}

// Process is what a process used in the steady part of a round.
type Process struct {
	Name           string  `json:"name"`
	CPUSeconds     float64 `json:"cpuSeconds"`
	SystemShare    float64 `json:"systemShare"`
	Cores          float64 `json:"cores"` // mean load
	PerDelivery    float64 `json:"cpuMicrosPerDelivery"`
	RSSStart       int64   `json:"rssStart"`
	RSSPeak        int64   `json:"rssPeak"`
	RSSEnd         int64   `json:"rssEnd"`
	FilesPeak      int     `json:"filesPeak"`
	SwitchesPerSec float64 `json:"voluntarySwitchesPerSecond"`
	PreemptsPerSec float64 `json:"involuntarySwitchesPerSecond"`
}

// Sample is one moment of a round; rates are since the one before.
type Sample struct {
	At         float64 `json:"at"` // seconds
	Deliveries float64 `json:"deliveriesPerSecond"`
	P50        float64 `json:"p50ms"`
	P99        float64 `json:"p99ms"`
	Cores      float64 `json:"serverCores"`
	PerDeliver float64 `json:"cpuMicrosPerDelivery"`
	RSS        int64   `json:"serverRSS"`
	Files      int     `json:"serverFiles"`
	Voluntary  float64 `json:"voluntarySwitchesPerSecond"`
	Preempted  float64 `json:"involuntarySwitchesPerSecond"`
	Client     float64 `json:"clientCores"`
	Open       uint64  `json:"openStreams"`
	Cuts       uint64  `json:"cuts"`
	Violations uint64  `json:"violations"`
}

// Figure is a named number.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	// Limit is what the value should not exceed, 0 for none.
	Limit float64 `json:"limit,omitempty"`
}

// Latency is a distribution of times from emit to client, in milliseconds.
type Latency struct {
	Count uint64  `json:"count"`
	Min   float64 `json:"min"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
	// Curve are the milliseconds at CurveQuantiles.
	Curve []float64 `json:"curve"`
}

// CurveQuantiles are the quantiles of Latency.Curve.
var CurveQuantiles = quantiles()

func quantiles() []float64 {
	var q []float64
	for i := range 100 {
		q = append(q, float64(i)/100)
	}
	for _, tail := range []float64{.01, .005, .002, .001, .0005, .0002, .0001, .00005, .00002, .00001} {
		q = append(q, 1-tail)
	}
	return append(q, 1)
}

// LatencyOf summarises a histogram of microseconds.
func LatencyOf(h *hist.Hist) Latency {
	ms := func(v int64) float64 { return float64(v) / 1000 }
	l := Latency{
		Count: h.Count(), Min: ms(h.Min()), Mean: h.Mean() / 1000, Max: ms(h.Max()),
		P50: ms(h.Quantile(.5)), P90: ms(h.Quantile(.9)), P99: ms(h.Quantile(.99)), P999: ms(h.Quantile(.999)),
	}
	for _, q := range CurveQuantiles {
		l.Curve = append(l.Curve, ms(h.Quantile(q)))
	}
	return l
}
