package fiberbridge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A host that keeps header names as clients write them loses nothing: names
// are compared without regard to case (RFC 9110, section 5.1).
func TestHeaderNamesOfAnyCase(t *testing.T) {
	for _, disable := range []bool{false, true} {
		h := startHost(t, hostSetup{
			app: fiber.Config{DisableHeaderNormalizing: disable},
			bridge: func(c *Config) {
				c.Auth = func(*fiber.Ctx) (engine.AuthContext, error) {
					return engine.AuthContext{Subject: "alice"}, nil
				}
			},
		})
		run := h.task(t)
		emit(t, run, 3)
		ids := h.ids(t, run.Task().ID)
		for name, spell := range map[string]func(string) string{
			"as usual": func(s string) string { return s }, "lower": strings.ToLower, "upper": strings.ToUpper,
		} {
			t.Run(fmt.Sprintf("disable=%v/%s", disable, name), func(t *testing.T) {
				line := func(name, value string) string { return spell(name) + ": " + value }

				c := h.get(t, ssePath(run.Task().ID), line("Last-Event-ID", ids[0]), line("Accept", "text/event-stream"))
				if ev := c.event(t); ev.id != ids[1] {
					t.Errorf("after %s came %s", ids[0], ev.id)
				}
				if c := h.get(t, ssePath(run.Task().ID), line("Accept", "text/html")); c.status != 406 {
					t.Errorf("Accept: %d", c.status)
				}
				if c := h.get(t, ssePath(run.Task().ID), line("Last-Event-ID", ids[0]), line("Last-Event-ID", ids[1])); c.status != 400 {
					t.Errorf("two cursors: %d", c.status)
				}

				handshake := []string{
					line("Connection", "keep-alive, Upgrade"), line("Upgrade", "websocket"),
					line("Sec-WebSocket-Version", "13"), line("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
				}
				c = h.get(t, wsPath, handshake...)
				if c.status != 101 || c.header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
					t.Errorf("%d %v", c.status, c.header)
				}
				if c := h.get(t, wsPath, append(handshake, line("Origin", "https://evil.example"))...); c.status != 403 {
					t.Errorf("Origin: %d", c.status)
				}

				post := func(lines ...string) int {
					return h.do(t, "POST", "/api/v1/tasks", "HTTP/1.1", append(lines, line("Content-Length", "0"))...).status
				}
				if got := post(line("Content-Type", "application/json"), line("Content-Encoding", "gzip")); got != 400 {
					t.Errorf("gzip: %d", got)
				}
				// An empty body is no JSON, which is found out only behind the Content-Type.
				c = h.do(t, "POST", "/api/v1/tasks", "HTTP/1.1", line("Content-Type", "application/json"), line("Content-Length", "0"))
				if text := c.all(t); c.status != 400 || strings.Contains(text, "Content-Type") {
					t.Errorf("Content-Type: %s", text)
				}
			})
		}
	}
}
