package fiberbridge

import (
	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/protocol"
)

// openAPIDocument is read once: it is the same for everyone.
func openAPIDocument(r Routes) []byte {
	if r.OpenAPI == routeOff {
		return nil
	}
	return protocol.OpenAPI()
}

// OpenAPI is the handler of Routes.OpenAPI: the protocol's OpenAPI 3.1 document
// as JSON, with the default paths.
func (b *Bridge) OpenAPI(c *fiber.Ctx) error {
	if err := unsettled(c); err != nil {
		return b.fail(c, err)
	}
	doc := b.openAPI
	if doc == nil { // on a route of the host's own
		doc = protocol.OpenAPI()
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Response().SetBodyRaw(doc)
	b.mustLeave(c, len(doc))
	return nil
}
