//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/abuse"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
)

// options is what the command line chooses.
type options struct {
	command  string
	scenario string

	target   string
	pids     []int
	subject  string
	host     string
	hostArgs []string
	flush    string
	redis    string

	serverCPUs, clientCPUs, redisCPUs []int

	subscribers int
	tasks       int
	ws          float64
	rate        float64
	size        int
	duration    time.Duration
	rounds      int
	loops       int
	timeout     time.Duration
	anyText     bool
	yardstick   bool
	profile     string

	behind        int
	spread        time.Duration
	cold          bool
	stalled, slow float64
	limit         time.Duration
	ramp          string
	step          time.Duration
	factor        float64
	churn         float64
	kill          bool
	pprof         bool

	attackNames string
	attacks     []*abuse.Attack
	short       bool

	json, html string
}

// explicit are the flags that were given, so that a scenario's own defaults do
// not override them.
type explicit map[string]bool

const usageHead = `Usage: loadtest -scenario NAME [flags]

Drives a server with thousands of real subscribers, checks every event of each,
and measures. Exit status: 0 nothing lost, 1 something lost, repeated, out of
order, a gap that was not announced, or an attack that others felt, 2 wrong
usage or the set-up failed, 130 interrupted with nothing lost until then.

Scenarios (with their defaults):
`

// parseOptions reads args (without the program's name). Usage goes to usage.
func parseOptions(args []string, usage io.Writer) (*options, error) {
	o := &options{command: "loadtest " + strings.Join(args, " ")}
	fs := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	var hostArgs, serverCPUs, clientCPUs, redisCPUs, pids string

	fs.StringVar(&o.scenario, "scenario", "", "what to do, a `name` from the list above")

	fs.StringVar(&o.target, "target", "", "drive the server at this `URL` (up to its base path, as in http://host:port/api/v1), several with commas, instead of a demo host of our own")
	fs.StringVar(&pids, "pid", "", "with -target: measure these process `ids`, with commas")
	fs.StringVar(&o.subject, "subject", "load", "bearer `token` of all requests; the demo host takes it as the subject")
	fs.StringVar(&o.host, "host", "", "demo host `binary`; empty: build examples/quickstart")
	fs.StringVar(&hostArgs, "host-args", "", "more `flags` for the demo host, with spaces")
	fs.StringVar(&o.flush, "flush", "", "the demo host's -flush, a `duration`; empty: its default")
	fs.StringVar(&o.redis, "redis", "embedded", "the demo host's store: embedded, start (a redis-server of our own), or a `URL`")

	fs.StringVar(&serverCPUs, "server-cpus", "", "pin the server to these `CPUs`, as in 0 or 0,2-3, and the client to the others")
	fs.StringVar(&clientCPUs, "client-cpus", "", "pin the client to these `CPUs`")
	fs.StringVar(&redisCPUs, "redis-cpus", "", "pin our redis-server to these `CPUs`; empty: the client's")

	fs.IntVar(&o.subscribers, "subscribers", 1000, "how `many`")
	fs.IntVar(&o.tasks, "tasks", 1, "how `many`; subscribers are spread over them")
	fs.Float64Var(&o.ws, "ws", 0, "`share` of the subscribers that use WebSocket, 0 to 1; the others use SSE")
	fs.Float64Var(&o.rate, "rate", 100, "events per second of all tasks together, a `number`")
	fs.IntVar(&o.size, "size", 200, "`bytes` of text in each event")
	fs.DurationVar(&o.duration, "duration", 10*time.Second, "how long the tasks emit")
	fs.IntVar(&o.rounds, "rounds", 1, "how often each measurement is repeated; comparisons go A B A B")
	fs.IntVar(&o.loops, "loops", 0, "client `threads`; 0: one for each CPU of the client, at most 4")
	fs.DurationVar(&o.timeout, "timeout", 30*time.Second, "give up after this long without any event that was due")
	fs.BoolVar(&o.anyText, "any-text", false, "check only the length of the text, for servers whose tokens task has other words")
	fs.BoolVar(&o.yardstick, "yardstick", false, "compare with a bare write(2) loop in the same run (fan-out)")
	fs.BoolVar(&o.pprof, "pprof", false, "ask the demo host for goroutines and heap, after a collection")
	fs.StringVar(&o.profile, "profile", "", "write the demo host's CPU profile of the steady part to this `file`")

	fs.IntVar(&o.behind, "behind", 500, "reconnect-storm: `events` that each has missed")
	fs.DurationVar(&o.spread, "spread", time.Second, "reconnect-storm: over how long they come back")
	fs.BoolVar(&o.cold, "cold", false, "reconnect-storm: nobody stays, so that the server forgets what it has in memory")
	fs.Float64Var(&o.stalled, "stalled", .01, "slow-readers: `share` that does not read at all")
	fs.Float64Var(&o.slow, "slow", .05, "slow-readers: `share` that reads slowly")
	fs.StringVar(&o.ramp, "ramp", "rate", "ramp: what to raise, rate or subscribers")
	fs.DurationVar(&o.limit, "limit", 100*time.Millisecond, "ramp: the highest p99")
	fs.DurationVar(&o.step, "step", 8*time.Second, "ramp: how long a step is measured")
	fs.Float64Var(&o.factor, "factor", 1.5, "ramp: each step is this many times the one before")
	fs.Float64Var(&o.churn, "churn", 10, "soak: connections cut per second, a `number`")
	fs.BoolVar(&o.kill, "kill", false, "deploy: SIGKILL instead of SIGTERM")

	fs.StringVar(&o.attackNames, "attacks", "", "abuse: play these `attacks` only, with commas")
	fs.BoolVar(&o.short, "short", false, "abuse: smaller numbers, and timings are reported, not judged")

	fs.StringVar(&o.html, "html", "", "write a page with plots to this `file`")
	fs.StringVar(&o.json, "json", "", "write everything to this `file`, - for standard output")

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(usage)
			_, _ = fmt.Fprint(usage, usageHead)
			for _, s := range scenarios {
				_, _ = fmt.Fprintf(usage, "  %-16s %s\n", s.name, s.about)
			}
			_, _ = fmt.Fprintln(usage, "\nFlags:")
			fs.PrintDefaults()
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: only flags are understood", fs.Arg(0))
	}
	given := explicit{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.hostArgs = strings.Fields(hostArgs)
	var err error
	for _, l := range []struct {
		flag, value string
		to          *[]int
	}{
		{"server-cpus", serverCPUs, &o.serverCPUs}, {"client-cpus", clientCPUs, &o.clientCPUs},
		{"redis-cpus", redisCPUs, &o.redisCPUs}, {"pid", pids, &o.pids},
	} {
		if *l.to, err = parseList(l.value); err != nil {
			return nil, fmt.Errorf("-%s: %w", l.flag, err)
		}
	}
	return o, o.complete(given)
}

// complete applies the scenario's own defaults and checks what is left.
func (o *options) complete(given explicit) error {
	s := findScenario(o.scenario)
	if s == nil {
		var names []string
		for _, s := range scenarios {
			names = append(names, s.name)
		}
		return fmt.Errorf("-scenario must be one of %s", strings.Join(names, ", "))
	}
	if s.defaults != nil {
		s.defaults(o, given)
	}
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{o.subscribers >= 1 && o.subscribers <= 1_000_000, "-subscribers must be 1 to 1000000"},
		{o.tasks >= 1 && o.tasks <= o.subscribers, "-tasks must be 1 to the number of subscribers"},
		{o.ws >= 0 && o.ws <= 1 || o.scenario == "idle" && o.ws == -1, "-ws must be 0 to 1"},
		{o.rate > 0, "-rate must be positive"},
		{o.rate <= maxRate*float64(o.tasks), "-rate is at most 1000 for each of the -tasks"},
		{o.size >= 1 && o.size <= 200_000, "-size must be 1 to 200000"},
		{o.duration > 0 && o.duration <= 24*time.Hour, "-duration must be positive, at most 24h"},
		{o.rounds >= 1 && o.rounds <= 100, "-rounds must be 1 to 100"},
		{o.stalled >= 0 && o.slow >= 0 && o.stalled+o.slow <= 1, "-stalled and -slow must be shares, at most 1 together"},
		{o.behind >= 1, "-behind must be positive"},
		{o.ramp == "rate" || o.ramp == "subscribers", "-ramp must be rate or subscribers"},
		{o.factor > 1, "-factor must be more than 1"},
		{o.step > 0 && o.limit > 0 && o.timeout > 0 && o.spread > 0, "-step, -limit, -timeout and -spread must be positive"},
		{o.scenario != "deploy" || o.redis != "embedded", "deploy needs a Redis that both hosts share: -redis start or a URL"},
		{o.churn >= 0, "-churn must not be negative"},
		{o.target == "" || !given["redis"] && !given["host"] && !given["flush"] && !given["server-cpus"], "-redis, -host, -flush and -server-cpus are for a demo host of our own, not for a -target"},
		{o.target == "" || !s.ownHost, o.scenario + " needs demo hosts of its own, not a -target"},
		{o.target == "" || !o.pprof && o.profile == "", "-pprof and -profile need a demo host of our own"},
	} {
		if !c.ok {
			return errors.New(c.what)
		}
	}
	if err := o.completeAttacks(); err != nil {
		return err
	}
	return o.completeCPUs()
}

// completeAttacks finds the attacks by their names.
func (o *options) completeAttacks() error {
	if o.attackNames == "" {
		for i := range abuse.Attacks {
			o.attacks = append(o.attacks, &abuse.Attacks[i])
		}
		return nil
	}
	if o.scenario != "abuse" {
		return errors.New("-attacks is for the scenario abuse")
	}
	for name := range strings.SplitSeq(o.attackNames, ",") {
		attack := abuse.Find(name)
		if attack == nil || attack == &abuse.Busy {
			var names []string
			for i := range abuse.Attacks {
				names = append(names, abuse.Attacks[i].Name)
			}
			return fmt.Errorf("-attacks: %q is none of %s", name, strings.Join(names, ", "))
		}
		o.attacks = append(o.attacks, attack)
	}
	return nil
}

func (o *options) completeCPUs() error {
	if os.Getenv(pinnedEnv) != "" {
		return nil
	}
	allowed, err := proc.Allowed()
	if err != nil {
		return err
	}
	for _, c := range slices.Concat(o.serverCPUs, o.clientCPUs, o.redisCPUs) {
		if !slices.Contains(allowed, c) {
			return fmt.Errorf("CPU %d is not among those that may be used: %v", c, allowed)
		}
	}
	if len(o.serverCPUs) > 0 && len(o.clientCPUs) == 0 {
		for _, c := range allowed {
			if !slices.Contains(o.serverCPUs, c) {
				o.clientCPUs = append(o.clientCPUs, c)
			}
		}
		if len(o.clientCPUs) == 0 {
			return errors.New("-server-cpus leaves no CPU for the client")
		}
	}
	return nil
}

// parseList parses numbers with commas and ranges: 0,2-3.
func parseList(s string) ([]int, error) {
	var out []int
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(from)
		if err != nil || a < 0 {
			return nil, fmt.Errorf("%q is not a number", from)
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(to); err != nil || b < a || b-a > 4096 {
				return nil, fmt.Errorf("%q is not a range", part)
			}
		}
		for n := a; n <= b; n++ {
			out = append(out, n)
		}
	}
	return out, nil
}
