package fiberbridge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// readyLimit bounds the probes of one /ready: whoever asks (a load balancer, a
// kubelet) gives up soon.
const readyLimit = 2 * time.Second

// readiness is the answer of /ready: "ok" or what is wrong, by dependency.
type readiness struct {
	Status  string            `json:"status"`
	Details map[string]string `json:"details"`
}

// Health is the handler of Routes.Health: 200 as long as the process answers.
func (b *Bridge) Health(c *fiber.Ctx) error {
	if err := unsettled(c); err != nil {
		return b.fail(c, err)
	}
	return b.sendBody(c, fiber.StatusOK, []byte(`{"status":"ok"}`))
}

// Ready is the handler of Routes.Ready: 200 if every dependency can serve and
// Shutdown has not begun, else 503. The details show the message of an
// *engine.Error; of any other error the log alone tells more than that the
// dependency is unavailable, since the route asks for no authentication.
func (b *Bridge) Ready(c *fiber.Ctx) error {
	if err := unsettled(c); err != nil {
		return b.fail(c, err)
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), readyLimit)
	defer cancel()
	body := readiness{Status: "ready", Details: map[string]string{}}
	status := fiber.StatusOK
	for name, err := range b.eng.Ready(ctx) {
		b.dependencies.tell(ctx, b.cfg.Logger, name, err)
		if err == nil {
			body.Details[name] = "ok"
			continue
		}
		status = fiber.StatusServiceUnavailable
		body.Details[name] = "unavailable"
		var e *engine.Error
		if errors.As(err, &e) && e.Message != "" {
			body.Details[name] = e.Message
		}
	}
	if b.notReady.Load() { // the engine itself says so only when it refuses
		status = fiber.StatusServiceUnavailable
		body.Details["engine"] = "shutting down"
	}
	if status != fiber.StatusOK {
		body.Status = "not_ready"
	}
	return b.sendJSON(c, status, body)
}

// dependencies is what the log has been told of what /ready depends on, so that
// it is told once for each change, however many ask.
type dependencies struct {
	mu   sync.Mutex
	down map[string]bool
}

func (d *dependencies) tell(ctx context.Context, log *slog.Logger, name string, err error) {
	if engine.CodeOf(err) == engine.CodeServerDraining {
		return // the host's own wish
	}
	d.mu.Lock()
	before := d.down[name]
	if d.down == nil {
		d.down = map[string]bool{}
	}
	d.down[name] = err != nil
	d.mu.Unlock()
	switch {
	case err != nil && !before:
		log.WarnContext(ctx, "not ready", slog.String("dependency", name), slog.Any("error", err))
	case err == nil && before:
		log.InfoContext(ctx, "ready again", slog.String("dependency", name))
	}
}
