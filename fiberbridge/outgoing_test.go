package fiberbridge

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// stalled sends n requests at once on a connection of its own and reads nothing.
func (h *streamHost) stalled(t *testing.T, subject, path string, n int) net.Conn {
	t.Helper()
	conn := h.connect(t)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + h.addr + "\r\n" + bearer(subject) + "\r\n\r\n"
	go func() { _, _ = io.WriteString(conn, strings.Repeat(request, n)) }()
	return conn
}

func (h *streamHost) unread() int64 {
	h.bridge.streams.mu.Lock()
	defer h.bridge.streams.mu.Unlock()
	return h.bridge.streams.unread.held
}

// largeLog is a task with some 8 MiB of events, largeSnapshot one with as much
// that was asked for.
func largeLog(t *testing.T, h *streamHost) string {
	run := h.task(t)
	for range 40 {
		if err := run.Emit(t.Context(), engine.Message{Text: strings.Repeat("x", 200<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	return run.Task().ID
}

func largeSnapshot(t *testing.T, h *streamHost) string {
	run := h.task(t)
	for i := range 20 {
		err := run.Emit(t.Context(), engine.Suspended{
			SuspendID: fmt.Sprint("s", i), Kind: engine.UserActionRequired, ReasonCode: "r", AllowedActions: []string{"a"},
			Interaction: []byte(`{"x":"` + strings.Repeat("x", 200<<10) + `"}`),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return run.Task().ID
}

// Large answers that nobody reads are bounded, by subject and in all; small ones
// are served meanwhile, and a connection that dies gives back what it held.
func TestAnswersThatNobodyReads(t *testing.T) {
	const perSubject, inAll = 6 << 20, 24 << 20
	for _, kind := range []struct {
		name string
		task func(*testing.T, *streamHost) string
		path string
		size int64 // of one answer
	}{
		{"poll", largeLog, "/events?maxEvents=500", 1 << 20},
		{"snapshot", largeSnapshot, "", 4 << 20},
	} {
		for _, over := range []string{"tcp", "tls"} {
			t.Run(kind.name+" over "+over, func(t *testing.T) {
				h := startHost(t, hostSetup{over: over, bridge: func(c *Config) {
					c.Answers = AnswersConfig{MaxBytesPerSubject: perSubject, MaxBytes: inAll, WriteTimeout: patience}
				}})
				path := "/api/v1/tasks/" + kind.task(t, h) + kind.path
				small := h.task(t).Task().ID
				var conns []net.Conn
				for range 30 {
					conns = append(conns, h.stalled(t, "alice", path, 20))
				}
				await(t, "answers stall", func() bool {
					n := h.unread()
					if n > perSubject+kind.size {
						t.Fatalf("%d bytes of unread answers", n)
					}
					return n+kind.size > perSubject
				})
				c := h.get(t, path, "Connection: close")
				if c.status != 429 || c.header.Get("Retry-After") == "" || !strings.Contains(c.all(t), "RATE_LIMITED") {
					t.Errorf("a further one: %d, %v", c.status, c.header)
				}
				if c := h.get(t, "/api/v1/tasks/"+small+"/events", "Connection: close"); c.status != 200 {
					t.Errorf("a small poll: %d", c.status)
				}
				for _, conn := range conns {
					conn.Close()
				}
				await(t, "the dead give everything back", func() bool { return h.unread() == 0 && h.pollsWaiting() == 0 })
				if c := h.get(t, path, "Connection: close"); c.status != 200 || len(c.all(t)) < 1<<19 {
					t.Errorf("afterwards: %d", c.status)
				}
			})
		}
	}
}

// An answer that is not read in time goes, and its connection with it.
func TestAnswersThatStallGo(t *testing.T) {
	for _, over := range []string{"tcp", "tls"} {
		t.Run(over, func(t *testing.T) {
			h := startHost(t, hostSetup{over: over, bridge: func(c *Config) { c.Answers.WriteTimeout = time.Second }})
			path := "/api/v1/tasks/" + largeLog(t, h) + "/events?maxEvents=500"
			h.stalled(t, "alice", path, 100)
			await(t, "the answer stalls", func() bool { return h.unread() > 0 })
			await(t, "it is given up", func() bool {
				return h.unread() == 0 && h.pollsWaiting() == 0 && h.app.Server().GetOpenConnectionsCount() == 0
			})
		})
	}
}

// Some subjects that take all that they may leave room for others.
func TestUnreadAnswersOfOthers(t *testing.T) {
	h := startHost(t, hostSetup{
		owners: engine.OwnershipFunc(func(context.Context, engine.AuthContext, engine.Access, engine.Task) error { return nil }),
		bridge: func(c *Config) {
			c.Answers = AnswersConfig{MaxBytesPerSubject: 8 << 20, MaxBytes: 16 << 20, WriteTimeout: time.Minute}
		},
	})
	path := "/api/v1/tasks/" + largeLog(t, h) + "/events?maxEvents=500"
	var conns []net.Conn
	for i := range 40 {
		conns = append(conns, h.stalled(t, fmt.Sprint("mallory", i%4), path, 8))
	}
	await(t, "answers stall", func() bool { return h.unread() > 6<<20 })
	for range 5 {
		if c := h.get(t, path, bearer("honest"), "Connection: close"); c.status != 200 || len(c.all(t)) < 1<<19 {
			t.Fatalf("another subject: %d", c.status)
		}
	}
	for _, conn := range conns {
		conn.Close()
	}
	await(t, "the dead give everything back", func() bool { return h.unread() == 0 && h.pollsWaiting() == 0 })
}

// Answers of all kinds have a time to leave, and the deadline stays no longer
// than its answer: the host's next one on the connection is not bound by it.
func TestEveryAnswerHasATimeToLeave(t *testing.T) {
	h := startHost(t, hostSetup{
		store:  memstore.Config{},
		bridge: func(c *Config) { c.Answers.WriteTimeout, c.Routes.OpenAPI = 500*time.Millisecond, "/openapi.json" },
		routes: func(app *fiber.App, b *Bridge) {
			if err := b.MountHealth(app); err != nil {
				t.Error(err)
			}
			app.Get("/late", func(c *fiber.Ctx) error {
				time.Sleep(time.Second)
				return c.SendString("late")
			})
		},
	})
	task := h.task(t).Task().ID
	for name, path := range map[string]string{
		"openapi": "/api/v1/openapi.json", "health": "/health", "ready": "/ready", "refusal": "/api/v1/tasks/x/events",
		"poll": "/api/v1/tasks/" + task + "/events", "snapshot": "/api/v1/tasks/" + task,
	} {
		h.stalled(t, "alice", path, 150_000)
		await(t, name+": the connection stalls", func() bool { return h.app.Server().GetOpenConnectionsCount() > 0 })
		await(t, name+": the connection is closed", func() bool { return h.app.Server().GetOpenConnectionsCount() == 0 })
	}
	c := h.get(t, "/health")
	c.all(t)
	if _, err := io.WriteString(c.conn, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if late := readHead(t, c.conn, "HTTP/1.1"); late.status != 200 || late.all(t) != "late" {
		t.Errorf("the host's own answer: %d", late.status)
	}
}
