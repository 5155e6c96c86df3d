//go:build linux

package proc

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process has used so far, and has now.
type Usage struct {
	CPU         time.Duration // all threads, to the nanosecond
	User        time.Duration // to the clock tick, 10 ms
	System      time.Duration
	RSS         int64 // bytes
	Peak        int64 // bytes, of RSS since ResetPeak
	Threads     int
	Files       int
	Voluntary   uint64 // context switches
	Involuntary uint64
}

// clockTick is USER_HZ, 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// Read reads the usage of a process; files says whether to count descriptors,
// which takes a while when there are many.
func Read(pid int, files bool) (Usage, error) {
	var u Usage
	var ts unix.Timespec
	// The clock of another process: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED).
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return u, fmt.Errorf("process %d: %w", pid, err)
	}
	u.CPU = time.Duration(ts.Nano())
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return u, err
	}
	// Fields count from behind the name, which may hold anything.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) > 12 {
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		u.User, u.System = time.Duration(user)*clockTick, time.Duration(system)*clockTick
	}
	status, err := readFields(dir + "/status")
	if err != nil {
		return u, err
	}
	u.RSS, u.Peak = status["VmRSS"]<<10, status["VmHWM"]<<10
	u.Threads = int(status["Threads"])
	u.Voluntary, u.Involuntary = switches(dir)
	if files {
		u.Files, err = Files(pid)
	}
	return u, err
}

// switches adds up those of all threads: status has the first thread's only.
func switches(dir string) (voluntary, involuntary uint64) {
	threads, err := os.ReadDir(dir + "/task")
	if err != nil {
		return 0, 0
	}
	for _, t := range threads {
		s, err := readFields(dir + "/task/" + t.Name() + "/status")
		if err != nil { // it ended meanwhile
			continue
		}
		voluntary += uint64(s["voluntary_ctxt_switches"])
		involuntary += uint64(s["nonvoluntary_ctxt_switches"])
	}
	return voluntary, involuntary
}

// Files is how many descriptors a process has open.
func Files(pid int) (int, error) {
	d, err := os.Open("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return 0, err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	return len(names), err
}

// ResetPeak makes Peak count from now on.
func ResetPeak(pid int) error {
	return os.WriteFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", []byte("5"), 0)
}

// Kernel is what the kernel holds for the sockets of the whole machine.
type Kernel struct {
	TCPSockets int   // in use
	TCPBytes   int64 // socket buffers, from /proc/net/sockstat
	Slab       int64 // bytes, from /proc/meminfo
}

// ReadKernel reads it.
func ReadKernel() (Kernel, error) {
	var k Kernel
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return k, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			n, _ := strconv.ParseInt(f[i+1], 10, 64)
			switch f[i] {
			case "inuse":
				k.TCPSockets = int(n)
			case "mem":
				k.TCPBytes = n * int64(os.Getpagesize())
			}
		}
	}
	mem, err := readFields("/proc/meminfo")
	k.Slab = mem["Slab"] << 10
	return k, err
}

// readFields reads lines of "Name: number".
func readFields(path string) (map[string]int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	out := map[string]int64{}
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		name, rest, ok := strings.Cut(scanner.Text(), ":")
		if !ok {
			continue
		}
		if fields := strings.Fields(rest); len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				out[name] = n
			}
		}
	}
	return out, scanner.Err()
}
