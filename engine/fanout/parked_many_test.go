package fanout

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestParkedWithSeveralLogsKeepsOneEntry: a flush of several logs that a sink
// takes part of leaves the rest of one entry with the outlet. The others are had
// again from their logs, each once and in order, wherever the sink stops.
func TestParkedWithSeveralLogsKeepsOneEntry(t *testing.T) {
	const logs, entries, size = 5, 12, 200
	for step := 1; step < 3000; step += 97 {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			h := mustHub(t, Config{FlushInterval: -1}, src)
			defer closeHub(t, h)
			p := attach(h, -1, OutletConfig{})
			for i := range logs {
				p.out.Follow(fmt.Sprint("k", i), ID{}, opening(fmt.Sprint("k", i), ID{}))
			}
			synctest.Wait()
			p.mu.Lock()
			p.window = 0 // full, as it will find
			p.mu.Unlock()
			for i := range logs {
				src.append(fmt.Sprint("k", i), entries, size, i%2 == 0)
			}
			for i := range logs * entries * 2 * size / step {
				synctest.Wait()
				if r := p.out.rest; r != nil && len(r.tail) > 2*size {
					t.Fatalf("step %d of %d bytes: the outlet keeps %d bytes", i, step, len(r.tail))
				}
				p.open(step)
			}
			p.open(-1)
			time.Sleep(time.Second)
			got := mustParse(t, p)
			for i := range logs {
				r := got.keys[fmt.Sprint("k", i)]
				if len(r.had) != entries || len(r.hidden) != 0 || r.over != (i%2 == 0) {
					t.Errorf("step %d, log %d: %d entries of %d, %d gaps, over %v", step, i, len(r.had), entries, len(r.hidden), r.over)
				}
			}
		})
	}
}
