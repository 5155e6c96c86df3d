package fiberbridge

import (
	"strings"

	"github.com/gofiber/fiber/v2"
)

// headerValues returns all values of a request header, whatever the case of
// its name: with fiber.Config.DisableHeaderNormalizing names are as clients
// wrote them, and fasthttp finds them only in exactly the spelling asked for.
func headerValues(c *fiber.Ctx, name string) []string {
	var values []string
	for key, value := range c.Request().Header.All() {
		if strings.EqualFold(string(key), name) {
			values = append(values, string(value))
		}
	}
	return values
}

// normalizeHandshake puts the fields of a WebSocket handshake where
// contrib/websocket looks for them.
func normalizeHandshake(c *fiber.Ctx) {
	header := &c.Request().Header
	for _, name := range []string{
		fiber.HeaderConnection, fiber.HeaderUpgrade, "Sec-Websocket-Version", "Sec-Websocket-Key",
	} {
		if len(header.Peek(name)) == 0 {
			if values := headerValues(c, name); len(values) > 0 {
				header.Set(name, strings.Join(values, ", "))
			}
		}
	}
}
