//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/abuse"
)

// What honest clients may feel of an attack, and the server of it.
const (
	maxRatio = 3         // of p99 beside the attack to p99 beside a busy loop
	maxRSS   = 512 << 20 // bytes
	// What honest clients come and go with by themselves.
	slackFiles      = 2 * honestCreators
	slackGoroutines = 100
	slackHeap       = 32 << 20
	slackRSS        = 128 << 20
)

// verdict is what an attack did, and whether that is too much.
type verdict struct {
	stage  *stage
	attack *abuse.Attack
	phase  *phase
	one    *server
	honest *creators

	before, after  stock
	busy, attacked *felt
	took           time.Duration // until everything was back
	left           []string      // what did not come back
	lost           int           // finished tasks of others that are gone
}

// settle waits until the server is back where it was.
func (v *verdict) settle(ctx context.Context) {
	began := time.Now()
	for ctx.Err() == nil {
		now, err := v.stage.stock(ctx, v.one)
		v.took = time.Since(began)
		switch {
		case err != nil:
			v.left = []string{err.Error()}
		default:
			v.after = now
			v.left = v.remains(now)
		}
		if len(v.left) == 0 || v.took >= settleTime {
			return
		}
		pause(ctx, time.Second)
	}
}

// remains is what the server still has of an attack, in words.
func (v *verdict) remains(now stock) (left []string) {
	was := v.before
	say := func(have, had, slack int64, unit string) {
		if have > had+slack {
			left = append(left, fmt.Sprintf("%d %s, %d before", have, unit, had))
		}
	}
	say(int64(now.usage.Files), int64(was.usage.Files), slackFiles, "descriptors")
	say(now.usage.RSS>>20, was.usage.RSS>>20, (v.attack.Keeps+slackRSS)>>20, "MiB of RSS")
	if now.inside != nil && was.inside != nil {
		say(int64(now.inside.goroutines), int64(was.inside.goroutines), slackGoroutines, "goroutines")
		say(now.inside.heap>>20, was.inside.heap>>20, (v.attack.Keeps+slackHeap)>>20, "MiB of heap")
	}
	return left
}

// peak is the server's highest RSS while it was attacked.
func (v *verdict) peak() int64 {
	for _, p := range v.phase.round.Processes {
		if p.Name == "server" {
			return p.RSSPeak
		}
	}
	return 0
}

// judge writes the figures and what was too much into the report.
func (v *verdict) judge() {
	v.figures()
	fail := func(format string, args ...any) {
		v.stage.report.Failures = append(v.stage.report.Failures, v.attack.Name+": "+fmt.Sprintf(format, args...))
	}
	for _, w := range v.attacked.result.Won {
		fail("%s", w)
	}
	if n := v.attacked.refused; n > 0 {
		fail("%d honest requests were refused: %s", n, strings.Join(v.attacked.words, "; "))
	}
	if n := v.attacked.delayed; n > 0 {
		fail("%d honest streams were refused", n)
	}
	if n := v.attacked.cuts; n > 0 {
		fail("%d honest streams were cut", n)
	}
	if v.lost > 0 {
		fail("%d finished tasks of others are gone", v.lost)
	}
	if peak := v.peak(); peak > maxRSS {
		fail("the server took %d MiB, at most %d are allowed", peak>>20, maxRSS>>20)
	}
	if len(v.left) > 0 {
		fail("%.0f s after it there are still %s", v.took.Seconds(), strings.Join(v.left, ", "))
	}
	if !v.stage.judgesTimes() {
		return
	}
	if n := v.attacked.late; n > 0 {
		fail("%d honest events were over a second late (%d beside a busy loop)", n, v.busy.late)
	}
	for _, x := range []struct {
		what           string
		attacked, busy float64
	}{{"events", v.attacked.p99, v.busy.p99}, {"requests", v.attacked.request, v.busy.request}} {
		if x.attacked > maxRatio*x.busy {
			fail("p99 of honest %s is %.1f ms, %.1f beside a busy loop: more than %d times that", x.what, x.attacked, x.busy, maxRatio)
		}
	}
}
