package engine

import (
	"sync"
	"time"
)

// CreateRate bounds how fast one subject creates tasks, in this process. Every create
// request counts unless the rate itself refuses it: repeats and invalid requests are
// work as well.
type CreateRate struct {
	// PerSecond is the rate in the long run. Defaults to 100; negative is no
	// bound.
	PerSecond int
	// Burst is how many may come at once. Defaults to ten times PerSecond.
	Burst int
	// BytesPerSecond bounds, in the long run, the input and metadata of the tasks that
	// one subject creates, which the store has to keep. Repeats do not count, and files
	// have bounds of their own. Defaults to 4 MiB; negative is no bound.
	BytesPerSecond int
	// BurstBytes is how many bytes may come at once. Defaults to 16 times
	// BytesPerSecond.
	BurstBytes int
}

// rateSubjects is how many subjects are remembered in each of two generations.
// Who is forgotten begins anew, so it is more than come by in the time in which
// a burst is made good.
const rateSubjects = 1 << 14

// subjectRate holds a token bucket for each subject that took lately.
type subjectRate struct {
	perSecond, burst float64 // perSecond < 0: no bound
	message          string  // of the refusal

	mu            sync.Mutex
	young, before map[string]*bucket
}

// bucket is a token bucket.
type bucket struct {
	spent float64 // tokens that are missing
	at    time.Time
}

// take takes n tokens for subject, or refuses with RATE_LIMITED and the time
// until there are as many. If n is more than the burst, it takes the whole burst.
func (c *subjectRate) take(subject string, now time.Time, n int) error {
	if c.perSecond < 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.bucket(subject)
	// A clock that went back refills nothing.
	refilled := max(now.Sub(b.at).Seconds(), 0) * c.perSecond
	b.spent, b.at = max(b.spent-refilled, 0), now
	tokens := min(float64(n), c.burst)
	if over := b.spent + tokens - c.burst; over > 0 {
		err := NewError(CodeRateLimited, c.message)
		err.RetryAfter = time.Duration(over / c.perSecond * float64(time.Second))
		return err
	}
	b.spent += tokens
	return nil
}

// bucket finds or makes a subject's. When there are too many, those who have not
// created since the last time are forgotten. mu is held.
func (c *subjectRate) bucket(subject string) *bucket {
	if b := c.young[subject]; b != nil {
		return b
	}
	b := c.before[subject]
	if b == nil {
		b = &bucket{}
	}
	if c.young == nil || len(c.young) >= rateSubjects {
		c.young, c.before = make(map[string]*bucket), c.young
	}
	c.young[subject] = b
	return b
}
