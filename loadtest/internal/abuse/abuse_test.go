package abuse_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/taskbridge/taskbridge-fiber/loadtest/internal/abuse"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock for the Date header is never stopped, and the cleaner
		// of a server's worker pool looks up every ten seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// trusting is a server without any defence: it takes all that it gets, and stops
// reading bodies wherever it likes.
func trusting(t *testing.T) string {
	t.Helper()
	server := &fasthttp.Server{StreamRequestBody: true, Handler: func(c *fasthttp.RequestCtx) {
		switch {
		case strings.HasSuffix(string(c.Path()), "/events"):
			c.SetBodyString(`{"status":"COMPLETED","nextAfterEventId":"1-1"}`)
		case c.IsPost():
			c.SetStatusCode(fasthttp.StatusCreated)
			c.SetBodyString(`{"taskId":"a"}`)
		}
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.ShutdownWithContext(ctx)
		_ = ln.Close()
		<-served
	})
	return ln.Addr().String()
}

func play(t *testing.T, name, addr string, d time.Duration) *abuse.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	r, err := abuse.Find(name).Play(ctx, abuse.Options{Addr: addr, Base: "/api/v1", Subject: "mallory", Short: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An attack that succeeds is told of.
func TestWon(t *testing.T) {
	for _, name := range []string{"smuggling", "cross-origin"} {
		if r := play(t, name, trusting(t), 3*time.Second); len(r.Won) == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Each attack ends with its context, whatever the server does, and leaves no
// connection.
func TestAttacksEnd(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	addr := trusting(t)
	for _, a := range append(abuse.Attacks, abuse.Busy) {
		for server, addr := range map[string]string{"trusting": addr, "silent": silent.Addr().String(), "nobody": "127.0.0.1:1"} {
			t.Run(a.Name+"/"+server, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				began := time.Now()
				_, err := a.Play(ctx, abuse.Options{Addr: addr, Base: "/api/v1", Subject: "mallory", Short: true})
				t.Logf("%v after %v", err, time.Since(began).Round(time.Millisecond))
			})
		}
	}
}

func TestOnlyOnThisMachine(t *testing.T) {
	for _, addr := range []string{"192.0.2.1:80", "example.com:80", "localhost", "[2001:db8::1]:80", ""} {
		if _, err := abuse.Find("ready").Play(t.Context(), abuse.Options{Addr: addr}); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

func TestAnswersAreCounted(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1000))
			_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = conn.Close()
		}
	}()
	r := play(t, "ready", ln.Addr().String(), 300*time.Millisecond)
	_ = ln.Close()
	<-done
	if r.Answers[503] == 0 || r.Sent < r.Answers[503] || len(r.Won) > 0 {
		t.Errorf("%+v", r)
	}
}
