package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is what is read of the load tool's JSON.
type result struct {
	Started time.Time `json:"started"`
	Machine struct {
		CPU    string `json:"cpu"`
		Cores  int    `json:"cores"`
		Kernel string `json:"kernel"`
		Go     string `json:"go"`
	} `json:"machine"`
	Rounds []round `json:"rounds"`
}

// round is one measurement.
type round struct {
	Name      string  `json:"name"`
	PerSecond float64 `json:"perSecond"`
	Saturated bool    `json:"clientSaturated"`
	Latency   map[string]struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency"`
	Processes []struct {
		PerDelivery float64 `json:"cpuMicrosPerDelivery"`
		Cores       float64 `json:"cores"`
	} `json:"processes"`
}

// figures are what a row shows, each the median of the rounds of one kind.
type figures struct {
	cpu, p50, p99, perSecond, cores float64
	saturated                       bool
}

const bareLoop = "bare write loop"

// of takes the rounds whose name begins with kind.
func (r result) of(kind string) (figures, error) {
	var all [5][]float64
	var f figures
	for _, round := range r.Rounds {
		latency, ok := round.Latency["all"]
		if !strings.HasPrefix(round.Name, kind) || !ok || len(round.Processes) == 0 {
			continue
		}
		p := round.Processes[0]
		for i, v := range []float64{p.PerDelivery, latency.P50, latency.P99, round.PerSecond, p.Cores} {
			all[i] = append(all[i], v)
		}
		f.saturated = f.saturated || round.Saturated
	}
	if len(all[0]) == 0 {
		return f, fmt.Errorf("the load tool measured no %q", kind)
	}
	f.cpu, f.p50, f.p99, f.perSecond, f.cores = median(all[0]), median(all[1]), median(all[2]), median(all[3]), median(all[4])
	return f, nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// curve is the table of one transport.
type curve struct {
	s         settings
	transport string
	single    result   // with the bare loop
	rows      []result // one for each flush interval
	adaptive  result   // the library's default
}

func (c curve) markdown() (string, error) {
	bare, err := c.single.of(bareLoop)
	if err != nil {
		return "", err
	}
	if bare.cpu <= 0 {
		return "", errors.New("the bare loop took no CPU time: the run was too short")
	}
	one, err := c.single.of("fan-out")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	m := c.single.Machine
	names := map[string]string{sse: "SSE", webSocket: "WebSocket"}
	line("%s subscribers of one task over %s, %d bytes of text in each event; %v a row. %d cores of %s, Linux %s, %s, %s.\n",
		thousands(c.s.subscribers), names[c.transport], c.s.size, c.s.duration, m.Cores, m.CPU, m.Kernel, m.Go,
		c.single.Started.UTC().Format("2006-01-02 15:04 MST"))
	line("| | flush interval | CPU per delivery, µs | of the bare loop's | p50, ms | p99, ms | deliveries/s | server, cores |")
	line("|---|---|---|---|---|---|---|---|")
	row := func(what, flush string, f figures) {
		note := ""
		if f.saturated {
			note = " *"
		}
		line("| %s | %s | %.2f | %.2f | %.2f | %.2f%s | %s | %.2f |", what, flush, f.cpu, f.cpu/bare.cpu, f.p50, f.p99, note,
			thousands(int(f.perSecond+0.5)), f.cores)
	}
	row(fmt.Sprintf("bare loop, %v events/s", c.s.single), "", bare)
	row(fmt.Sprintf("one in flight, %v events/s", c.s.single), "default", one)
	saturated := one.saturated || bare.saturated
	for i, r := range c.rows {
		f, err := r.of("fan-out")
		if err != nil {
			return "", err
		}
		saturated = saturated || f.saturated
		row(fmt.Sprintf("%v events/s", c.s.rate), c.s.flushes[i].String(), f)
	}
	f, err := c.adaptive.of("fan-out")
	if err != nil {
		return "", err
	}
	row(fmt.Sprintf("%v events/s", c.s.rate), "default", f)
	if saturated || f.saturated {
		line("\n\\* the subscribers' cores were busy: their latency is not the server's alone.")
	}
	line("")
	return b.String(), nil
}

// thousands writes 10000 as 10,000.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
