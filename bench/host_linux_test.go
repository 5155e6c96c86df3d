package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sys/unix"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// host is a real app on a real socket.
type host struct {
	tb     testing.TB
	store  engine.Store
	eng    *engine.Engine
	addr   string
	tokens int

	mu       sync.Mutex
	accepted []int // a descriptor of each connection, beside the host's own
}

// startHost closes store at the end.
func startHost(tb testing.TB, store engine.Store, delivery fanout.Config) *host {
	tb.Helper()
	h := &host{tb: tb, store: store}
	logger := slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	h.eng, err = engine.New(engine.Config{
		Store: store, Ownership: engine.OwnerOnly(), Delivery: delivery, Logger: logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: h.eng, Logger: logger,
		Auth:  func(*fiber.Ctx) (engine.AuthContext, error) { return ann, nil },
		Drain: fiberbridge.DrainConfig{NotReady: -1, Spread: -1},
	})
	if err != nil {
		tb.Fatal(err)
	}
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true, StreamRequestBody: true, DisablePreParseMultipartForm: true,
	})
	if err := bridge.Mount(app.Group("/api/v1")); err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h.addr = listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- app.Listener(tap{listener, h}) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := bridge.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
		if err := app.ShutdownWithContext(ctx); err != nil {
			tb.Error(err)
		}
		if err := <-served; err != nil {
			tb.Error(err)
		}
		h.forget()
	})
	return h
}

// tap keeps a second descriptor of each connection that is accepted: the
// yardstick writes to the very sockets that the host writes to.
type tap struct {
	net.Listener
	h *host
}

func (t tap) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(t.h.keep)
	}
	return conn, err
}

// keep keeps a second descriptor. Whoever misses one that failed says so.
func (h *host) keep(own uintptr) {
	fd, err := unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accepted = append(h.accepted, fd)
}

// sockets are those of the connections accepted since the last forget.
func (h *host) sockets() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.accepted
}

func (h *host) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, fd := range h.accepted {
		_ = unix.Close(fd)
	}
	h.accepted = nil
}

// task creates one that nobody works on.
func (h *host) task() engine.Task {
	h.tb.Helper()
	task, err := createTask(h.tb, h.store)
	if err != nil {
		h.tb.Fatal(err)
	}
	return task
}

// append stores n events of a task at once, each with the marker in it.
func (h *host) append(ctx context.Context, taskID string, events []engine.Draft) {
	h.tokens++
	_, err := h.store.Append(ctx, engine.Append{TaskID: taskID, Token: strconv.Itoa(h.tokens), Events: events})
	if err != nil {
		h.tb.Fatal(err)
	}
}

// transport is how subscribers follow.
type transport string

const (
	overSSE       transport = "sse"
	overWebSocket transport = "websocket"
)

// hello opens a subscription to a task from its beginning.
func (v transport) hello(taskID string) hello {
	const authorized = "Host: bench\r\nAuthorization: Bearer ann\r\n"
	if v == overSSE {
		return hello{Request: fmt.Appendf(nil,
			"GET /api/v1/tasks/%s/events/stream HTTP/1.1\r\n%sAccept: text/event-stream\r\n\r\n", taskID, authorized)}
	}
	return hello{
		Request: []byte("GET /api/v1/tasks/ws HTTP/1.1\r\n" + authorized + "Connection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
		Frame: clientText(fmt.Appendf(nil, `{"action":"subscribe","taskId":%q}`, taskID)),
	}
}

// clientText is a short text frame with a mask of zeros (RFC 6455, 5.2).
func clientText(p []byte) []byte {
	return append([]byte{0x81, 0x80 | byte(len(p)), 0, 0, 0, 0}, p...)
}

// sample subscribes once, and returns the very bytes that the host writes to a
// subscriber when events are appended.
func (h *host) sample(v transport, taskID string, events []engine.Draft) []byte {
	h.tb.Helper()
	conn, err := net.Dial("tcp4", h.addr)
	if err != nil {
		h.tb.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		h.tb.Fatal(err)
	}
	hello := v.hello(taskID)
	if _, err := conn.Write(append(hello.Request, hello.Frame...)); err != nil {
		h.tb.Fatal(err)
	}
	h.append(h.tb.Context(), taskID, messages(1))
	h.read(conn, 1) // it is subscribed
	h.append(h.tb.Context(), taskID, events)
	return h.read(conn, len(events))
}

// read reads so many events, and whatever comes with them.
func (h *host) read(conn net.Conn, events int) []byte {
	h.tb.Helper()
	var got []byte
	buf := make([]byte, 64<<10)
	for bytes.Count(got, []byte{marker}) < events || !complete(got) {
		n, err := conn.Read(buf)
		if err != nil {
			h.tb.Fatalf("%v after %q", err, got)
		}
		got = append(got, buf[:n]...)
	}
	return got
}

// complete: an SSE event ends with its chunk, a WebSocket's with the object.
func complete(p []byte) bool {
	return bytes.HasSuffix(p, []byte("\n\n\r\n")) || bytes.HasSuffix(p, []byte("}"))
}
