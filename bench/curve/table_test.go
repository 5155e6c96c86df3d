package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorded is what the load tool wrote about one fan-out and one bare loop.
func recorded(t *testing.T) result {
	t.Helper()
	text, err := os.ReadFile("testdata/fan-out.json")
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTable(t *testing.T) {
	r := recorded(t)
	s, err := parse([]string{"-subscribers", "2000", "-flush", "0,5ms", "-duration", "2s"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	text, err := curve{s: s, transport: sse, single: r, rows: []result{r, r}, adaptive: r}.markdown()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2,000 subscribers of one task over SSE, 200 bytes of text in each event; 2s a row. 2 cores of AMD EPYC",
		"| bare loop, 25 events/s |  | 5.28 | 1.00 | 3.90 | 25.86 | 99,380 | 0.52 |\n",
		"| one in flight, 25 events/s | default | 1.11 | 0.21 | 7.49 | 28.93 | 251,016 | 0.28 |\n",
		"| 500 events/s | 0s | 1.11 |",
		"| 500 events/s | 5ms | 1.11 |",
		"| 500 events/s | default | 1.11 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "*") {
		t.Errorf("the client was not busy:\n%s", text)
	}
	r.Rounds[0].Saturated = true
	if text, err = (curve{s: s, transport: sse, single: r, rows: []result{r, r}, adaptive: r}).markdown(); err != nil || !strings.Contains(text, "28.93 * |") {
		t.Errorf("the client was busy, %v:\n%s", err, text)
	}
}

func TestTableNeedsTheBareLoop(t *testing.T) {
	r := recorded(t)
	r.Rounds = r.Rounds[:1]
	if text, err := (curve{single: r}).markdown(); err == nil {
		t.Errorf("no error, and %s", text)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{4, 2}, 3}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	s, err := parse(nil, os.Stderr)
	if err != nil || len(s.flushes) != 6 || s.flushes[5] != 20*time.Millisecond || len(s.transports) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, wrong := range []string{"-flush=5", "-transports=poll", "-rate=many"} {
		if _, err := parse([]string{wrong}, new(strings.Builder)); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}
