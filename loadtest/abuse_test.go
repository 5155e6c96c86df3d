//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/abuse"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/proc"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/report"
)

// Each attack, in its short form, against the real demo host: nobody honest is
// refused, cut or robbed, the host stays small, and everything comes back.
func TestAbuse(t *testing.T) {
	for _, store := range []string{"embedded", "start"} {
		for _, attack := range abuse.Attacks {
			t.Run(attack.Name+"/"+store, func(t *testing.T) {
				if store == "start" && testing.Short() {
					t.Skip("it needs a Redis server")
				}
				t.Parallel()
				code, r, out := drive(t.Context(), t, "-scenario", "abuse", "-short", "-attacks", attack.Name, "-redis", store,
					"-subscribers", "40", "-duration", "2s", "-host", demoHost, "-host-args", briefly)
				if code != exitOK || len(r.Rounds) != 1 || !strings.Contains(out, "NOTHING LOST") {
					t.Errorf("exit %d: %s", code, out)
				}
			})
		}
	}
}

func TestAttacksByName(t *testing.T) {
	for _, args := range []string{"-scenario abuse -attacks nothing", "-scenario abuse -attacks busy-loop", "-scenario many -attacks pings", "-scenario abuse -target http://127.0.0.1:1"} {
		var out strings.Builder
		if code := run(t.Context(), strings.Fields(args), &out, &out); code != exitFailed || !strings.HasPrefix(out.String(), "loadtest: ") {
			t.Errorf("%q: exit %d, %s", args, code, &out)
		}
	}
}

// What is too much is told of in one line each, and makes the exit status.
func TestAbuseIsJudged(t *testing.T) {
	quiet := func() *verdict {
		v := &verdict{
			stage:  &stage{options: &options{serverCPUs: []int{0}}, report: &report.Report{}},
			attack: &abuse.Attacks[0],
			phase:  &phase{round: &report.Round{Processes: []report.Process{{Name: "redis", RSSPeak: 1 << 40}, {Name: "server", RSSPeak: maxRSS}}}},
			before: stock{usage: proc.Usage{Files: 100, RSS: 50 << 20}, inside: &inside{goroutines: 10, heap: 1 << 20}},
			busy:   &felt{p99: 10, request: 20}, attacked: &felt{p99: 30, request: 60, result: &abuse.Result{Sent: 1}},
		}
		v.after = v.before
		return v
	}
	for want, spoil := range map[string]func(*verdict){
		"": func(*verdict) {},
		"2 honest requests were refused: create: status 503":             func(v *verdict) { v.attacked.refused, v.attacked.words = 2, []string{"create: status 503"} },
		"3 honest streams were refused":                                  func(v *verdict) { v.attacked.delayed = 3 },
		"4 honest streams were cut":                                      func(v *verdict) { v.attacked.cuts = 4 },
		"5 finished tasks of others":                                     func(v *verdict) { v.lost = 5 },
		"a page of another site":                                         func(v *verdict) { v.attacked.result.Won = []string{"a page of another site may"} },
		"the server took 513 MiB":                                        func(v *verdict) { v.phase.round.Processes[1].RSSPeak = 513 << 20 },
		"still 7 descriptors":                                            func(v *verdict) { v.left = []string{"7 descriptors"} },
		"6 honest events were over a second late (1 beside a busy loop)": func(v *verdict) { v.attacked.late, v.busy.late = 6, 1 },
		"p99 of honest events is 30.1 ms, 10.0":                          func(v *verdict) { v.attacked.p99 = 30.1 },
		"p99 of honest requests is 60.1 ms, 20.0":                        func(v *verdict) { v.attacked.request = 60.1 },
	} {
		v := quiet()
		spoil(v)
		v.judge()
		switch failures := v.stage.report.Failures; {
		case want == "" && len(failures) > 0, want != "" && (len(failures) != 1 || !strings.Contains(failures[0], want)):
			t.Errorf("%q: %q", want, failures)
		}
		// A short run, and one whose server shares its core, do not judge time.
		times := strings.Contains(want, "p99") || strings.Contains(want, "late")
		v = quiet()
		v.stage.short = true
		spoil(v)
		v.judge()
		if failures := v.stage.report.Failures; times && len(failures) > 0 || !times && want != "" && len(failures) != 1 {
			t.Errorf("short, %q: %q", want, failures)
		}
		var out strings.Builder
		if err := v.stage.report.Text(&out); err != nil || strings.Contains(out.String(), "FAILED") != (len(v.stage.report.Failures) > 0) {
			t.Errorf("%q: %v: %s", want, err, &out)
		}
	}
}

func TestWhatRemains(t *testing.T) {
	was := stock{usage: proc.Usage{Files: 100, RSS: 50 << 20}, inside: &inside{goroutines: 10, heap: 1 << 20}}
	for want, now := range map[string]stock{
		"":            {usage: proc.Usage{Files: 100 + slackFiles, RSS: 50<<20 + slackRSS}, inside: &inside{goroutines: 10 + slackGoroutines, heap: slackHeap}},
		"descriptors": {usage: proc.Usage{Files: 101 + slackFiles}, inside: &inside{}},
		"of RSS":      {usage: proc.Usage{RSS: 51<<20 + slackRSS}, inside: &inside{}},
		"goroutines":  {inside: &inside{goroutines: 11 + slackGoroutines}},
		"of heap":     {inside: &inside{heap: 2<<20 + slackHeap}},
	} {
		v := &verdict{attack: &abuse.Attack{}, before: was}
		left := v.remains(now)
		if want == "" && len(left) > 0 || want != "" && (len(left) != 1 || !strings.Contains(left[0], want)) {
			t.Errorf("%q: %q", want, left)
		}
	}
}

// An attacker is a process that stops by itself, with words for what it cannot do.
func TestAttackerProcess(t *testing.T) {
	s := &stage{options: &options{}, report: &report.Report{}, progress: newProgress(&strings.Builder{})}
	defer s.progress.close()
	defer s.stopAll()
	one := &server{target: crowd.Target{Base: "/api/v1"}}
	a, err := s.attack(one, abuse.Find("ready"), 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.result(t.Context(), 10*time.Second); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("%v", err)
	}
	if !slices.Contains(s.procs, a.p) {
		t.Error("nobody would end it")
	}
}
