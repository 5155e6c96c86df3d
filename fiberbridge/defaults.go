package fiberbridge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"
)

// withDefaults returns a copy of c, independent of it, with every zero value
// replaced by its default.
func (c Config) withDefaults() Config {
	orString(&c.Routes.Create, "/tasks")
	orString(&c.Routes.Snapshot, "/tasks/:taskId")
	orString(&c.Routes.Poll, "/tasks/:taskId/events")
	orString(&c.Routes.SSE, "/tasks/:taskId/events/stream")
	orString(&c.Routes.WebSocket, "/tasks/ws")
	orString(&c.Routes.Cancel, "/tasks/:taskId/cancel")
	orString(&c.Routes.Action, "/tasks/:taskId/actions")
	orString(&c.Routes.OpenAPI, routeOff)
	orString(&c.Routes.Health, "/health")
	orString(&c.Routes.Ready, "/ready")

	orValue(&c.SSE.Heartbeat, 15*time.Second)
	orValue(&c.SSE.Retry, 2*time.Second)

	orValue(&c.WebSocket.Heartbeat, 25*time.Second)
	orValue(&c.WebSocket.PongTimeout, min(10*time.Second, c.WebSocket.Heartbeat))
	orValue(&c.WebSocket.SubscribeTimeout, 10*time.Second)
	orValue(&c.WebSocket.MessageBytes, 4096)
	orValue(&c.WebSocket.MaxSubscriptions, 64)
	orValue(&c.WebSocket.IdleTimeout, 5*time.Second)
	orValue(&c.WebSocket.FramesPerSecond, 50)
	c.Origins = slices.Clone(c.Origins)

	orValue(&c.Streams.Max, c.defaultStreamLimit())
	orValue(&c.WebSocket.MaxIdle, max(c.Streams.Max/2, 1))
	orValue(&c.Streams.MaxPerSubject, 10_000)
	orValue(&c.Streams.MaxPollsPerSubject, 1000)
	orValue(&c.Streams.WriteTimeout, 30*time.Second)

	orValue(&c.Poll.Gather, 50*time.Millisecond)
	orValue(&c.Answers.PageBytes, 1<<20)
	orValue(&c.Answers.MaxBytesPerSubject, 16<<20)
	orValue(&c.Answers.MaxBytes, max(128<<20, c.Answers.MaxBytesPerSubject))
	orValue(&c.Answers.WriteTimeout, time.Minute)

	orValue(&c.Uploads.MaxFiles, 10)
	orValue(&c.Uploads.MaxFileBytes, 10<<20)
	orValue(&c.Uploads.MaxTotalBytes, max(32<<20, c.Uploads.MaxFileBytes))
	orValue(&c.Uploads.MaxPerSubject, 16)
	orValue(&c.Uploads.MaxBytesPerSubject, max(128<<20, 2*c.Uploads.MaxTotalBytes))
	orValue(&c.Uploads.MaxBytes, max(1<<30, 4*c.Uploads.MaxBytesPerSubject))
	orValue(&c.Uploads.MinRate, 1<<10)
	orValue(&c.Uploads.ReadTimeout, 10*time.Minute)
	c.Uploads.IgnoreFields = slices.Clone(c.Uploads.IgnoreFields)
	c.Uploads.ContentTypes = slices.Clone(c.Uploads.ContentTypes)

	orValue(&c.Drain.Timeout, 9*time.Second)
	orValue(&c.Drain.NotReady, 2*time.Second)
	orValue(&c.Drain.Spread, 3*time.Second)
	orValue(&c.Drain.RetryMin, time.Second)
	orValue(&c.Drain.RetryMax, max(5*time.Second, c.Drain.RetryMin))

	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func orString(v *string, def string) {
	if *v == "" {
		*v = def
	}
}

func orValue[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// validate checks a config with defaults applied and names the first field
// that is wrong.
func (c *Config) validate() error {
	if c.Engine == nil {
		return errors.New("fiberbridge: Config.Engine is required")
	}
	if c.Auth == nil {
		return errors.New("fiberbridge: Config.Auth is required")
	}
	if err := c.Routes.validate(); err != nil {
		return fmt.Errorf("fiberbridge: Config.Routes.%w", err)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"SSE.Heartbeat", c.SSE.Heartbeat},
		{"SSE.Retry", c.SSE.Retry},
		{"WebSocket.Heartbeat", c.WebSocket.Heartbeat},
		{"WebSocket.PongTimeout", c.WebSocket.PongTimeout},
		{"WebSocket.SubscribeTimeout", c.WebSocket.SubscribeTimeout},
		{"WebSocket.IdleTimeout", c.WebSocket.IdleTimeout},
		{"Streams.WriteTimeout", c.Streams.WriteTimeout},
		{"Answers.WriteTimeout", c.Answers.WriteTimeout},
		{"Uploads.ReadTimeout", c.Uploads.ReadTimeout},
		{"Drain.Timeout", c.Drain.Timeout},
		{"Drain.RetryMin", c.Drain.RetryMin},
		{"Drain.RetryMax", c.Drain.RetryMax},
	} {
		// A bare number is a count of nanoseconds: surely not what was meant.
		if d.value < time.Millisecond {
			return fmt.Errorf("fiberbridge: Config.%s is %v, shorter than a millisecond", d.field, d.value)
		}
	}
	if c.Streams.MaxAge != 0 && c.Streams.MaxAge < time.Millisecond {
		return fmt.Errorf("fiberbridge: Config.Streams.MaxAge is %v, shorter than a millisecond", c.Streams.MaxAge)
	}
	if g := c.Poll.Gather; g > time.Second || g > 0 && g < time.Millisecond {
		return fmt.Errorf("fiberbridge: Config.Poll.Gather is %v, and may be 1ms to 1s, or negative", g)
	}
	if c.Streams.Recheck > 0 && c.Streams.Recheck < time.Millisecond {
		return fmt.Errorf("fiberbridge: Config.Streams.Recheck is %v, shorter than a millisecond", c.Streams.Recheck)
	}
	for _, n := range []struct {
		field string
		value int64
	}{
		{"WebSocket.MessageBytes", int64(c.WebSocket.MessageBytes)},
		{"WebSocket.MaxSubscriptions", int64(c.WebSocket.MaxSubscriptions)},
		{"WebSocket.FramesPerSecond", int64(c.WebSocket.FramesPerSecond)},
		{"WebSocket.MaxIdle", int64(c.WebSocket.MaxIdle)},
		{"Connections.Max", int64(c.Connections.Max)},
		{"Connections.Reserve", int64(c.Connections.Reserve)},
		{"Streams.Max", int64(c.Streams.Max)},
		{"Streams.MaxPerSubject", int64(c.Streams.MaxPerSubject)},
		{"Streams.MaxPerTask", int64(c.Streams.MaxPerTask)},
		{"Streams.MaxPollsPerSubject", int64(c.Streams.MaxPollsPerSubject)},
		{"Answers.PageBytes", int64(c.Answers.PageBytes)},
		{"Answers.MaxBytesPerSubject", c.Answers.MaxBytesPerSubject},
		{"Answers.MaxBytes", c.Answers.MaxBytes},
		{"Uploads.MaxFiles", int64(c.Uploads.MaxFiles)},
		{"Uploads.MaxFileBytes", c.Uploads.MaxFileBytes},
		{"Uploads.MaxTotalBytes", c.Uploads.MaxTotalBytes},
		{"Uploads.MaxPerSubject", int64(c.Uploads.MaxPerSubject)},
		{"Uploads.MaxBytesPerSubject", c.Uploads.MaxBytesPerSubject},
		{"Uploads.MaxBytes", c.Uploads.MaxBytes},
		{"Uploads.MinRate", int64(c.Uploads.MinRate)},
	} {
		if n.value < 0 {
			return fmt.Errorf("fiberbridge: Config.%s is negative", n.field)
		}
	}
	for i, field := range c.Uploads.IgnoreFields {
		if field == "" || isFileField(field) || isTextField(field) {
			return fmt.Errorf("fiberbridge: Config.Uploads.IgnoreFields[%d]: %q is not a name that can be ignored", i, field)
		}
	}
	for i, entry := range c.Uploads.ContentTypes {
		if err := validateTypePattern(entry); err != nil {
			return fmt.Errorf("fiberbridge: Config.Uploads.ContentTypes[%d]: %w", i, err)
		}
	}
	if c.Drain.RetryMin > c.Drain.RetryMax {
		return errors.New("fiberbridge: Config.Drain.RetryMin is longer than RetryMax")
	}
	for i, origin := range c.Origins {
		if err := validateOrigin(origin); err != nil {
			return fmt.Errorf("fiberbridge: Config.Origins[%d]: %w", i, err)
		}
	}
	return nil
}

// validateOrigin accepts "*" and scheme://host[:port], as RFC 6454 section 6.2
// writes an origin. An entry of any other form would never match.
func validateOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || origin != u.Scheme+"://"+u.Host || strings.ContainsAny(u.Host, "*") {
		return fmt.Errorf(`%q is neither "*" nor of the form "https://host:port"`, origin)
	}
	return nil
}
