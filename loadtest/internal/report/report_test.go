package report_test

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sample(violations uint64) *report.Report {
	var h hist.Hist
	for i := range int64(10_000) {
		h.Record(i * i / 100)
	}
	round := &report.Round{
		Name: "fan-out <1>", Subscribers: map[string]int{"sse": 1500, "ws slow": 20}, Tasks: 1, Rate: 500, Size: 200, Seconds: 12, Deliveries: 1_234_567,
		Latency:   map[string]report.Latency{"sse": report.LatencyOf(&h), "ws slow": report.LatencyOf(&h), "all": report.LatencyOf(&h)},
		Processes: []report.Process{{Name: "server", Cores: .5, PerDelivery: 5.2, RSSPeak: 30 << 20}},
		Saturated: true,
		Figures:   []report.Figure{{Name: "ratio", Value: 1.1, Limit: 1.15}, {Name: "other ratio", Value: 1.4, Limit: 1.3}},
	}
	for i := range 20 {
		x := float64(i)
		round.Series = append(round.Series, report.Sample{At: x / 2, Deliveries: 1e5 + 1e3*x, P50: 1 + x, P99: 10 + x, Cores: .5, PerDeliver: 5, RSS: int64(20+i) << 20, Open: 1520, Files: 1530, Client: .4})
	}
	return &report.Report{
		Scenario: "fan-out", Command: "loadtest -scenario fan-out <script>", Started: time.Unix(0, 0), Seconds: 12, Rounds: []*report.Round{round},
		Checks: check.Counters{Events: 1_234_567, Lost: violations}, Violations: []string{"<b>what it was</b>"},
	}
}

func TestTextSaysWhatMatters(t *testing.T) {
	for violations, want := range map[uint64]string{0: "NOTHING LOST: 1,234,567 events", 3: "BROKEN: of 1,234,567 events: 3 lost"} {
		var b bytes.Buffer
		if err := sample(violations).Text(&b); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{want, "1,500 sse, 20 ws slow", "SATURATED", "at most 1.15: met", "at most 1.30: NOT MET", "p99.9", "5.20 µs CPU a delivery"} {
			if !strings.Contains(b.String(), s) {
				t.Errorf("%q is not in\n%s", s, b.String())
			}
		}
	}
}

func TestPageNeedsNothingElse(t *testing.T) {
	var b bytes.Buffer
	if err := sample(1).HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, s := range []string{"<svg", "polyline", "prefers-color-scheme: dark", "BROKEN", "fan-out &lt;1&gt;", "&lt;script&gt;", "&lt;b&gt;what", "over 1.30", "Memory of the server"} {
		if !strings.Contains(page, s) {
			t.Errorf("%q is not in the page", s)
		}
	}
	for _, s := range []string{"http://", "https://", "<script", "@import", "url(", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(page, s) {
			t.Errorf("%q is in the page", s)
		}
	}
	if strings.Contains(page, "Cuts and violations") {
		t.Error("a plot without anything in it")
	}
}

func TestPageOfNothing(t *testing.T) {
	var b bytes.Buffer
	r := &report.Report{Rounds: []*report.Round{{Name: "empty"}}}
	if err := r.HTML(&b); err != nil || strings.Contains(b.String(), "NaN") {
		t.Errorf("%v", err)
	}
	if err := r.Text(&b); err != nil {
		t.Error(err)
	}
}

func TestLatencyOfAHistogram(t *testing.T) {
	var h hist.Hist
	for i := range int64(1000) {
		h.Record(1000 * (i + 1))
	}
	l := report.LatencyOf(&h)
	if math.Abs(l.P50-500) > 8 || math.Abs(l.P99-990) > 16 || l.Max != 1000 || l.Min != 1 || len(l.Curve) != len(report.CurveQuantiles) {
		t.Errorf("%+v", l)
	}
	for i := 1; i < len(l.Curve); i++ {
		if l.Curve[i] < l.Curve[i-1] || report.CurveQuantiles[i] < report.CurveQuantiles[i-1] {
			t.Fatalf("the curve goes back at %d", i)
		}
	}
}
