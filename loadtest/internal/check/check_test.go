package check_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/check"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// feed gives ordinals to a log: their milliseconds are 1000 plus ordinal.
// 0 is a reconnect, a negative number a gap notice that names it as the first.
func feed(l *check.Log, c *check.Counters, ordinals ...int) (found []check.Finding) {
	l.Connect()
	for _, n := range ordinals {
		switch {
		case n == 0:
			l.Connect()
		case n < 0:
			l.Gap(uint64(-n), false, c)
		default:
			found = append(found, l.Event(uint64(1000+n), uint64(n), c))
		}
	}
	return found
}

func TestLogs(t *testing.T) {
	for name, c := range map[string]struct {
		ordinals []int
		want     check.Counters
	}{
		"dense":                    {[]int{1, 2, 3}, check.Counters{Events: 3}},
		"a hole":                   {[]int{1, 2, 5}, check.Counters{Events: 3, Lost: 2}},
		"a hole at the beginning":  {[]int{3}, check.Counters{Events: 1, Lost: 2}},
		"twice":                    {[]int{1, 2, 2, 3}, check.Counters{Events: 3, Repeated: 1}},
		"an old one":               {[]int{1, 2, 3, 1}, check.Counters{Events: 3, Repeated: 1}},
		"swapped":                  {[]int{1, 3, 2, 4}, check.Counters{Events: 4, Reordered: 1}},
		"late, out of a hole":      {[]int{1, 6, 3, 5, 2, 4, 7}, check.Counters{Events: 7, Reordered: 4}},
		"late and twice":           {[]int{1, 3, 2, 2}, check.Counters{Events: 3, Reordered: 1, Repeated: 1}},
		"resumed":                  {[]int{1, 2, 0, 3, 4}, check.Counters{Events: 4}},
		"resumed with repeats":     {[]int{1, 2, 3, 0, 2, 3, 4}, check.Counters{Events: 4, AcrossRepeats: 2}},
		"repeats with a hole":      {[]int{1, 2, 3, 0, 1, 3, 4}, check.Counters{Events: 4, AcrossRepeats: 2}},
		"repeats, and then a hole": {[]int{1, 2, 3, 0, 3, 6}, check.Counters{Events: 4, AcrossRepeats: 1, Lost: 2}},
		"repeated while repeating": {[]int{1, 2, 3, 0, 2, 2, 3, 4}, check.Counters{Events: 4, AcrossRepeats: 2, Repeated: 1}},
		"resumed with a hole":      {[]int{1, 2, 0, 5}, check.Counters{Events: 3, Lost: 2}},
		"announced":                {[]int{1, 2, 0, -5, 5, 6}, check.Counters{Events: 4, Gaps: 1, GapEvents: 2}},
		"announced within":         {[]int{1, 2, -5, 5, 6}, check.Counters{Events: 4, Gaps: 1, GapEvents: 2}},
		"announced elsewhere":      {[]int{1, 2, -5, 6}, check.Counters{Events: 3, Gaps: 1, BadGaps: 1}},
		"announced, and not there": {[]int{1, 2, -3, 3}, check.Counters{Events: 3, Gaps: 1, BadGaps: 1}},
		"announced once only":      {[]int{1, 2, -5, 5, 8}, check.Counters{Events: 4, Gaps: 1, GapEvents: 2, Lost: 2}},
		"gap, cut, gap again":      {[]int{1, -5, 0, -5, 5}, check.Counters{Events: 2, Gaps: 2, GapEvents: 3}},
		"gap, cut, forgotten":      {[]int{1, -5, 0, 5}, check.Counters{Events: 2, Gaps: 1, Lost: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			var l check.Log
			var got check.Counters
			feed(&l, &got, c.ordinals...)
			if got != c.want {
				t.Errorf("counted %+v,\n  want %+v", got, c.want)
			}
		})
	}
}

func TestNothingFollowsTheEnd(t *testing.T) {
	var l check.Log
	var c check.Counters
	feed(&l, &c, 1, 2)
	l.End()
	if f := l.Event(1003, 3, &c); f != check.AfterTerminal || c.AfterTerminal != 1 || c.Events != 2 {
		t.Errorf("%v, %+v", f, c)
	}
	l.Finish(9, &c)
	if c.Incomplete != 0 || c.Lost != 0 {
		t.Errorf("%+v", c)
	}
}

func TestTimeDoesNotGoBack(t *testing.T) {
	var l check.Log
	var c check.Counters
	l.Connect()
	l.Event(2000, 1, &c)
	if l.Step(1999, &c) {
		t.Error("the short way took it")
	}
	if f := l.Event(1999, 2, &c); f != check.Reordered || c.Reordered != 1 {
		t.Errorf("%v, %+v", f, c)
	}
}

func TestAheadGoesBack(t *testing.T) {
	var l check.Log
	var c check.Counters
	feed(&l, &c, 1, 2, 3, 4, 5)
	l.Gap(4, true, &c)
	for n := uint64(4); n <= 6; n++ {
		if f := l.Event(1, n, &c); f != check.New {
			t.Errorf("%d: %v", n, f)
		}
	}
	if want := (check.Counters{Events: 8, Gaps: 1, Ahead: 1}); c != want {
		t.Errorf("%+v", c)
	}
}

func TestFinishCountsTheTail(t *testing.T) {
	var l check.Log
	var c check.Counters
	feed(&l, &c, 1, 2, 3)
	l.Finish(10, &c)
	if want := (check.Counters{Events: 3, Lost: 7, Incomplete: 1}); c != want || c.Violations() != 8 {
		t.Errorf("%+v", c)
	}
}

func TestAGapWithoutAFirstEventTakesAny(t *testing.T) {
	var l check.Log
	var c check.Counters
	feed(&l, &c, 1)
	l.Gap(0, false, &c)
	if f := l.Event(1, 40, &c); f != check.Reordered && f != check.New {
		t.Errorf("%v", f)
	}
	if c.GapEvents != 38 || c.Lost != 0 || c.BadGaps != 0 {
		t.Errorf("%+v", c)
	}
}

// FuzzLog holds a log on one connection against a plain set of ordinals.
func FuzzLog(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Add([]byte{1, 5, 3, 3, 2, 9})
	f.Add([]byte{7, 6, 5, 5})
	f.Fuzz(func(t *testing.T, ordinals []byte) {
		var l check.Log
		var c check.Counters
		l.Connect()
		seen := map[byte]bool{}
		var top byte
		var repeated, late uint64
		for _, n := range ordinals {
			if n == 0 {
				continue
			}
			// A first event below the cursor is no such thing: the cursor is 0.
			if l.Next() == uint64(n) && l.Step(uint64(n), &c) {
				seen[n], top = true, n
				continue
			}
			l.Event(uint64(n), uint64(n), &c)
			switch {
			case seen[n]:
				repeated++
			case n < top:
				late++
			}
			seen[n] = true
			top = max(top, n)
		}
		missing := uint64(0)
		for n := byte(1); n < top; n++ {
			if !seen[n] {
				missing++
			}
		}
		want := check.Counters{Events: uint64(len(seen)), Repeated: repeated, Reordered: late, Lost: missing}
		if c != want {
			t.Errorf("%v: counted %+v, want %+v", ordinals, c, want)
		}
	})
}
