package intime_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

func TestTryDoublesUntilItIsEnough(t *testing.T) {
	var given []time.Duration
	intime.Try(t, time.Second, func(d time.Duration) bool {
		given = append(given, d)
		return d >= 4*time.Second
	})
	if len(given) != 3 || given[0] != time.Second || given[2] != 4*time.Second {
		t.Errorf("it was given %v", given)
	}
}

func TestForIsLongerOnASlowMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if d := intime.For(t, time.Second, func() { time.Sleep(time.Millisecond) }); d != time.Second {
			t.Errorf("on a quick machine %v", d)
		}
		if d := intime.For(t, time.Second, func() { time.Sleep(time.Second) }); d != 20*time.Second {
			t.Errorf("on a slow one %v", d)
		}
	})
}
