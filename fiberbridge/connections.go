package fiberbridge

import (
	"net"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge/internal/accept"
)

// ConnectionsConfig bounds the connections that come through Listen, Serve and
// Listener. When there are too many, those that wait for their clients (between
// requests, or before the first) are closed for new ones, the longest idle
// first, and as long as none is idle, no further one is accepted. So silent
// connections keep nobody out, and running out of descriptors does not end the
// app, as it would with app.Listen.
type ConnectionsConfig struct {
	// Max is how many connections may be open at once, beside streams that the
	// bridge has taken over. Defaults to what the descriptors allow, and to a
	// little less than fiber.Config's Concurrency.
	Max int
	// Reserve is how many of the process's descriptors are not for connections
	// but for Redis, files and the like. What the host opens itself beyond that
	// takes from the connections, of which half of the descriptors are kept.
	// Defaults to 10 % of the limit, at least 64.
	Reserve int
}

// Listener returns ln with the bounds of Config.Connections. Listen and Serve
// do this by themselves; it is for hosts that serve by hand:
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

// connectionLimit is how many of so many descriptors are for connections.
func connectionLimit(descriptors, reserve int) int {
	if reserve == 0 {
		reserve = max(descriptors/10, 64)
	}
	return max(descriptors-reserve, descriptors/2, 1)
}

// streamLimit is how many of them streams may have, and streams together with
// waiting polls: the others are for all other requests, /health among them.
func streamLimit(descriptors, reserve int) int {
	return max(connectionLimit(descriptors, reserve)-max(descriptors/20, 32), 1)
}

// defaultStreamLimit is the default of Config.Streams.Max.
func (c *Config) defaultStreamLimit() int {
	return streamLimit(accept.Descriptors(), c.Connections.Reserve)
}

// concurrencyRoom is how many connections fewer than fasthttp's Concurrency are
// let in: beyond it fasthttp answers 503 to whoever comes, and it counts a
// connection for a little longer than it is open.
func concurrencyRoom(concurrency int) int { return max(concurrency-max(concurrency/32, 2), 1) }
