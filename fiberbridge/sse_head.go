package fiberbridge

import (
	"slices"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// setSSEHeaders sets what every answer with a stream carries.
func setSSEHeaders(c *fiber.Ctx) {
	c.Set(fiber.HeaderContentType, eventStream)
	// no-transform also keeps proxies from compressing, and so from buffering.
	c.Set(fiber.HeaderCacheControl, "no-cache, no-transform")
	// nginx buffers unless it is told (ngx_http_proxy_module, proxy_buffering).
	c.Set("X-Accel-Buffering", "no")
}

// appendSSEHead appends the head of a stream: every header of the final
// response, save those that say how long the body is or how it is coded, which
// only we know. The connection ends with the stream, and says so: a client
// that used it again would run into its end. With keepAlive, for clients that
// mistakesCuts finds, the head says so as a connection that may be kept for 0 s.
func appendSSEHead(dst []byte, resp *fasthttp.Response, http11, keepAlive bool) []byte {
	h := &resp.Header
	resetFraming(h)
	if http11 {
		h.SetContentLength(-1) // chunked
	}
	if http11 && keepAlive {
		h.Set(fiber.HeaderConnection, "keep-alive")
		h.Set(fiber.HeaderKeepAlive, "timeout=0")
	} else {
		h.SetConnectionClose()
	}
	head := h.Header()
	const opening = 64 // with room for that, in one allocation for both
	return append(slices.Grow(dst, len(head)+opening), head...)
}

// appendUpgradeHead appends the head of an accepted WebSocket upgrade.
func appendUpgradeHead(dst []byte, resp *fasthttp.Response) []byte {
	h := &resp.Header
	resetFraming(h)
	h.Set(fiber.HeaderConnection, "Upgrade")
	return append(dst, h.Header()...)
}

func resetFraming(h *fasthttp.ResponseHeader) {
	for _, name := range []string{
		fiber.HeaderContentLength, fiber.HeaderTransferEncoding, fiber.HeaderContentEncoding,
		fiber.HeaderConnection, fiber.HeaderTrailer, fiber.HeaderKeepAlive,
	} {
		h.Del(name)
	}
}
