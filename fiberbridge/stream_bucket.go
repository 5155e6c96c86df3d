package fiberbridge

import "time"

// bucket is a token bucket: rate tokens a second, up to burst. The zero bucket
// is full.
type bucket struct {
	spent float64 // tokens that are missing
	at    instant
}

// take takes a token, if there is one.
func (b *bucket) take(now instant, rate, burst int) bool {
	refilled := time.Duration(now-b.at).Seconds() * float64(rate)
	b.spent, b.at = max(b.spent-refilled, 0), now
	if b.spent+1 > float64(burst) {
		return false
	}
	b.spent++
	return true
}
