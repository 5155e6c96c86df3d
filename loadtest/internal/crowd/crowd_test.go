//go:build linux

package crowd_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/crowd"
	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/faulty"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	events = 20 // of a task: with STARTED and COMPLETED
	size   = 40
	passed = "A task is an ordered log of events, and everything else is a way to write to that log or to read it. "
)

// follow has n subscribers follow a task of a faulty server to its end.
func follow(t *testing.T, cfg faulty.Config, transport crowd.Transport, n int, more ...crowd.Class) (*crowd.Crowd, *faulty.Server) {
	t.Helper()
	return followAt(t, 5*time.Millisecond, cfg, transport, n, more...)
}

// followAt is follow with the time from one event to the next.
func followAt(t *testing.T, pace time.Duration, cfg faulty.Config, transport crowd.Transport, n int, more ...crowd.Class) (*crowd.Crowd, *faulty.Server) {
	t.Helper()
	server, err := faulty.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	c, err := crowd.New(crowd.Options{Targets: []crowd.Target{target(server)}, Token: "load", Loops: 2, Backoff: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	task := crowd.NewTask(server.Create(events-2, size, pace, 20*pace), n > 1)
	task.Text = func(ordinal uint64, text []byte, _ bool) bool {
		from := int(ordinal-2) * size % len(passed)
		return string(text) == strings.Repeat(passed, 2)[from:from+size]
	}
	var specs []crowd.Spec
	for i := range n {
		spec := crowd.Spec{Task: task, Transport: transport}
		if i < len(more) {
			spec.Class = more[i]
		}
		specs = append(specs, spec)
	}
	c.Add(specs, 0)
	return c, server
}

func target(s *faulty.Server) crowd.Target {
	addr := netip.MustParseAddrPort(s.Addr().String())
	return crowd.Target{Addr: addr, Host: addr.String(), Base: "/api/v1"}
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	const patience = 2 * time.Minute // only a failure meets it
	limit := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(limit) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFaultsAreFound(t *testing.T) {
	const n = 5
	for _, c := range []struct {
		fault faulty.Fault
		only  []crowd.Transport
		// want is what is counted for each subscriber; the rest must be zero.
		want     func(*check.Counters)
		complete bool // and sees the end
	}{
		{faulty.Drop, nil, func(c *check.Counters) { c.Events = events - 1; c.Lost = 1 }, true},
		{faulty.Repeat, nil, func(c *check.Counters) { c.Events = events; c.Repeated = 1 }, true},
		{faulty.Swap, nil, func(c *check.Counters) { c.Events = events; c.Reordered = 1 }, true},
		{faulty.OtherText, nil, func(c *check.Counters) { c.Events = events - 1; c.Corrupt = 1; c.Lost = 1 }, true},
		{faulty.ShortText, nil, func(c *check.Counters) { c.Events = events - 1; c.Corrupt = 1; c.Lost = 1 }, true},
		{faulty.OtherID, []crowd.Transport{crowd.SSE}, func(c *check.Counters) { c.Events = events - 1; c.Corrupt = 1; c.Lost = 1 }, true},
		{faulty.OtherTask, nil, func(c *check.Counters) { c.Events = events - 1; c.Corrupt = 1; c.Lost = 1 }, true},
		{faulty.BadJSON, nil, func(c *check.Counters) { c.Events = events - 1; c.Corrupt = 1; c.Lost = 1 }, true},
		{faulty.NotUTF8, nil, func(c *check.Counters) { c.Events = events - 1; c.Corrupt = 1; c.Lost = 1 }, true},
		{faulty.TimeBack, nil, func(c *check.Counters) { c.Events = events; c.Reordered = 1 }, true},
		{faulty.SilentTrim, nil, func(c *check.Counters) { c.Events = events/2 - 1; c.Lost = events/2 + 1 }, true},
		{faulty.LyingGap, nil, func(c *check.Counters) { c.Events = events/2 + 0; c.Gaps = 1; c.BadGaps = 1 }, true},
		{faulty.AfterEnd, nil, func(c *check.Counters) { c.Events = events; c.AfterTerminal = 1 }, true},
	} {
		for _, transport := range []crowd.Transport{crowd.SSE, crowd.WebSocket} {
			if c.only != nil && c.only[0] != transport {
				continue
			}
			t.Run(fmt.Sprint(c.fault, "/", transport), func(t *testing.T) {
				t.Parallel()
				crowd, _ := follow(t, faulty.Config{Fault: c.fault}, transport, n)
				await(t, "the end", func() bool { return crowd.Stats().Done == n })
				crowd.Finish()
				var want check.Counters
				for range n {
					var one check.Counters
					c.want(&one)
					want.Add(one)
				}
				if got := crowd.Counters(); got != want {
					t.Errorf("counted %+v,\n  want %+v\n%v", got, want, strings.Join(crowd.Violations(), "\n"))
				}
				if got := crowd.Counters(); got.Violations() < n || len(crowd.Violations()) == 0 {
					t.Errorf("violations %d, words %v", got.Violations(), crowd.Violations())
				}
			})
		}
	}
}

func TestFaultsThatNeverEnd(t *testing.T) {
	for _, c := range []struct {
		fault faulty.Fault
		of    func(check.Counters) uint64
	}{
		{faulty.EarlyEnd, func(c check.Counters) uint64 { return c.BadEnds }},
		{faulty.Refuse, func(c check.Counters) uint64 { return c.Refused }},
		{faulty.BrokenFrame, func(c check.Counters) uint64 { return c.Corrupt }},
	} {
		for _, transport := range []crowd.Transport{crowd.SSE, crowd.WebSocket} {
			t.Run(fmt.Sprint(c.fault, "/", transport), func(t *testing.T) {
				t.Parallel()
				crowd, _ := follow(t, faulty.Config{Fault: c.fault}, transport, 1)
				await(t, "it is found", func() bool { return c.of(crowd.Counters()) > 0 })
				crowd.Finish()
				if got := crowd.Counters(); got.Incomplete != 1 {
					t.Errorf("counted %+v", got)
				}
			})
		}
	}
}

func TestALostTailIsCounted(t *testing.T) {
	server, err := faulty.New(faulty.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	silent, err := faulty.New(faulty.Config{Fault: faulty.NoEnd})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// Two servers with the same task: one of them stops in the middle.
	c, err := crowd.New(crowd.Options{Targets: []crowd.Target{target(server), target(silent)}, Token: "load"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := server.Create(events-2, size, time.Millisecond, 50*time.Millisecond)
	if silent.Create(events-2, size, time.Millisecond, 50*time.Millisecond) != id {
		t.Fatal("two tasks")
	}
	task := crowd.NewTask(id, false)
	c.Add([]crowd.Spec{{Task: task}, {Task: task, Target: 1}}, 0)
	await(t, "one has the end", func() bool { return c.Stats().Done == 1 })
	const middle = 2 + (events-2)/2
	await(t, "the other has half", func() bool { return c.Counters().Events == events+middle-1 })
	c.Finish()
	if got := c.Counters(); got.Incomplete != 1 || got.Lost != events-middle+1 {
		t.Errorf("counted %+v", got)
	}
	if task.Head() != events {
		t.Errorf("head %d", task.Head())
	}
}

func TestWhatIsAllowedIsNoFault(t *testing.T) {
	const n = 4
	for _, fault := range []faulty.Fault{
		faulty.None, faulty.OKGap, faulty.OKCut, faulty.OKRepeat, faulty.OKBusy, faulty.OKCutAtEnd,
		faulty.OKFragments, faulty.OKHeartbeats, faulty.OKAhead, faulty.OKPlain, faulty.OKKeyOrder,
	} {
		for _, transport := range []crowd.Transport{crowd.SSE, crowd.WebSocket} {
			for _, stutter := range []bool{false, true} {
				t.Run(fmt.Sprint(fault, "/", transport, "/stutter=", stutter), func(t *testing.T) {
					t.Parallel()
					crowd, server := follow(t, faulty.Config{Fault: fault, Stutter: stutter}, transport, n)
					await(t, "the end", func() bool { return crowd.Stats().Done == n })
					crowd.Finish()
					got := crowd.Counters()
					if got.Violations() != 0 {
						t.Fatalf("counted %+v: %v", got, crowd.Violations())
					}
					want := check.Counters{Events: n * events}
					switch fault {
					case faulty.OKGap:
						want = check.Counters{Events: n * (events/2 + 0), Gaps: n, GapEvents: n * events / 2}
					case faulty.OKRepeat:
						want.AcrossRepeats = n * 3
					case faulty.OKAhead:
						want = check.Counters{Events: n * (events + 2), Gaps: n, Ahead: n}
					}
					if got != want {
						t.Errorf("counted %+v,\n  want %+v", got, want)
					}
					if fault == faulty.OKFragments && transport == 1 && server.Pongs() == 0 {
						t.Error("no ping was answered")
					}
					stats := crowd.Stats()
					if cut := fault == faulty.OKCut || fault == faulty.OKRepeat || fault == faulty.OKCutAtEnd; cut != (stats.Cuts > 0) {
						t.Errorf("%d cuts", stats.Cuts)
					}
				})
			}
		}
	}
}

func TestSlowOnesGetEverythingOnceTheyRead(t *testing.T) {
	c, _ := follow(t, faulty.Config{}, crowd.SSE, 3, crowd.Stalled, crowd.Slow)
	await(t, "the steady one is through", func() bool { return c.Stats().Done == 1 })
	if c.Counters().Incomplete != 0 {
		t.Error("counted too early")
	}
	c.Release()
	await(t, "all are through", func() bool { return c.Stats().Done == 3 })
	if got := c.Counters(); got != (check.Counters{Events: 3 * events}) {
		t.Errorf("counted %+v: %v", got, c.Violations())
	}
}

func TestCutAndReopen(t *testing.T) {
	var c *crowd.Crowd
	intime.Try(t, 5*time.Millisecond, func(pace time.Duration) bool {
		c, _ = followAt(t, pace, faulty.Config{}, crowd.SSE, 4)
		await(t, "some events", func() bool { return c.Counters().Events > 12 })
		c.Cut()
		return c.Stats().Done == 0 // else some were through before they were cut
	})
	if open := c.Stats(); open.Open != 0 {
		await(t, "nobody is there", func() bool { return c.Stats().Open == 0 })
	}
	c.Reopen(10 * time.Millisecond)
	await(t, "all are through", func() bool { return c.Stats().Done == 4 })
	if got := c.Counters(); got != (check.Counters{Events: 4 * events}) {
		t.Errorf("counted %+v: %v", got, c.Violations())
	}
	if c.Stats().Attached != 8 {
		t.Errorf("%d streams", c.Stats().Attached)
	}
	c.Forget()
	c.Finish()
	if got := c.Counters(); got.Violations() != 0 {
		t.Errorf("counted %+v: %v", got, c.Violations())
	}
}

func TestChurnLosesNothing(t *testing.T) {
	const n = 20
	var c *crowd.Crowd
	intime.Try(t, 5*time.Millisecond, func(pace time.Duration) bool {
		c, _ = followAt(t, pace, faulty.Config{}, crowd.WebSocket, n)
		await(t, "they are there", func() bool { return c.Stats().Open == n || c.Stats().Done > 0 })
		return c.Stats().Done == 0 // else some were through before others came
	})
	for c.Stats().Done == 0 {
		c.Churn(3)
		time.Sleep(2 * time.Millisecond)
	}
	await(t, "all are through", func() bool { return c.Stats().Done == n })
	if got := c.Counters(); got.Events != n*events || got.Violations() != 0 {
		t.Errorf("counted %+v: %v", got, c.Violations())
	}
	if c.Stats().Attached <= n {
		t.Error("nobody was cut")
	}
}

func TestLatencies(t *testing.T) {
	began := time.Now()
	c, _ := follow(t, faulty.Config{}, crowd.SSE, 2)
	await(t, "the end", func() bool { return c.Stats().Done == 2 })
	took := time.Since(began)
	first := c.Interval()
	// Nothing took longer than all of it, nor the time of a clock; a bucket of the
	// histogram is rounded up.
	if h := first[crowd.SSE][crowd.Steady]; h.Count() < 2*(events-2) || h.Quantile(.5) > 2*took.Microseconds() {
		t.Errorf("%d latencies, p50 %d µs in %v", h.Count(), h.Quantile(.5), took)
	}
	if again := c.Interval().All(); again.Count() != 0 {
		t.Errorf("%d twice", again.Count())
	}
	if all := c.Latencies().All(); all.Count() != first.All().Count() {
		t.Errorf("%d in all", all.Count())
	}
}

// Subscribers come and go while others read: whoever gets a place that was
// somebody else's gets nothing that was meant for that one.
func TestPlacesAreUsedAgain(t *testing.T) {
	server, err := faulty.New(faulty.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c, err := crowd.New(crowd.Options{Targets: []crowd.Target{target(server)}, Token: "load", Backoff: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const generations, each = 60, 10
	for i := range generations {
		task := crowd.NewTask(server.Create(events-2, size, time.Millisecond, 0), true)
		var specs []crowd.Spec
		for k := range each {
			specs = append(specs, crowd.Spec{Task: task, Transport: crowd.Transport(k % 2)})
		}
		c.Add(specs, 0)
		c.Churn(2)
		c.Forget()
		if i%4 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	await(t, "all are through", func() bool { return c.Stats().Done == generations*each })
	c.Finish()
	if got := c.Counters(); got != (check.Counters{Events: generations * each * events}) {
		t.Errorf("counted %+v: %v", got, c.Violations())
	}
}
