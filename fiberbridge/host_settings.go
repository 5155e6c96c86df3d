package fiberbridge

import (
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"
)

// shortestWriteTimeout is about the time that an answer needs on a slow line. A
// shorter setting is nearly always a mistake in the unit.
const shortestWriteTimeout = time.Second

// tellHostSettings warns of settings of the app's server that let a few clients block
// all others. Each line names the field and what to set. A setting that cannot be safe
// (Prefork) is an error of Mount, and what Mount can correct itself (bodies) it does.
func (b *Bridge) tellHostSettings(router fiber.Router) {
	app := appOf(router)
	if app == nil {
		return
	}
	server, log := app.Server(), b.cfg.Logger
	if server.ReadTimeout <= 0 {
		log.Warn("the app has no ReadTimeout: a client that sends its header byte by byte holds a connection for ever; " +
			"set fiber.Config.ReadTimeout, or app.Server().ReadTimeout before Mount if uploads may take longer")
	}
	if server.WriteTimeout > 0 && server.WriteTimeout < shortestWriteTimeout {
		log.Warn("clients on slow lines do not get their answers in the app's WriteTimeout; raise fiber.Config.WriteTimeout, "+
			"or leave it to fiberbridge.Config.Answers.WriteTimeout", slog.Duration("writeTimeout", server.WriteTimeout))
	}
	// The host has not chosen Fiber's default, and the listener stays below it.
	if server.Concurrency > 0 && server.Concurrency != fiber.DefaultConcurrency && server.Concurrency <= b.cfg.Streams.Max {
		log.Warn("polls that wait can take all of the app's Concurrency, and then everything else is refused, /health too; "+
			"raise fiber.Config.Concurrency, or set fiberbridge.Config.Streams.Max below it",
			slog.Int("concurrency", server.Concurrency), slog.Int("maxStreams", b.cfg.Streams.Max))
	}
}
