package latest_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/internal/latest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(fn func()) { go fn() }

// What changes during a call is one further call, with the newest.
func TestOneCallAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []int
		goOn := make(chan struct{})
		teller := latest.New(run, func(n int) {
			heard = append(heard, n)
			<-goOn
		})
		teller.Tell(0) // nothing new
		for n := 1; n <= 5; n++ {
			teller.Tell(n)
			if n == 1 {
				synctest.Wait() // within the first call
			}
		}
		goOn <- struct{}{}
		synctest.Wait()
		teller.Tell(5) // being told
		close(goOn)
		synctest.Wait()
		teller.Tell(5)
		teller.Tell(6)
		synctest.Wait()
		if want := []int{1, 5, 6}; !slices.Equal(heard, want) {
			t.Errorf("heard %v, want %v", heard, want)
		}
	})
}

// fn may tell and stop; nothing begins after a Stop.
func TestWithinACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []int
		var teller *latest.Teller[int]
		teller = latest.New(run, func(n int) {
			heard = append(heard, n)
			teller.Tell(n + 1)
			if n == 3 {
				teller.Stop()
			}
		})
		teller.Tell(1)
		synctest.Wait()
		teller.Tell(9)
		synctest.Wait()
		if want := []int{1, 2, 3}; !slices.Equal(heard, want) {
			t.Errorf("heard %v, want %v", heard, want)
		}
	})
}

// Whoever tells what, the newest is heard in the end, and calls do not overlap.
func TestManyTell(t *testing.T) {
	var calls sync.WaitGroup
	within, last := 0, 0
	teller := latest.New(calls.Go, func(n int) {
		if within++; within != 1 {
			t.Error("two calls at once")
		}
		last = n
		within--
	})
	var tellers sync.WaitGroup
	for n := range 8 {
		tellers.Go(func() {
			for i := range 1000 {
				teller.Tell(1 + n*1000 + i)
			}
		})
	}
	tellers.Wait()
	teller.Tell(-1)
	calls.Wait()
	if last != -1 {
		t.Errorf("heard %d last", last)
	}
}
