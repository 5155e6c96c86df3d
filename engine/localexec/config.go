package localexec

import (
	"errors"
	"log/slog"
	"time"
)

// Config tunes an Executor. The zero value of each field is a default.
type Config struct {
	// Workers is how many handlers run at once. A handler that waits (for a
	// model, for an approval) is one of them; it costs a goroutine and no CPU.
	// Defaults to 256.
	Workers int
	// Queue is how many tasks wait for a worker; beyond it tasks are refused
	// at admission. Defaults to 1024; negative is none.
	Queue int
	// WorkersPerSubject is how many of the Workers one subject's tasks have at
	// once. Defaults to half of Workers, rounded up; negative is no bound, which suits
	// hosts whose tasks all belong to one subject.
	WorkersPerSubject int
	// QueuePerSubject is how many tasks of one subject may wait for a worker. Further
	// ones are refused with RATE_LIMITED. Free workers go to the subjects in turn.
	// Defaults to half of Queue, rounded up; negative is no bound.
	QueuePerSubject int
	// CancelGrace is how long a handler may go on after its context has ended.
	// Then its task is ended without it, and what it still emits is refused.
	// The worker is free again when the handler returns. Defaults to 10s.
	CancelGrace time.Duration
	// RetryAfter is when clients refused for want of a place may come back.
	// Defaults to 2s.
	RetryAfter time.Duration
	// Logger receives panics, and errors that clients must not see. Defaults
	// to slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Workers == 0 {
		c.Workers = 256
	}
	if c.Queue == 0 {
		c.Queue = 1024
	}
	c.Queue = max(c.Queue, 0)
	c.WorkersPerSubject = share(c.WorkersPerSubject, c.Workers)
	c.QueuePerSubject = share(c.QueuePerSubject, c.Queue)
	if c.CancelGrace == 0 {
		c.CancelGrace = 10 * time.Second
	}
	if c.RetryAfter == 0 {
		c.RetryAfter = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// share returns how many of all one subject may have: half by default, and all without
// a bound.
func share(set, all int) int {
	switch {
	case set < 0:
		return all
	case set == 0:
		return (all + 1) / 2
	}
	return min(set, all)
}

func (c Config) validate() error {
	switch {
	case c.Workers < 0:
		return errors.New("localexec: Config.Workers is negative")
	case c.CancelGrace < 0:
		return errors.New("localexec: Config.CancelGrace is negative")
	case c.RetryAfter < 0:
		return errors.New("localexec: Config.RetryAfter is negative")
	}
	return nil
}
