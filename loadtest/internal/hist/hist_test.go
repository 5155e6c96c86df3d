package hist_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/hist"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exact is the quantile of sorted values.
func exact(sorted []int64, q float64) int64 {
	rank := int(q*float64(len(sorted)) + .999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func TestQuantilesAreWithinABucket(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, spread := range []int64{100, 10_000, 5_000_000, 1 << 35} {
		var h hist.Hist
		var values []int64
		for range 20_000 {
			v := random.Int64N(random.Int64N(spread) + 1)
			values = append(values, v)
			h.Record(v)
		}
		slices.Sort(values)
		for _, q := range []float64{0, .01, .25, .5, .9, .99, .999, 1} {
			got, want := h.Quantile(q), exact(values, q)
			if got < want || float64(got) > float64(want)*(1+1./64) {
				t.Errorf("up to %d: quantile %v is %d, want %d to within 1/64", spread, q, got, want)
			}
		}
		if h.Min() != values[0] || h.Max() != values[len(values)-1] || h.Count() != uint64(len(values)) {
			t.Errorf("min %d, max %d, count %d", h.Min(), h.Max(), h.Count())
		}
	}
}

func TestSmallValuesAreExact(t *testing.T) {
	for v := range int64(128) {
		var h hist.Hist
		h.Record(v)
		h.Record(1000)
		if got := h.Quantile(.5); got != v {
			t.Errorf("%d became %d", v, got)
		}
	}
}

func TestMergeIsAsIfRecordedInOne(t *testing.T) {
	var a, b, both hist.Hist
	for i := range int64(1000) {
		a.Record(i * i)
		b.Record(7 * i)
		both.Record(i * i)
		both.Record(7 * i)
	}
	a.Merge(&b)
	a.Merge(new(hist.Hist))
	if a != both {
		t.Error("they differ")
	}
	var empty hist.Hist
	empty.Merge(&both)
	if empty != both {
		t.Error("merging into an empty one differs")
	}
	if both.Mean() < 100_000 {
		t.Errorf("mean %v", both.Mean())
	}
}

func TestEdges(t *testing.T) {
	var h hist.Hist
	if h.Quantile(.5) != 0 || h.Mean() != 0 || h.Max() != 0 {
		t.Error("an empty one is not zero")
	}
	h.Record(-5)
	h.Record(1 << 62)
	if h.Quantile(0) != 0 || h.Max() != 1<<62 || h.Count() != 2 {
		t.Errorf("min %d, max %d", h.Quantile(0), h.Max())
	}
	h.Reset()
	if h.Count() != 0 {
		t.Error("not empty")
	}
}

func TestRecordAllocatesNothing(t *testing.T) {
	var h hist.Hist
	if n := testing.AllocsPerRun(100, func() { h.Record(12345) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
