package fiberbridge_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
	"github.com/taskbridge/taskbridge-fiber/internal/smuggling"
)

// serve serves server on a loopback port until the test's end.
func serve(t *testing.T, server *fasthttp.Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		defer cancel()
		if err := errors.Join(server.ShutdownWithContext(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// Wherever the bridge is mounted, it finds the server that will serve it.
func TestMountFindsTheServer(t *testing.T) {
	ways := map[string]func(root *fiber.App, mount func(fiber.Router)){
		"app":            func(root *fiber.App, mount func(fiber.Router)) { mount(root) },
		"group":          func(root *fiber.App, mount func(fiber.Router)) { mount(root.Group("/a").Group("/b")) },
		"handler around": func(root *fiber.App, mount func(fiber.Router)) { mount(root); wrap(root) },
		"app on an app": func(root *fiber.App, mount func(fiber.Router)) {
			middle, sub := fiber.New(), fiber.New()
			mount(sub)
			middle.Mount("/s", sub)
			root.Mount("/m", middle)
		},
		"group on an app's group": func(root *fiber.App, mount func(fiber.Router)) {
			sub := fiber.New()
			mount(sub.Group("/x"))
			root.Group("/y").Mount("/s", sub)
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			var seen canaries
			h := newHTTPHost(t, nil)
			root := fiber.New(fiber.Config{StreamRequestBody: true, DisableStartupMessage: true})
			hostsRoutes(root, &seen)
			way(root, func(r fiber.Router) {
				if err := h.bridge.Mount(r); err != nil {
					t.Fatal(err)
				}
			})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- root.Listener(ln) }()
			for _, framing := range smuggling.Framings() {
				if _, err := oneAnswer(ln.Addr().String(), "POST", "/ignores", "", framing, "/canary"); err != nil {
					t.Error(framing.Name, err)
				}
			}
			if n := seen.of("/canary"); n > 0 {
				t.Errorf("%d smuggled requests", n)
			}
			if err := errors.Join(root.ShutdownWithTimeout(enough), <-done); err != nil {
				t.Error(err)
			}
		})
	}
}

// wrap puts something around the handler that forgets what the answer said of
// the connection.
func wrap(app *fiber.App) {
	next := app.Server().Handler
	app.Server().Handler = func(ctx *fasthttp.RequestCtx) {
		next(ctx)
		if string(ctx.Path()) == "/ignores" {
			ctx.Error("replaced", fasthttp.StatusTeapot)
		}
	}
}

// A server that nothing settles is noticed with the first body, and the log
// says what to do about it; then it is settled.
func TestUnsettledServerIsRefused(t *testing.T) {
	var seen canaries
	var log lockedBuffer
	h := newHTTPHost(t, func(o *hostOptions) {
		o.fiber = streaming
		o.before = func(app *fiber.App) { hostsRoutes(app, &seen) }
		o.bridge.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	own := &fasthttp.Server{Handler: h.app.Handler(), StreamRequestBody: true, DisablePreParseMultipartForm: true}
	addr := serve(t, own)
	post := func(addr string) string {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(enough))
		const body = `{"clientRequestId":"r","taskType":"words"}`
		_, _ = fmt.Fprintf(conn, "POST %s/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", h.prefix, len(body), body)
		answer, err := finalAnswer(bufio.NewReader(conn), "POST")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(answer.StatusCode, answer.Close)
	}
	if got := post(addr); got != "500 true" || !strings.Contains(log.String(), "fiberbridge.SettleBodies(server)") {
		t.Errorf("%s, and the log says %s", got, log.String())
	}
	settled := &fasthttp.Server{Handler: h.app.Handler(), StreamRequestBody: true, DisablePreParseMultipartForm: true}
	fiberbridge.SettleBodies(settled)
	fiberbridge.SettleBodies(settled)
	addr = serve(t, settled)
	if got := post(addr); got != "201 false" {
		t.Error(got)
	}
	for _, framing := range smuggling.Framings() {
		if _, err := oneAnswer(addr, "POST", "/ignores", "", framing, "/canary"); err != nil {
			t.Error(framing.Name, err)
		}
	}
	if n := seen.of("/canary"); n > 0 {
		t.Errorf("%d smuggled requests", n)
	}
}

// A body is not waited for without end: whoever sends it slowly gets the answer
// and no further request.
func TestSettlingHasAnEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for seconds")
	}
	t.Parallel()
	var seen canaries
	h := newHTTPHost(t, func(o *hostOptions) {
		o.fiber = streaming
		o.fiber.BodyLimit = 100 << 10
		o.before = func(app *fiber.App) { hostsRoutes(app, &seen) }
	})
	base, _ := h.listen(t)
	addr := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)
	for name, c := range map[string]struct {
		head string
		slow bool
	}{
		"slow":             {head: "Content-Length: 50000\r\n", slow: true},
		"slow chunks":      {head: "Transfer-Encoding: chunked\r\n", slow: true},
		"too long":         {head: "Content-Length: 1000000\r\n"},
		"too long, chunks": {head: "Transfer-Encoding: chunked\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			began := time.Now()
			_ = conn.SetDeadline(began.Add(enough))
			sending := make(chan struct{})
			go func() {
				defer close(sending)
				_, _ = io.WriteString(conn, "POST /ignores HTTP/1.1\r\nHost: x\r\n"+c.head+"\r\n")
				chunk := strings.Repeat("x", 10_000)
				if strings.Contains(c.head, "chunked") {
					chunk = "2710\r\n" + chunk + "\r\n"
				}
				pause := time.Duration(0)
				if c.slow {
					pause = 1500 * time.Millisecond
				}
				for range 100 {
					if _, err := io.WriteString(conn, chunk); err != nil {
						return
					}
					time.Sleep(pause) // the client's own pace
				}
			}()
			answer, err := finalAnswer(bufio.NewReader(conn), "POST")
			// Too much of a body, which nobody waits for, may reset the connection.
			if err != nil && c.slow {
				t.Error(err)
			}
			if err == nil && (!answer.Close || answer.StatusCode != http.StatusOK) {
				t.Errorf("%d, closed %v", answer.StatusCode, answer.Close)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
			_ = conn.Close()
			<-sending
		})
	}
}

// A handler whose request has timed out reads no further: fasthttp has given
// its buffer to the next connection.
func TestTimedOutHandlerReadsNoFurther(t *testing.T) {
	t.Parallel()
	var over atomic.Int32
	h := newHTTPHost(t, func(o *hostOptions) {
		o.fiber = streaming
		o.before = func(app *fiber.App) {
			next := app.Server().Handler
			app.Server().Handler = fasthttp.TimeoutHandler(func(ctx *fasthttp.RequestCtx) {
				defer over.Add(1)
				next(ctx)
			}, 100*time.Millisecond, "late")
		}
	})
	base, client := h.listen(t)
	addr := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)
	const slow = 8
	for range slow {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(enough))
		_, _ = io.WriteString(conn, "POST "+h.prefix+"/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n"+
			"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 9000))
		answer, err := finalAnswer(bufio.NewReader(conn), "POST")
		if err != nil || answer.body != "late" || !answer.Close {
			t.Fatal(answer.Response, err)
		}
	}
	for end := time.Now().Add(5 * time.Second); over.Load() < slow; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d handlers have noticed", over.Load(), slow)
		}
	}
	for i := range 50 { // the buffers are in use again
		body := fmt.Sprintf(`{"clientRequestId":"r%d","taskType":"words","input":{"words":[%q]}}`, i, strings.Repeat("y", 20_000))
		if r := upload(t, client, base, bytes.NewReader([]byte(body)), "application/json"); r.status != 201 && r.status != 408 {
			t.Error(r)
		}
	}
}

// Where a host refuses to wait for a body, it may come all the same.
func TestRefusedExpectation(t *testing.T) {
	var seen canaries
	app := fiber.New()
	hostsRoutes(app, &seen)
	server := &fasthttp.Server{Handler: app.Handler(), ContinueHandler: func(*fasthttp.RequestHeader) bool { return false }}
	fiberbridge.SettleBodies(server)
	addr := serve(t, server)
	for _, framing := range smuggling.Framings() {
		if !strings.HasPrefix(framing.Name, "expect") {
			continue
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(enough))
		var whole bytes.Buffer
		_ = framing.Write(&whole, "POST", "/ignores", "", smuggling.Body("/canary"))
		head, body, _ := bytes.Cut(whole.Bytes(), []byte("\r\n\r\n"))
		_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", head)
		answer, err := finalAnswer(bufio.NewReader(conn), "POST")
		if err != nil || answer.StatusCode != fasthttp.StatusExpectationFailed || !answer.Close {
			t.Error(answer.Response, err)
		}
		_, _ = conn.Write(body)
		_, _ = io.Copy(io.Discard, conn)
	}
	if n := seen.of("/canary"); n > 0 {
		t.Errorf("%d smuggled requests", n)
	}
}
