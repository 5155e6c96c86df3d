package fiberbridge

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"
)

// streams counts and ends the SSE and WebSocket streams of one bridge.
type streams struct{}

// newStreams is called once by New, with defaults applied to cfg.
func newStreams(b *Bridge) (*streams, error) { panic("unwritten") }

// drain refuses new streams and ends those that are open, spread over
// DrainConfig.Spread, each with a jittered time to come back after. It returns
// when all have ended or ctx is done.
func (s *streams) drain(ctx context.Context, spread time.Duration) error { panic("unwritten") }

// close cuts what is left and waits for every goroutine of the streams.
func (s *streams) close(ctx context.Context) error { panic("unwritten") }

// SSE is the handler of Routes.SSE.
func (b *Bridge) SSE(c *fiber.Ctx) error { panic("unwritten") }

// WebSocket is the handler of Routes.WebSocket.
func (b *Bridge) WebSocket(c *fiber.Ctx) error { panic("unwritten") }
