package fiberbridge

import (
	"net"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/accept"
)

// ConnectionsConfig bounds the connections that Listen, Serve and Listener accept.
// When there are too many, those that wait for their clients (between requests,
// before the first one, or for an answer that is not read) are closed for new
// ones, the longest idle first. While none is idle, no further one is accepted. So
// silent connections do not keep others out, and running out of descriptors does
// not end the app, as it would with app.Listen.
type ConnectionsConfig struct {
	// Max is how many connections may be open at once, not counting streams that the
	// bridge has taken over. It is never more than a little below fiber.Config's
	// Concurrency in Listen and Serve. Defaults to what the descriptors allow.
	Max int
	// Reserve is how many of the process's descriptors are kept for Redis, files and
	// the like. If the host opens more, fewer connections are accepted. Connections
	// get at least half of the descriptors, whatever Reserve says. Defaults to 10 % of
	// the limit, at least 64.
	Reserve int
}

// Listener returns ln with the bounds of Config.Connections. Listen and Serve call
// it themselves; it is for hosts that serve by hand:
//
//	ln, err := net.Listen("tcp", ":8080")
//	err = app.Listener(bridge.Listener(ln))
//
// TLS goes around it: app.Listener(tls.NewListener(bridge.Listener(ln), cfg)).
// Connections that are not TCP are not closed for others.
func (b *Bridge) Listener(ln net.Listener) net.Listener { return b.listener(ln, b.cfg.Connections.Max) }

func (b *Bridge) listener(ln net.Listener, most int) net.Listener {
	if _, ours := ln.(*accept.Listener); ours {
		return ln
	}
	metrics := b.eng.Metrics()
	return accept.New(ln, accept.Options{
		Ceiling: connectionLimit(accept.Descriptors(), b.cfg.Connections.Reserve),
		Max:     most,
		Opened:  func(delta int64) { metrics.Add(engine.MetricConnections, delta, "") },
		Closed:  func(n int64) { metrics.Add(engine.MetricConnectionsClosed, n, "") },
		Waited:  func() { metrics.Add(engine.MetricAcceptWaits, 1, "") },
		Log:     b.cfg.Logger,
	})
}

// connectionLimit returns how many of the descriptors are for connections.
func connectionLimit(descriptors, reserve int) int {
	if reserve == 0 {
		reserve = max(descriptors/10, 64)
	}
	return max(descriptors-reserve, descriptors/2, 1)
}

// streamLimit returns how many of the descriptors streams may have, and streams and
// waiting polls together. The rest is for all other requests, like /health.
func streamLimit(descriptors, reserve int) int {
	return max(connectionLimit(descriptors, reserve)-max(descriptors/20, 32), 1)
}

// defaultStreamLimit returns the default of Config.Streams.Max.
func (c *Config) defaultStreamLimit() int {
	return streamLimit(accept.Descriptors(), c.Connections.Reserve)
}

// concurrencyRoom returns how many connections are accepted, a little fewer than
// fasthttp's Concurrency: beyond that fasthttp answers 503, and it counts a
// connection for a little longer than it is open.
func concurrencyRoom(concurrency int) int { return max(concurrency-max(concurrency/32, 2), 1) }
