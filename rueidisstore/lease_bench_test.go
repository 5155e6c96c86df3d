//go:build unix

package rueidisstore

import (
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRenew is what the leases of 10,000 running tasks cost, each time they
// are renewed: 3 to 4 times in a TTL.
func BenchmarkRenew(b *testing.B) {
	const leases = 10_000
	s := open(b, testConfig(b))
	ids := make([]string, leases)
	var group sync.WaitGroup
	for worker := range 50 {
		group.Go(func() {
			for i := worker; i < leases; i += 50 {
				ids[i] = s.create().ID
				if _, err := s.Acquire(b.Context(), ids[i], "holder", time.Hour); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	redis, client := s.cpu(), ownCPU()
	for b.Loop() {
		if lost, err := s.Renew(b.Context(), "holder", ids, time.Hour); err != nil || len(lost) > 0 {
			b.Fatalf("%d lost, %v", len(lost), err)
		}
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(b.N) / leases }
	b.ReportMetric(each(s.cpu()-redis), "redis-µs/lease")
	b.ReportMetric(each(ownCPU()-client), "client-µs/lease")
}

var cpuLine = regexp.MustCompile(`used_cpu_(?:sys|user):([0-9.]+)`)

// cpu is what the server has used.
func (b *bench) cpu() time.Duration {
	b.Helper()
	info, err := b.do("INFO", "cpu").ToString()
	if err != nil {
		b.Fatal(err)
	}
	var sum float64
	for _, m := range cpuLine.FindAllStringSubmatch(info, -1) {
		seconds, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += seconds
	}
	return time.Duration(sum * float64(time.Second))
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
