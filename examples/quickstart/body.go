package main

import (
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

const (
	// bodyLimit is Fiber's limit for a whole request. It lies above the library's
	// limits for uploads (32 MiB in all), so that those give the answer.
	bodyLimit = 40 << 20
	// headerTimeout is how long a request's header may take, and a new connection
	// may be silent.
	headerTimeout = 10 * time.Second
	// bodyTimeout is how long a body may take, or, if it is an upload, its first
	// bytes: from there on the library looks at the time.
	bodyTimeout = 30 * time.Second
	// idleTimeout is how long a connection may wait between requests: longer than
	// proxies and clients keep theirs.
	idleTimeout = 2 * time.Minute
)

// oversized marks, on a request without its body, that the body was too large.
const oversized = "X-Demo-Oversized"

// onHeader sees every request's header before its body is waited for. With
// streamed bodies fasthttp calls no handler until the first 8 KiB are here, and
// would let a client that announces too much, or sends nothing, wait for ever.
func onHeader(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
	header.Del(oversized)
	switch n := header.ContentLength(); {
	case n > bodyLimit:
		// The body is left where it is, so nothing may come after it.
		header.SetContentLength(0)
		header.SetConnectionClose()
		header.Set(oversized, "1")
	case n != 0 && header.IsPost():
		return fasthttp.RequestConfig{ReadTimeout: bodyTimeout}
	}
	return fasthttp.RequestConfig{}
}

// refuseOversized is the other half of onHeader, where the refusal can have the
// host's headers.
func refuseOversized(c *fiber.Ctx) error {
	if len(c.Request().Header.Peek(oversized)) > 0 {
		return fiber.ErrRequestEntityTooLarge
	}
	return c.Next()
}

// limitWaits keeps clients that send nothing, or a byte now and then, from
// holding connections. The times are the server's own and not fiber.Config's:
// with a ReadTimeout there the bridge would leave the time of a whole upload to
// it. fasthttp sets the deadline anew for each request, and none holds for a
// stream that has begun.
func limitWaits(server *fasthttp.Server) {
	server.ReadTimeout = headerTimeout
	server.IdleTimeout = idleTimeout
	server.HeaderReceived = onHeader
}
