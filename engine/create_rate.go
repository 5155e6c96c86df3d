package engine

import (
	"sync"
	"time"
)

// CreateRate bounds how fast one subject asks for tasks, in this process. Every
// request counts that the rate itself does not refuse, whatever becomes of it:
// repeats and what is invalid are work as well.
type CreateRate struct {
	// PerSecond is the rate in the long run. Defaults to 100; negative is no
	// bound.
	PerSecond int
	// Burst is how many may come at once. Defaults to ten times PerSecond.
	Burst int
}

// rateSubjects is how many subjects are remembered in each of two generations.
// Who is forgotten begins anew, so it is more than come by in the time in which
// a burst is made good.
const rateSubjects = 1 << 14

// createRate holds a bucket for each subject that created lately.
type createRate struct {
	CreateRate

	mu            sync.Mutex
	young, before map[string]*createBucket
}

// createBucket is a token bucket.
type createBucket struct {
	spent float64 // tokens that are missing
	at    time.Time
}

// take takes a token for subject, or refuses with RATE_LIMITED and the time
// until there is one.
func (c *createRate) take(subject string, now time.Time) error {
	if c.PerSecond < 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.bucket(subject)
	// A clock that went back refills nothing.
	refilled := max(now.Sub(b.at).Seconds(), 0) * float64(c.PerSecond)
	b.spent, b.at = max(b.spent-refilled, 0), now
	if over := b.spent + 1 - float64(c.Burst); over > 0 {
		err := NewError(CodeRateLimited, "too many tasks are asked for at once")
		err.RetryAfter = time.Duration(over / float64(c.PerSecond) * float64(time.Second))
		return err
	}
	b.spent++
	return nil
}

// bucket finds or makes a subject's. When there are too many, those who have not
// created since the last time are forgotten. mu is held.
func (c *createRate) bucket(subject string) *createBucket {
	if b := c.young[subject]; b != nil {
		return b
	}
	b := c.before[subject]
	if b == nil {
		b = &createBucket{}
	}
	if c.young == nil || len(c.young) >= rateSubjects {
		c.young, c.before = make(map[string]*createBucket), c.young
	}
	c.young[subject] = b
	return b
}
