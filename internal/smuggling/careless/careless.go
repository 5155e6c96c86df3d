// Package careless has routes of a host that handle a request's body in every possible
// way except the correct one, which is to read it to its end.
package careless

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	recoverer "github.com/gofiber/fiber/v2/middleware/recover"
)

// Targets are the paths that Mount serves, to every method, and one that it
// does not serve.
func Targets() []string {
	return []string{
		"/ignores", "/nothing", "/fails", "/panics", "/late", "/reads", "/parses", "/closes", "/resets", "/replaces",
		"/begins", "/streams", "/echoes", "/file", "/denied", "/limited", "/missing",
	}
}

// StreamsAnswer reports whether the answer is a stream: fasthttp ends one to
// HEAD with an empty line too many.
func StreamsAnswer(target string) bool { return target == "/streams" || target == "/echoes" }

// Mount adds the routes, and some middleware before them. GET /marker answers
// "marker".
func Mount(app *fiber.App) {
	app.Use(recoverer.New())
	app.Use(cors.New(cors.Config{AllowOrigins: "*"}))
	app.Use("/denied", func(*fiber.Ctx) error { return fiber.ErrUnauthorized })
	app.Use("/limited", func(c *fiber.Ctx) error { return c.SendStatus(fiber.StatusTooManyRequests) })
	app.Get("/marker", func(c *fiber.Ctx) error { return c.SendString("marker") })
	app.All("/ignores", func(c *fiber.Ctx) error { return c.SendString("done") })
	app.All("/nothing", func(c *fiber.Ctx) error { return c.SendStatus(fiber.StatusNoContent) })
	app.All("/fails", func(*fiber.Ctx) error { return errors.New("failed") })
	app.All("/panics", func(*fiber.Ctx) error { panic("by intention") })
	app.All("/late", func(c *fiber.Ctx) error { c.Context().TimeoutError("late"); return nil })
	app.All("/reads", func(c *fiber.Ctx) error { return c.SendString(strconv.Itoa(len(c.Body()))) })
	app.All("/parses", func(c *fiber.Ctx) error { _, _ = c.MultipartForm(); return nil })
	app.All("/closes", func(c *fiber.Ctx) error { return c.Request().CloseBodyStream() })
	app.All("/resets", func(c *fiber.Ctx) error { c.Request().ResetBody(); return nil })
	app.All("/replaces", func(c *fiber.Ctx) error {
		c.Request().SetBodyStream(strings.NewReader("other"), len("other"))
		return nil
	})
	app.All("/begins", func(c *fiber.Ctx) error {
		if c.Request().IsBodyStream() {
			_, _ = io.CopyN(io.Discard, c.Context().RequestBodyStream(), 8500)
		}
		return nil
	})
	app.All("/streams", func(c *fiber.Ctx) error {
		c.Context().SetBodyStreamWriter(func(w *bufio.Writer) { _, _ = w.WriteString("streamed") })
		return nil
	})
	app.All("/echoes", func(c *fiber.Ctx) error {
		if body := c.Context().RequestBodyStream(); body != nil {
			c.Context().SetBodyStream(io.LimitReader(body, 100), -1)
		}
		return nil
	})
	app.Static("/file", os.DevNull)
}
