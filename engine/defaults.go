package engine

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// encoding/json itself stops at 10,000 levels; half of that leaves room for
// what the payload is wrapped in.
const maxNesting = 5000

// minLeaseTTL is about what a few round trips take on a bad day.
const minLeaseTTL = 100 * time.Millisecond

// minPayloadBytes is what any event of the protocol's own needs.
const minPayloadBytes = 1024

func (c Config) withDefaults() Config {
	if c.Ownership == nil {
		c.Ownership = denyAll()
	}
	if c.Attachments == nil {
		c.Attachments, _ = c.Store.(AttachmentStore)
	}
	c.RollUp = slices.Clone(c.RollUp)
	c.Limits = c.Limits.withDefaults()
	c.Emit = c.Emit.withDefaults()
	c.Lease.TTL = cmp.Or(c.Lease.TTL, 15*time.Second)
	c.Lease.MaxRestarts = cmp.Or(c.Lease.MaxRestarts, 5)
	c.Lease.RestartWithin = cmp.Or(c.Lease.RestartWithin, 15*time.Minute)
	c.ReadyTTL = cmp.Or(c.ReadyTTL, time.Second)
	c.Creates.PerSecond = cmp.Or(c.Creates.PerSecond, 100)
	c.Creates.BytesPerSecond = cmp.Or(c.Creates.BytesPerSecond, 4<<20)
	c.Creates.BurstBytes = cmp.Or(c.Creates.BurstBytes, max(16*c.Creates.BytesPerSecond, 1))
	c.Creates.Burst = cmp.Or(c.Creates.Burst, max(10*c.Creates.PerSecond, 1))
	c.Revocations.TTL = cmp.Or(c.Revocations.TTL, 24*time.Hour)
	c.Revocations.Max = cmp.Or(c.Revocations.Max, 10_000)
	c.Revocations.Reserve = max(cmp.Or(c.Revocations.Reserve, c.Revocations.Max/10), 0)
	c.Revocations.MaxPerSubject = cmp.Or(c.Revocations.MaxPerSubject, 100)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	c.Delivery.Logger = cmp.Or(c.Delivery.Logger, c.Logger)
	if c.Metrics == nil {
		c.Metrics = noMetrics{}
	}
	return c
}

func (l Limits) withDefaults() Limits {
	l.PayloadBytes = cmp.Or(l.PayloadBytes, 256<<10)
	l.InputBytes = cmp.Or(l.InputBytes, 1<<20)
	l.Nesting = cmp.Or(l.Nesting, 200)
	l.CheckpointBytes = cmp.Or(l.CheckpointBytes, 64<<10)
	return l
}

func (c EmitConfig) withDefaults() EmitConfig {
	c.BatchEvents = cmp.Or(c.BatchEvents, 256)
	c.BatchBytes = cmp.Or(c.BatchBytes, 256<<10)
	c.BufferBytes = cmp.Or(c.BufferBytes, 1<<20)
	c.RollUp = cmp.Or(c.RollUp, 25*time.Millisecond)
	c.RollUpBytes = cmp.Or(c.RollUpBytes, 16<<10)
	c.Retry = cmp.Or(c.Retry, 2*time.Minute)
	return c
}

// validate is asked after withDefaults, so that zero never comes here.
func (c Config) validate() error {
	if c.Store == nil {
		return errors.New("engine: Config.Store is required")
	}
	for _, f := range []struct {
		name     string
		got      int64
		min, max int64
	}{
		{"Limits.PayloadBytes", int64(c.Limits.PayloadBytes), minPayloadBytes, 0},
		{"Limits.InputBytes", int64(c.Limits.InputBytes), 2, 0},
		{"Limits.Nesting", int64(c.Limits.Nesting), 1, maxNesting},
		{"Limits.CheckpointBytes", int64(c.Limits.CheckpointBytes), 2, 0},
		{"Emit.BatchEvents", int64(c.Emit.BatchEvents), 1, 0},
		{"Emit.BatchBytes", int64(c.Emit.BatchBytes), 1, 0},
		{"Emit.BufferBytes", int64(c.Emit.BufferBytes), 1, 0},
		{"Emit.RollUpBytes", int64(c.Emit.RollUpBytes), 1, 0},
		{"Creates.Burst", int64(c.Creates.Burst), 1, 0},
		{"Creates.BurstBytes", int64(c.Creates.BurstBytes), 1, 0},
		{"Revocations.Max", int64(c.Revocations.Max), 1, 0},
	} {
		switch {
		case f.got < 0:
			return fmt.Errorf("engine: Config.%s must not be negative", f.name)
		case f.got < f.min:
			return fmt.Errorf("engine: Config.%s must be at least %d", f.name, f.min)
		case f.max > 0 && f.got > f.max:
			return fmt.Errorf("engine: Config.%s must be at most %d", f.name, f.max)
		}
	}
	for _, f := range []struct {
		name     string
		got, min time.Duration
	}{
		{"Emit.RollUp", c.Emit.RollUp, 1},
		{"Emit.Retry", c.Emit.Retry, 1},
		{"Revocations.TTL", c.Revocations.TTL, time.Second},
		{"ReadyTTL", c.ReadyTTL, 1},
		{"Lease.TTL", c.Lease.TTL, minLeaseTTL},
	} {
		switch {
		case f.got < 0:
			return fmt.Errorf("engine: Config.%s must not be negative", f.name)
		case f.got < f.min:
			return fmt.Errorf("engine: Config.%s must be at least %v", f.name, f.min)
		}
	}
	if c.Revocations.Reserve >= c.Revocations.Max {
		return errors.New("engine: Config.Revocations.Reserve must be less than Revocations.Max")
	}
	for i, p := range c.Readiness {
		if p == nil {
			return fmt.Errorf("engine: Config.Readiness[%d] is nil", i)
		}
	}
	return nil
}

// noMetrics is the sink of a host that chose none.
type noMetrics struct{}

func (noMetrics) Add(Metric, int64, string) {}
