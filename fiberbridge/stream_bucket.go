package fiberbridge

import "time"

// bucket is a token bucket: rate tokens a second, up to burst, both above zero. It
// is the instant at which it is full again, so that the zero bucket is full.
type bucket instant

// take takes a token, if there is one.
func (b *bucket) take(now instant, rate, burst int) bool {
	each := instant(time.Second) / instant(rate)
	full := max(instant(*b), now) + each
	if full-now > instant(burst)*each {
		return false
	}
	*b = bucket(full)
	return true
}
