//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/taskbridge/taskbridge-fiber/internal/sidebyside"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/faulty"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// demoHost is the demo host's binary.
var demoHost string

const (
	// mainEnv makes the tests' program the tool.
	mainEnv = "TASKBRIDGE_LOADTEST_MAIN"
	// scenariosAtOnce run: they wait for most of their time, and what they measure
	// is looked at, but not how good it is.
	scenariosAtOnce = 4
	// fewFiles is more descriptors than any test needs, and fewer than one wants.
	fewFiles = 100_000
)

func TestMain(m *testing.M) {
	playRole() // the program is the bare server or an attacker, and so is this one
	if os.Getenv(mainEnv) != "" {
		main()
	}
	sidebyside.Tests(scenariosAtOnce)
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	var files unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	if err == nil && files.Max > fewFiles {
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(files.Cur, fewFiles), Max: fewFiles})
	}
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "loadtest-test-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	demoHost = filepath.Join(dir, "quickstart")
	if out, err := exec.Command("go", "build", "-o", demoHost, hostPackage).CombinedOutput(); err != nil {
		_, _ = os.Stderr.Write(out)
		return 1
	}
	// What a run leaves behind shows here.
	temp := filepath.Join(dir, "temp")
	if err := errors.Join(os.Mkdir(temp, 0o700), os.Setenv("TMPDIR", temp)); err != nil {
		panic(err)
	}
	before := children()
	code := m.Run()
	if after := children(); len(after) > len(before) {
		_, _ = fmt.Fprintln(os.Stderr, "processes are left:", after)
		return 1
	}
	if left, err := filepath.Glob(filepath.Join(temp, "loadtest-*")); err != nil || len(left) > 0 {
		_, _ = fmt.Fprintln(os.Stderr, "files are left:", left, err)
		return 1
	}
	if err := goleak.Find(); code == 0 && err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}

// drive runs the tool and returns its exit code and report.
func drive(ctx context.Context, t *testing.T, args ...string) (int, *report.Report, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr bytes.Buffer
	code := run(ctx, append([]string{"-json", file}, args...), &stdout, &stderr)
	r := new(report.Report)
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, r); err != nil {
			t.Fatal(err)
		}
	}
	return code, r, stdout.String() + stderr.String()
}

// children are the processes whose parent is this one.
func children() (pids []string) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, path)
		}
	}
	return pids
}

// briefly has hosts end at once that nobody follows.
const briefly = "-drain=200ms"

// Each scenario, small, against the real demo host.
func TestScenarios(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "cpu")
	for name, c := range map[string]struct {
		args   string
		rounds int
		events uint64 // at least
		figure string
	}{
		"fan-out":             {"-scenario fan-out -subscribers 60 -rate 100 -duration 800ms -ws 0.5 -rounds 2", 2, 2 * 60 * 82, ""},
		"fan-out, one loop":   {"-scenario fan-out -subscribers 30 -rate 200 -duration 500ms -loops 1 -tasks 3 -flush 0s", 1, 10 * 3 * 30, ""},
		"fan-out, profile":    {"-scenario fan-out -subscribers 20 -duration 1500ms -profile " + profile, 1, 20 * 150, ""},
		"yardstick":           {"-scenario yardstick -subscribers 60 -duration 800ms -rounds 1 -ws 0.5", 2, 2 * 60 * 20, "CPU per delivery, ratio"},
		"many":                {"-scenario many -subscribers 60 -rate 600 -duration 800ms -redis start -ws 0.3", 1, 60 * 8, ""},
		"reconnect-storm":     {"-scenario reconnect-storm -subscribers 60 -behind 100 -spread 200ms", 1, 60 * 1000, "the last one"},
		"slow-readers":        {"-scenario slow-readers -subscribers 60 -duration 800ms -rate 200 -stalled 0.1 -slow 0.1 -size 2000", 2, 2 * 60 * 160, "p99 of those who read, ratio"},
		"ramp":                {"-scenario ramp -subscribers 20 -tasks 2 -rate 500 -step 500ms -factor 3 -limit 20s", 2, 500 * 20, "highest good rate"},
		"ramp, subscribers":   {"-scenario ramp -ramp subscribers -subscribers 10 -rate 100 -step 500ms -limit 1us", 1, 10 * 50, ""},
		"idle":                {"-scenario idle -subscribers 60 -duration 100ms -pprof", 2, 2 * 60, "time until every descriptor is back"},
		"soak":                {"-scenario soak -subscribers 40 -tasks 10 -duration 1s -rate 100 -churn 20", 1, 4 * 50, "slope of the server's RSS, behind the first quarter"},
		"deploy":              {"-scenario deploy -subscribers 40 -tasks 4 -duration 3s", 1, 40 * 50, "tasks that ended TASK_COMPLETED"},
		"deploy, embedded":    {"-scenario deploy -redis embedded", 0, 0, ""},
		"too many":            {"-scenario idle -subscribers 900000", 0, 0, ""},
		"no such host":        {"-scenario many -host /nowhere/at/all", 0, 0, ""},
		"no such target":      {"-scenario many -target http://127.0.0.1:1 -subscribers 2", 0, 0, ""},
		"a host that refuses": {"-scenario many -subscribers 3 -host-args -nonsense", 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(c.args)
			if !strings.Contains(c.args, "-host ") && !strings.Contains(c.args, "-target ") {
				args = append(args, "-host", demoHost)
			}
			if c.rounds > 0 && !strings.Contains(c.args, "deploy") {
				args = append(args, "-host-args", briefly)
			}
			code, r, out := drive(t.Context(), t, args...)
			if c.rounds == 0 {
				if code != exitFailed || !strings.Contains(out, "loadtest: ") {
					t.Errorf("exit %d: %s", code, out)
				}
				return
			}
			if code != exitOK || !strings.Contains(out, "NOTHING LOST") {
				t.Fatalf("exit %d: %s", code, out)
			}
			if len(r.Rounds) < c.rounds || r.Checks.Events < c.events {
				t.Errorf("%d rounds, %d events", len(r.Rounds), r.Checks.Events)
			}
			if strings.Contains(c.args, "-profile") {
				if info, err := os.Stat(profile); err != nil || info.Size() < 100 {
					t.Errorf("profile: %v", err)
				}
			}
			if c.figure != "" && !strings.Contains(out, c.figure) {
				t.Errorf("%q is not in\n%s", c.figure, out)
			}
			for _, round := range r.Rounds {
				if len(round.Processes) == 0 || round.Processes[0].CPUSeconds <= 0 || round.Processes[0].RSSEnd < 1<<20 || round.Processes[0].FilesPeak < 5 {
					t.Errorf("%s: %+v", round.Name, round.Processes)
				}
				if len(round.Latency) == 0 && len(round.Notes) > 0 {
					continue // a busy machine: they attached when it was nearly over
				}
				if name != "idle" && (round.Latency["all"].P50 <= 0 || round.Latency["all"].P50 > 60_000 || round.Latency["all"].Max < round.Latency["all"].P99) {
					t.Errorf("%s: %+v", round.Name, round.Latency["all"])
				}
			}
		})
	}
}

func TestExitStatusOfAServerThatLoses(t *testing.T) {
	for fault, want := range map[faulty.Fault]int{
		faulty.None: exitOK, faulty.OKGap: exitOK, faulty.OKCut: exitOK,
		faulty.Drop: exitLost, faulty.Repeat: exitLost, faulty.Swap: exitLost, faulty.SilentTrim: exitLost,
		faulty.OtherText: exitLost, faulty.NoEnd: exitLost, faulty.Refuse: exitFailed,
	} {
		for _, ws := range []string{"0", "1"} {
			t.Run(string(fault)+"/ws="+ws, func(t *testing.T) {
				t.Parallel()
				server, err := faulty.New(faulty.Config{Fault: fault})
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				timeout := "30s"
				if fault == faulty.NoEnd || fault == faulty.Refuse { // what never comes
					timeout = "500ms"
				}
				code, r, out := drive(t.Context(), t, "-scenario", "fan-out", "-target", server.URL(), "-subscribers", "4", "-duration", "200ms",
					"-rate", "100", "-size", "50", "-ws", ws, "-timeout", timeout, "-pid", strconv.Itoa(os.Getpid()))
				// A lasting refusal is a violation, too, but nothing was measured.
				if code != want {
					t.Errorf("exit %d, want %d: %s", code, want, out)
				}
				if want == exitLost && (!strings.Contains(out, "BROKEN") || len(r.Violations) == 0) {
					t.Errorf("it does not say so: %s", out)
				}
			})
		}
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	script, crowded := observedHost(t, 3*time.Second)
	go func() {
		<-crowded
		cancel()
	}()
	began := time.Now()
	code, r, out := drive(ctx, t, "-scenario", "fan-out", "-subscribers", "20", "-duration", "2m", "-host", script, "-host-args", briefly)
	if code != exitInterrupted || !r.Interrupted || !strings.Contains(out, "INTERRUPTED") || time.Since(began) > time.Minute {
		t.Errorf("exit %d after %v: %s", code, time.Since(began), out)
	}
	if r.Checks.Events < 100 || r.Checks.Violations() != 0 {
		t.Errorf("%+v", r.Checks)
	}
}

func TestAHostThatDies(t *testing.T) {
	t.Parallel()
	script, crowded := observedHost(t, 1500*time.Millisecond)
	go func() {
		if p, err := os.FindProcess(<-crowded); err == nil {
			_ = p.Kill()
		}
	}()
	// Long enough for the end not to come before the kill.
	code, r, out := drive(t.Context(), t, "-scenario", "fan-out", "-subscribers", "20", "-duration", "10s", "-timeout", "1s", "-host", script)
	if code != exitLost || r.Checks.Incomplete != 20 || !strings.Contains(out, "ended by itself") {
		t.Errorf("exit %d, %+v: %s", code, r.Checks, out)
	}
}

func TestUsage(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &stdout, &stderr); code != exitOK {
		t.Errorf("exit %d", code)
	}
	for _, s := range scenarios {
		if !strings.Contains(stdout.String(), s.name) {
			t.Errorf("%s is not in the help", s.name)
		}
	}
	for _, args := range []string{
		"", "-scenario nothing", "-scenario many extra", "-scenario fan-out -rate 0", "-scenario fan-out -rate 2000", "-scenario fan-out -ws 2",
		"-scenario fan-out -subscribers 0", "-scenario fan-out -tasks 5000", "-scenario slow-readers -stalled 0.6 -slow 0.6",
		"-scenario fan-out -server-cpus 9999", "-scenario fan-out -server-cpus x", "-scenario fan-out -server-cpus 3-1",
		"-scenario deploy -target http://127.0.0.1:1", "-scenario fan-out -target http://127.0.0.1:1 -redis start",
		"-scenario ramp -ramp speed", "-scenario fan-out -nonsense",
	} {
		stderr.Reset()
		if code := run(t.Context(), strings.Fields(args), &stdout, &stderr); code != exitFailed || !strings.HasPrefix(stderr.String(), "loadtest: ") {
			t.Errorf("%q: exit %d, %q", args, code, stderr.String())
		}
	}
}

func TestPinnedApart(t *testing.T) {
	t.Parallel()
	cpus, err := proc.Allowed()
	if err != nil || len(cpus) < 2 {
		t.Skipf("one CPU: %v %v", cpus, err)
	}
	// The client pins itself by starting its program anew.
	tool := exec.Command(os.Args[0], "-scenario", "yardstick", "-subscribers", "20", "-duration", "500ms", "-rounds", "1",
		"-server-cpus", strconv.Itoa(cpus[0]), "-host", demoHost, "-host-args", briefly)
	tool.Env = append(os.Environ(), mainEnv+"=1")
	out, err := tool.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "NOTHING LOST") || !strings.Contains(string(out), "pinned to CPU ["+strconv.Itoa(cpus[0])+"]") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		rate     float64
		tasks    int
		count    int
		interval time.Duration
		actual   float64
	}{
		{100, 1, 100, 10 * time.Millisecond, 100},
		{1000, 1, 1000, time.Millisecond, 1000},
		{5000, 5000, 1, time.Second, 5000},
		{30, 1, 30, 33 * time.Millisecond, 30.3},
		{0.1, 1, 1, 10 * time.Second, 0.1},
	} {
		e, actual := plan(c.rate, c.tasks, 10, time.Second)
		if e.count != c.count || e.interval != c.interval || actual < c.actual*.99 || actual > c.actual*1.01 {
			t.Errorf("%v over %d: %+v, %v", c.rate, c.tasks, e, actual)
		}
	}
}

func TestSlope(t *testing.T) {
	var series []report.Sample
	for i := range 100 {
		rss := int64(500 + 2*i)
		if i < 25 {
			rss = 1
		}
		series = append(series, report.Sample{At: float64(i) * 60, RSS: rss << 20})
	}
	if got := slope(series); got < 1.99 || got > 2.01 {
		t.Errorf("%v MiB a minute", got)
	}
}
