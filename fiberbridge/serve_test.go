package fiberbridge_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// serve runs Serve on a free port until stop is called; ended gives its result.
func (h *httpHost) serve(t *testing.T) (base string, stop func(), ended <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.bridge.Serve(ctx, h.app, ln) }()
	t.Cleanup(stop)
	return "http://" + ln.Addr().String() + h.prefix, stop, done
}

func within[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(enough):
		t.Fatal("nothing came")
	}
	return v
}

// An open stream is told to come back and cut, the app ends, the address is
// free again, and nothing is an error.
func TestServeDrains(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, nil)
	base, stop, ended := h.serve(t)
	id := h.create(t, "stall", "")
	resp, err := http.DefaultClient.Do(newRequest("GET", base+"/tasks/"+id+"/events/stream", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stop()
	body, err := io.ReadAll(resp.Body)
	if err == nil || !strings.Contains(string(body), "server_draining") {
		t.Errorf("%v after %s", err, body)
	}
	// The drain still waits for the task.
	if _, err := h.engine.Cancel(t.Context(), engine.AuthContext{Subject: "alice"}, id, ""); err != nil {
		t.Error(err)
	}
	if err := within(t, ended); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
}

// A client that never finishes its request takes the drain's time and no more;
// the caller is told.
func TestServeOutOfTime(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, func(o *hostOptions) { o.bridge.Drain.Timeout = 200 * time.Millisecond })
	base, stop, ended := h.serve(t)
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// An answer, so that the server has the connection, then half a request.
	if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost:"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	stop()
	if err := within(t, ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// A signal may come before anything is served.
func TestServeIsToldToStopAtOnce(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	ended := make(chan error, 1)
	go func() { ended <- h.bridge.Serve(ctx, h.app, ln) }()
	if err := within(t, ended); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
}

// brokenListener accepts nobody.
type brokenListener struct{ net.Listener }

var errBroken = errors.New("accept: it is broken")

func (brokenListener) Accept() (net.Conn, error) { return nil, errBroken }

// When serving ends by itself the tasks are still seen to.
func TestServeEndsByItself(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.bridge.Serve(t.Context(), h.app, brokenListener{ln}) }()
	if err := within(t, ended); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "serving ended") {
		t.Errorf("%v", err)
	}
	if r := h.do(t, "GET", "/tasks/aaaaaaaaaaaaaaaa", ""); r.status != 503 {
		t.Errorf("after the drain: %v", r)
	}

	h = newHTTPHost(t, nil)
	base, _, over := h.serve(t)
	eventually(t, func() bool {
		resp, err := http.DefaultClient.Do(newRequest("GET", base+"/tasks/aaaaaaaaaaaaaaaa", ""))
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return true
	})
	if err := h.app.ShutdownWithTimeout(enough); err != nil {
		t.Fatal(err)
	}
	if err := within(t, over); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("%v", err)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	if err := h.bridge.Listen(t.Context(), h.app, addr); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("%v", err)
	}
	if r := h.do(t, "GET", "/tasks/aaaaaaaaaaaaaaaa", ""); r.status != 404 {
		t.Errorf("an address that is taken has drained the bridge: %v", r)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- h.bridge.Listen(ctx, h.app, addr) }()
	eventually(t, func() bool {
		resp, err := http.DefaultClient.Do(newRequest("GET", "http://"+addr+"/health", ""))
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	stop()
	if err := within(t, ended); err != nil {
		t.Error(err)
	}
}

// What cannot be served is said, and the listener is not left open.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, nil)
	if err := h.bridge.Listen(t.Context(), nil, "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "nil") {
		t.Errorf("%v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.bridge.Serve(t.Context(), fiber.New(fiber.Config{Prefork: true}), ln); err == nil || !strings.Contains(err.Error(), "Prefork") {
		t.Errorf("%v", err)
	}
	if err := ln.Close(); err == nil {
		t.Error("the listener was left open")
	}
	cfg := fiberbridge.Config{Engine: h.engine, Auth: authFromToken, Drain: fiberbridge.DrainConfig{Timeout: 10}}
	if _, err := fiberbridge.New(cfg); err == nil || !strings.Contains(err.Error(), "Drain.Timeout") {
		t.Errorf("%v", err)
	}
}
