package fiberbridge

import (
	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// authenticate asks the host who the request comes from. An empty subject or
// an expiry that has passed is AUTHENTICATION_ERROR.
func (b *Bridge) authenticate(c *fiber.Ctx) (engine.AuthContext, error) { panic("unwritten") }

// fail answers the request with err as the error envelope, by the one table
// from codes to statuses, with Retry-After on passing refusals. Causes of
// internal errors go to the log only.
func (b *Bridge) fail(c *fiber.Ctx, err error) error { panic("unwritten") }

// httpStatus returns the HTTP status of code.
func httpStatus(code engine.Code) int { panic("unwritten") }
