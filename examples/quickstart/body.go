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
	// bodyTimeout is how long a body may take, or, if it is an upload, its first
	// bytes: from there on the library looks at the time.
	bodyTimeout = 30 * time.Second
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

// endBodyTimeout keeps the time for a body from ending what comes after it on
// the same connection: fasthttp sets that deadline and never takes it back.
func endBodyTimeout(c *fiber.Ctx) error {
	err := c.Next()
	if c.Method() == fiber.MethodPost {
		_ = c.Context().Conn().SetReadDeadline(time.Time{}) // a connection that refuses it is gone
	}
	return err
}
