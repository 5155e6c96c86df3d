package fiberbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// counts is a metrics sink.
type counts struct {
	mu sync.Mutex
	n  map[string]int64
}

func (c *counts) Add(m engine.Metric, delta int64, transport string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int64{}
	}
	c.n[string(m)+"/"+transport] += delta
}

func (c *counts) get(m engine.Metric, transport string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[string(m)+"/"+transport]
}

// empty waits until nothing of any stream is left.
func (h *streamHost) empty(t testing.TB) {
	t.Helper()
	await(t, "no place taken", func() bool { return h.streams() == 0 })
	await(t, "no socket open", func() bool { return h.bridge.streams.group.Len() == 0 })
	await(t, "no outlet open", func() bool { s := h.eng.Hub().Stats(); return s.Outlets == 0 && s.Subscriptions == 0 })
	await(t, "nothing due", func() bool {
		d := h.bridge.streams.deadlines
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.heap) == 0
	})
}

// A client that leaves, whichever way, frees everything at once.
func TestStreamDisconnects(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		metrics := new(counts)
		setup.metrics = metrics
		h := startHost(t, setup)
		run := h.task(t)
		for name, leave := range map[string]func(net.Conn){
			"close": func(c net.Conn) { c.Close() },
			"reset": func(c net.Conn) {
				if tcp, ok := c.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
				}
				c.Close()
			},
			"half close": func(c net.Conn) {
				if half, ok := c.(interface{ CloseWrite() error }); ok {
					_ = half.CloseWrite()
				} else {
					c.Close()
				}
			},
		} {
			sse := h.get(t, ssePath(run.Task().ID))
			sse.next(t)
			ws := h.get(t, wsPath, wsUpgrade...)
			if _, err := ws.conn.Write(maskedText(`{"action":"subscribe","taskId":"` + run.Task().ID + `"}`)); err != nil {
				t.Fatal(err)
			}
			await(t, "subscribed", func() bool { return h.eng.Hub().Stats().Subscriptions == 2 })
			if a, b := metrics.get(engine.MetricStreams, "sse"), metrics.get(engine.MetricStreams, "websocket"); a != 1 || b != 1 {
				t.Errorf("%s: metrics %d, %d", name, a, b)
			}
			leave(sse.conn)
			leave(ws.conn)
			h.empty(t)
		}
		if a, b := metrics.get(engine.MetricStreams, "sse"), metrics.get(engine.MetricStreams, "websocket"); a != 0 || b != 0 {
			t.Errorf("metrics %d, %d", a, b)
		}
	})
}

var wsUpgrade = []string{
	"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
}

// openDescriptors counts those of the process; where that cannot be, it is
// always none.
func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// 1,000 of each transport come and go, by all doors; goroutines and
// descriptors are what they were, and while they are there, too few goroutines
// to be one each.
func TestStreamThousandsComeAndGo(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 2,000 connections")
	}
	h := startHost(t, hostSetup{})
	run := h.task(t)
	warm := h.get(t, ssePath(run.Task().ID))
	warm.next(t)
	warm.conn.Close()
	h.empty(t)
	goroutinesBefore, fdsBefore := runtime.NumGoroutine(), openDescriptors(t)

	const each = 1000
	var conns []net.Conn
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range each / 8 {
				sse := h.get(t, ssePath(run.Task().ID))
				ws := h.get(t, wsPath, wsUpgrade...)
				_, _ = ws.conn.Write(maskedText(`{"action":"subscribe","taskId":"` + run.Task().ID + `"}`))
				mu.Lock()
				conns = append(conns, sse.conn, ws.conn)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	await(t, "all subscribed", func() bool { return h.eng.Hub().Stats().Subscriptions == 2*each })
	await(t, "few goroutines", func() bool { return runtime.NumGoroutine() < goroutinesBefore+each/2 })
	for i, c := range conns {
		if i%3 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
	}
	h.empty(t)
	await(t, "goroutines", func() bool { return runtime.NumGoroutine() <= goroutinesBefore+10 })
	await(t, "descriptors", func() bool { return openDescriptors(t) <= fdsBefore+10 })
}

// The place of a stream whose connection never comes is given back.
func TestStreamPlacesComeBack(t *testing.T) {
	var mode atomic.Value
	mode.Store("")
	h := startHost(t, hostSetup{before: []fiber.Handler{func(c *fiber.Ctx) error {
		if err := c.Next(); err != nil {
			return err
		}
		switch mode.Load() {
		case "error":
			return errors.New("after the stream was prepared")
		case "status":
			c.Status(fiber.StatusTeapot)
		case "body":
			return c.SendString("something else")
		case "timeout":
			c.Context().TimeoutError("too slow")
		}
		return nil
	}}})
	run := h.task(t)
	for _, tc := range []struct {
		mode   string
		status int
		body   string
	}{
		{"error", 500, "after the stream was prepared"},
		{"status", 418, ""},
		{"body", 200, "something else"},
		{"timeout", 408, "too slow"},
	} {
		mode.Store(tc.mode)
		for _, path := range []string{ssePath(run.Task().ID), wsPath} {
			var lines []string
			if path == wsPath {
				lines = wsUpgrade
			}
			c := h.get(t, path, lines...)
			if tc.mode == "body" && path == wsPath {
				// 101 and a body make no sense; what matters is that no stream begins.
				continue
			}
			if c.status != tc.status {
				t.Errorf("%s %s: %d", tc.mode, path, c.status)
			} else if got := c.all(t); got != tc.body {
				t.Errorf("%s %s: %q", tc.mode, path, got)
			}
		}
	}
	if n := h.streams(); n != 2 { // those of the timeouts: nobody tells
		t.Errorf("%d places are taken", n)
	}
	s := h.bridge.streams
	s.deadlines.mu.Lock()
	for i := range s.deadlines.heap {
		s.deadlines.heap[i].t.(*ticket).until = 1
		s.deadlines.heap[i].at = 1
	}
	s.deadlines.mu.Unlock()
	s.deadlines.wake <- struct{}{}
	h.empty(t)
	mode.Store("")
	h.get(t, ssePath(run.Task().ID)).next(t)
}

// A ticket ends once, whoever comes first.
func TestStreamTicketEndsOnce(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.Streams.Max = 100 }})
	s := h.bridge.streams
	for range 200 {
		place, err := s.reserve(&engine.AuthContext{Subject: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		st := &sseStream{}
		st.init(s, st, &engine.AuthContext{Subject: "alice"})
		var entered atomic.Bool
		var wg sync.WaitGroup
		wg.Go(place.cancel)
		wg.Go(func() { place.check(place.until, time.Now()) })
		wg.Go(func() { entered.Store(s.enter(place, st)) })
		wg.Wait()
		if entered.Load() {
			s.leave(st)
			s.leave(st)
		}
		if n := h.streams(); n != 0 {
			t.Fatalf("%d places are taken", n)
		}
	}
}

func TestStreamLimitCountsBothTransports(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.Streams.Max = 2 }})
	run := h.task(t)
	sse := h.get(t, ssePath(run.Task().ID))
	sse.next(t)
	ws := h.ws(t)
	if c := h.get(t, ssePath(run.Task().ID)); c.status != 429 {
		t.Errorf("third: %d", c.status)
	}
	sse.conn.Close()
	await(t, "place free", func() bool { return h.streams() == 1 && h.bridge.streams.group.Len() == 1 })
	h.get(t, ssePath(run.Task().ID)).next(t)
	_ = ws
}

// Draining tells every stream its own time to come back, refuses new ones, and
// returns when all have ended.
func TestStreamDrain(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		setup.shut = true
		inner := setup.bridge
		setup.bridge = func(c *Config) {
			if inner != nil {
				inner(c)
			}
			c.Drain = DrainConfig{NotReady: -1, Spread: 300 * time.Millisecond, RetryMin: 100 * time.Millisecond, RetryMax: 10 * time.Second}
		}
		h := startHost(t, setup)
		run := h.task(t)
		var sse []*sseClient
		var ws []*wsClient
		for range 5 {
			c := h.get(t, ssePath(run.Task().ID))
			c.next(t)
			w := h.ws(t)
			w.subscribe(t, run.Task().ID)
			w.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
			sse, ws = append(sse, c), append(ws, w)
		}
		down := make(chan error, 1)
		begin := time.Now()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			down <- h.bridge.Shutdown(ctx)
		}()
		times := map[string]bool{}
		for _, c := range sse {
			blocks, clean := c.rest(t)
			if clean || len(blocks) != 1 {
				t.Fatalf("clean %v: %+v", clean, blocks)
			}
			checkClosing(t, blocks[0], "server_draining")
			times[blocks[0].retry] = true
		}
		for _, w := range ws {
			m := w.expect(t, "HEARTBEAT", run.Task().ID)
			if m.Closing == nil || m.Closing.Reason != "server_draining" {
				t.Fatalf("%s", m.raw)
			}
			times[fmt.Sprint(m.Closing.RetryAfterMs)] = true
			w.closed(t, -1)
		}
		if len(times) < 5 {
			t.Errorf("times to come back are not spread: %v", times)
		}
		if d := time.Since(begin); d < 200*time.Millisecond {
			t.Errorf("all cut within %v", d)
		}
		if err := <-down; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if c := h.get(t, ssePath(run.Task().ID)); c.status != 503 || c.header.Get("Retry-After") == "" {
			t.Errorf("after the drain: %d", c.status)
		}
		c := h.get(t, ssePath(run.Task().ID), "Accept: text/event-stream")
		if blocks, clean := c.rest(t); clean || len(blocks) != 1 {
			t.Errorf("after the drain: %+v", blocks)
		} else {
			checkClosing(t, blocks[0], "server_draining")
		}
		h.ws(t).closed(t, 1013)
		h.empty(t)
	})
}

func TestStreamDrainWithCloseFrames(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.WebSocket.CloseFrames = true }, shut: true})
	run := h.task(t)
	w := h.ws(t)
	w.subscribe(t, run.Task().ID)
	w.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
	var down sync.WaitGroup
	down.Go(func() { h.shutdown(t, t.Context()) })
	w.expect(t, "HEARTBEAT", run.Task().ID)
	w.closed(t, 1012)
	down.Wait()
	h.empty(t)
}

// Streams that begin while the bridge drains end like the others, and nothing
// is left.
func TestStreamDrainInTheMiddleOfAStorm(t *testing.T) {
	h := startHost(t, hostSetup{shut: true})
	run := h.task(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if i%2 == 0 {
					c := h.get(t, ssePath(run.Task().ID), "Accept: text/event-stream")
					_, _ = c.rest(t)
				} else if w, _, err := h.wsDial(t); err == nil {
					_ = w.Write(w.ctx, 1, []byte(`{"action":"subscribe","taskId":"`+run.Task().ID+`"}`))
					_, _, _ = w.events(t)
				}
			}
		})
	}
	await(t, "streams", func() bool { return h.streams() >= 4 })
	h.shutdown(t, t.Context())
	close(stop)
	wg.Wait()
	h.empty(t)
}

// slowReaders is a host that keeps a subscriber that takes nothing for as long
// as said, with the log and ring of tests of slow readers.
func slowReaders(t *testing.T, portable bool, writeTimeout time.Duration) *streamHost {
	return startHost(t, hostSetup{
		bridge: func(c *Config) {
			c.Streams.DisableFastPath = portable
			c.Streams.WriteTimeout = writeTimeout
			c.SSE.Heartbeat = 200 * time.Millisecond
			c.WebSocket.Heartbeat = 200 * time.Millisecond
			c.WebSocket.PongTimeout = writeTimeout
		},
		store:   memstore.Config{MaxStreamLength: 10000, MaxStreamBytes: 64 << 20},
		deliver: fanout.Config{RingBytes: 1 << 20},
	})
}

// A reader that stops reading costs no one else and gets everything when it
// reads on, whatever others do that never do.
func TestStreamSlowReader(t *testing.T) {
	t.Parallel()
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable=%v", portable), func(t *testing.T) {
			t.Parallel()
			h := slowReaders(t, portable, patience)
			run := h.task(t)
			slow := h.get(t, ssePath(run.Task().ID))
			dead := h.get(t, ssePath(run.Task().ID))
			quick := h.get(t, ssePath(run.Task().ID))
			var wg sync.WaitGroup
			var got []string
			var clean bool
			wg.Go(func() {
				var blocks []sseBlock
				blocks, clean = quick.rest(t)
				got = eventIDs(blocks)
			})
			overflow(t, run)
			wg.Wait()
			want := h.ids(t, run.Task().ID)
			if !clean || !slices.Equal(got, want) {
				t.Errorf("the quick reader got %d of %d, clean %v", len(got), len(want), clean)
			}
			blocks, clean := slow.rest(t)
			if got := eventIDs(blocks); !clean || !slices.Equal(got, want) {
				t.Errorf("the slow reader got %d of %d, clean %v", len(got), len(want), clean)
			}
			dead.conn.Close()
			h.empty(t)
		})
	}
}

// overflow stores more than any socket holds, and the end.
func overflow(t *testing.T, run *engine.Run) {
	t.Helper()
	text := strings.Repeat("x", 10000)
	for range 1500 {
		if err := run.Emit(t.Context(), engine.Message{Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	complete(t, run)
}

// A reader that never reads on is cut.
func TestStreamDeadReader(t *testing.T) {
	t.Parallel()
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable=%v", portable), func(t *testing.T) {
			t.Parallel()
			h := slowReaders(t, portable, time.Second)
			run := h.task(t)
			dead := h.get(t, ssePath(run.Task().ID))
			silent := h.get(t, wsPath, wsUpgrade...)
			if _, err := silent.conn.Write(maskedText(`{"action":"subscribe","taskId":"` + run.Task().ID + `"}`)); err != nil {
				t.Fatal(err)
			}
			await(t, "subscribed", func() bool { return h.eng.Hub().Stats().Subscriptions == 2 })
			overflow(t, run)
			h.empty(t)
			if rest, err := io.ReadAll(dead.raw); err == nil && strings.HasSuffix(string(rest), "0\r\n\r\n") {
				t.Error("the reader that never read has a whole stream")
			}
			if rest, err := io.ReadAll(silent.raw); err == nil && strings.HasSuffix(string(rest), "\x88\x02\x03\xe8") {
				t.Error("the WebSocket that never read was closed as if it had")
			}
		})
	}
}

// A panic in the hand-over is not the process's end, and frees the place.
func TestStreamHandoverPanic(t *testing.T) {
	h := startHost(t, hostSetup{})
	h.log.allowed.Store(true)
	run := h.task(t)
	s := h.bridge.streams
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Get("/", func(c *fiber.Ctx) error {
		place, err := s.reserve(&engine.AuthContext{Subject: "alice"})
		if err != nil {
			return err
		}
		s.takeOver(c, func(*handover) { panic("boom") }, place.cancel)
		return nil
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = conn.SetDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
		t.Errorf("%q %v", rest, err)
	}
	h.empty(t)
	_ = app.Shutdown()
	<-served
	h.get(t, ssePath(run.Task().ID)).next(t)
}

// Bytes that came with the upgrade are not lost.
func TestStreamFramesBehindTheHandshake(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		h := startHost(t, setup)
		run := h.task(t)
		complete(t, run)
		conn := h.connect(t)
		req := "GET " + wsPath + "?access_token=alice HTTP/1.1\r\nHost: x\r\n" + strings.Join(wsUpgrade, "\r\n") + "\r\n\r\n" +
			string(maskedText(`{"action":"subscribe","taskId":"`+run.Task().ID+`"}`))
		for i := 0; i < len(req); i += 101 {
			if _, err := io.WriteString(conn, req[i:min(i+101, len(req))]); err != nil {
				t.Fatal(err)
			}
		}
		c := readHead(t, conn, "HTTP/1.1")
		if c.status != 101 {
			t.Fatalf("%d", c.status)
		}
		all := untilClose(t, c.raw)
		if !strings.Contains(all, "SUBSCRIPTION_CONFIRMED") || !strings.Contains(all, "TASK_COMPLETED") {
			t.Errorf("%q", all)
		}
	})
}

// The sweeper looks at everything when the wall clock jumps.
func TestStreamDeadlinesOrder(t *testing.T) {
	d := newDeadlines()
	defer d.close()
	var mu sync.Mutex
	var order []int
	add := func(i int, at instant) *testTimed {
		x := &testTimed{f: func() { mu.Lock(); order = append(order, i); mu.Unlock() }}
		d.set(x, at)
		return x
	}
	now := d.now()
	at := func(ms int) instant { return now + instant(time.Duration(ms)*time.Millisecond) }
	add(3, at(60))
	dropped := add(9, at(40))
	add(1, at(20))
	late := add(2, at(3600_000))
	d.set(late, at(30))
	d.set(late, at(50_000)) // later than what is set: no change
	d.drop(dropped)
	d.set(dropped, at(1))
	await(t, "three checks", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 3 })
	if !slices.Equal(order, []int{1, 2, 3}) {
		t.Errorf("order %v", order)
	}
	// An expiry by the wall clock that was far away and, after a jump, is not.
	jumped := make(chan struct{})
	x := &testTimed{f: func() { close(jumped) }}
	d.set(x, d.now()+instant(time.Hour))
	d.due(d.all(d.now()), time.Now())
	<-jumped
}

type testTimed struct {
	slot deadline
	f    func()
}

func (x *testTimed) deadline() *deadline { return &x.slot }
func (x *testTimed) check(instant, time.Time) instant {
	x.f()
	return 0
}
