package fiberbridge_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	fiberws "github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// tally is a sink of metrics.
type tally struct {
	mu     sync.Mutex
	counts map[engine.Metric]int64
}

func (m *tally) Add(name engine.Metric, delta int64, _ string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts == nil {
		m.counts = map[engine.Metric]int64{}
	}
	m.counts[name] += delta
}

func (m *tally) of(name engine.Metric) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[name]
}

// certificate returns one that nobody trusts.
func certificate() tls.Certificate {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	return s.TLS.Certificates[0]
}

// Connections that do not wait for a request are not closed for others, however
// long nothing is read from them: streams on both paths, also under TLS, polls
// that wait, and WebSockets of the host's own.
func TestOnlyIdleConnectionsGiveWay(t *testing.T) {
	for name, c := range map[string]struct{ tls, portable bool }{
		"taken over": {}, "portable": {portable: true}, "TLS": {tls: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var counts tally
			const most = 8
			h := newHTTPHost(t, func(o *hostOptions) {
				o.engine.Metrics = &counts
				o.bridge.Connections.Max = most
				o.bridge.Streams.DisableFastPath = c.portable
				o.fiber.Concurrency = 4 * most
				o.before = func(app *fiber.App) {
					app.Get("/echo", fiberws.New(func(conn *fiberws.Conn) {
						for {
							kind, p, err := conn.ReadMessage()
							if err != nil || conn.WriteMessage(kind, p) != nil {
								return
							}
						}
					}))
				}
			})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr, scheme := ln.Addr().String(), "http"
			transport := &http.Transport{DisableKeepAlives: true}
			defer transport.CloseIdleConnections()
			ln = h.bridge.Listener(ln)
			if c.tls {
				scheme = "https"
				ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{certificate()}})
				transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- h.bridge.Serve(ctx, h.app, ln) }()
			client := &http.Client{Transport: transport, Timeout: enough}
			base := scheme + "://" + addr

			id := h.create(t, "stall", `{}`)
			req := newRequest("GET", base+h.prefix+"/tasks/"+id+"/events/stream", "")
			stream, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Body.Close()
			h.until(t, id, "RUNNING")
			last := *h.poll(t, id, "").NextAfterEventID
			polled := make(chan string, 1)
			go func() {
				resp, err := client.Do(newRequest("GET", base+h.prefix+"/tasks/"+id+"/events?waitTimeoutMs=15000&afterEventId="+last, ""))
				if err != nil {
					polled <- err.Error()
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				polled <- resp.Status + string(body)
			}()
			own, _, err := websocket.Dial(ctx, strings.Replace(base, "http", "ws", 1)+"/echo", &websocket.DialOptions{HTTPClient: client})
			if err != nil {
				t.Fatal(err)
			}
			defer own.CloseNow()

			var crowd []net.Conn
			for range 4 * most {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				crowd = append(crowd, conn)
			}
			eventually(t, func() bool { return counts.of(engine.MetricConnectionsClosed) > 2*most })
			for range 5 {
				resp, err := client.Get(base + "/health")
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			if n := counts.of(engine.MetricConnections); n > most {
				t.Errorf("%d connections", n)
			}
			if err := own.Write(ctx, websocket.MessageText, []byte("still here")); err != nil {
				t.Error(err)
			}
			if _, p, err := own.Read(ctx); err != nil || string(p) != "still here" {
				t.Errorf("the host's WebSocket: %q, %v", p, err)
			}
			if _, err := h.engine.Cancel(ctx, engine.AuthContext{Subject: "alice"}, id, ""); err != nil {
				t.Fatal(err)
			}
			if got := <-polled; !strings.HasPrefix(got, "200") || !strings.Contains(got, "TASK_CANCELLED") {
				t.Errorf("the poll: %s", got)
			}
			if body, err := io.ReadAll(stream.Body); err != nil || !strings.Contains(string(body), "TASK_CANCELLED") {
				t.Errorf("the stream: %s, %v", body, err)
			}
			own.CloseNow()
			for _, conn := range crowd {
				conn.Close()
			}
			eventually(t, func() bool { return counts.of(engine.MetricConnections) == 0 })
			stop()
			if err := within(t, ended); err != nil {
				t.Error(err)
			}
		})
	}
}

// fasthttp refuses whoever comes beyond its Concurrency, and counts idle
// connections: they give way before that, too.
func TestConcurrencyIsNotForIdleConnections(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, func(o *hostOptions) { o.fiber.Concurrency = 12; o.bridge.Drain.Timeout = 200 * time.Millisecond })
	base, stop, ended := h.serve(t)
	addr := strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix)
	for range 50 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: enough}
	for i := range 20 {
		resp, err := client.Get("http://" + addr + "/health")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Error(fmt.Sprint(i), resp.Status)
		}
	}
	stop()
	_ = within(t, ended) // the silent connections take the drain's time
}
