// Package hist counts latencies in log-linear buckets, as HdrHistogram does:
// 64 to a power of two, so that a value is known to 1.6 %, in 16 KiB whatever
// their number.
package hist

import "math/bits"

const (
	subBits = 6
	sub     = 1 << subBits
	buckets = 2048
)

// Hist counts values of 0 µs to about 19 hours; what is beyond counts as the
// end it is beyond. The zero value is empty and ready. It is for one goroutine.
type Hist struct {
	counts   [buckets]uint64
	n        uint64
	sum      float64
	min, max int64
}

// Record counts one value, in microseconds.
func (h *Hist) Record(v int64) {
	v = max(v, 0)
	h.counts[index(v)]++
	if h.n == 0 || v < h.min {
		h.min = v
	}
	h.max = max(h.max, v)
	h.n++
	h.sum += float64(v)
}

// index is v itself below 128, and from there on what v's seven leading bits
// and their place choose.
func index(v int64) int {
	shift := max(bits.Len64(uint64(v))-subBits-1, 0)
	return min(shift*sub+int(v>>shift), buckets-1)
}

// highest is the largest value of a bucket.
func highest(i int) int64 {
	shift := max(i/sub-1, 0)
	return int64(i-shift*sub+1)<<shift - 1
}

// Merge adds what other holds.
func (h *Hist) Merge(other *Hist) {
	if other.n == 0 {
		return
	}
	for i, c := range other.counts {
		h.counts[i] += c
	}
	if h.n == 0 || other.min < h.min {
		h.min = other.min
	}
	h.max = max(h.max, other.max)
	h.n += other.n
	h.sum += other.sum
}

// Reset empties h.
func (h *Hist) Reset() { *h = Hist{} }

// Count is how many values there are.
func (h *Hist) Count() uint64 { return h.n }

// Min is the smallest value. It, Max and Mean are exact, and 0 if there are no
// values.
func (h *Hist) Min() int64 { return h.min }

// Max is the largest value.
func (h *Hist) Max() int64 { return h.max }

// Mean is the arithmetic mean.
func (h *Hist) Mean() float64 {
	if h.n == 0 {
		return 0
	}
	return h.sum / float64(h.n)
}

// Over is how many values are above v, to the precision of a bucket.
func (h *Hist) Over(v int64) (n uint64) {
	for _, c := range h.counts[index(v)+1:] {
		n += c
	}
	return n
}

// Quantile is the smallest value that q (0 to 1) of all values do not exceed,
// to the precision of a bucket; 0 if there are no values.
func (h *Hist) Quantile(q float64) int64 {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q*float64(h.n) + 0.999999)
	rank = min(max(rank, 1), h.n)
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank {
			return min(highest(i), h.max)
		}
	}
	return h.max
}
