package fiberbridge

import (
	"bytes"

	"github.com/gofiber/fiber/v2"
)

// mistakesCuts reports whether the request comes directly from undici's fetch, without a
// proxy. Its versions 5.29 to 7.25 and 8.0.0 (Node 18 to 24) take a chunked body
// that was cut for a complete one if the answer said Connection: close; see
// docs/adr/0014-how-a-stream-ends.md.
//
// Sec-Fetch-Mode is set by fetch and by nobody else; a script cannot change it.
// Browsers send Sec-Fetch-Site with it, undici does not. It says Connection:
// keep-alive, which a proxy would not have passed on.
func mistakesCuts(c *fiber.Ctx) bool {
	var mode, site, keepAlive bool
	for name, value := range c.Request().Header.All() {
		switch {
		case bytes.EqualFold(name, []byte("Sec-Fetch-Mode")):
			mode = true
		case bytes.EqualFold(name, []byte("Sec-Fetch-Site")):
			site = true
		case bytes.EqualFold(name, []byte(fiber.HeaderConnection)):
			keepAlive = bytes.EqualFold(value, []byte("keep-alive"))
		}
	}
	return mode && !site && keepAlive
}
