package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The cores of the benchmarks over sockets: the server has one, its subscribers
// another, so that neither takes from the other what is measured.
const (
	serverCPU  = 0
	readersCPU = 1
)

// onOneCore runs this process on one core until the benchmark ends, and tells
// where its subscribers run: -1 is anywhere, if there is no second one.
func onOneCore(tb testing.TB) (readers int) {
	tb.Helper()
	procs := runtime.GOMAXPROCS(1)
	tb.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		tb.Fatal(err)
	}
	if !before.IsSet(serverCPU) || !before.IsSet(readersCPU) {
		return -1
	}
	if err := runOn(serverCPU); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := setAffinity(&before); err != nil {
			tb.Error(err)
		}
	})
	return readersCPU
}

// runOn keeps this process on one core.
func runOn(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return setAffinity(&set)
}

// setAffinity applies to each thread that there is; a new one takes after the
// thread that starts it.
func setAffinity(set *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("set the core of thread %d: %w", tid, err)
		}
	}
	return nil
}
