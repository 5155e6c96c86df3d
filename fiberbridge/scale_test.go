//go:build !race

package fiberbridge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// TestScaleOneTaskManySubscribers is the promise of the library in one test:
// 2,000 SSE and 2,000 WebSocket subscribers of one task of 2,000 events, and
// one more of each that stops reading in the middle. Every one must get every
// event in order; those that stopped must hold nobody up, and get the rest when
// they read on.
func TestScaleOneTaskManySubscribers(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	const perTransport, tokens = 2000, 2000
	const events = tokens + 2 // STARTED and COMPLETED

	begin := make(chan struct{})
	host := startScaleHost(t, func(ctx context.Context, run *engine.Run, _ struct{}) (map[string]int, error) {
		select {
		case <-begin:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		text := strings.Repeat("x", 200)
		// As fast as the log takes them: the ring holds what the slowest lacks.
		for range tokens {
			run.Stream(engine.Message{Text: text})
		}
		return map[string]int{"tokens": tokens}, nil
	})
	taskID := host.create(t, "tokens")

	var all sync.WaitGroup
	var failures atomic.Int64
	watch := func(follow func(pause chan struct{}) error, pause chan struct{}) {
		all.Go(func() {
			if err := follow(pause); err != nil && failures.Add(1) <= 5 {
				t.Error(err)
			}
		})
	}
	sse := func(pause chan struct{}) error { return host.followSSE(taskID, events, pause) }
	ws := func(pause chan struct{}) error { return host.followWebSocket(taskID, events, pause) }

	readOn := make(chan struct{})
	var stalled sync.WaitGroup
	for _, follow := range []func(chan struct{}) error{sse, ws} {
		stalled.Go(func() {
			if err := follow(readOn); err != nil {
				t.Errorf("subscriber that stopped reading: %v", err)
			}
		})
	}
	for range perTransport {
		watch(sse, nil)
		watch(ws, nil)
	}
	waitFor(t, enough, "all subscribers at their place", func() bool {
		return host.engine.Hub().Stats().Subscriptions == 2*perTransport+2
	})
	before := heapInUse()
	start := time.Now()
	close(begin)
	all.Wait()
	took := time.Since(start)
	if n := failures.Load(); n > 0 {
		t.Fatalf("%d of %d subscribers failed", n, 2*perTransport)
	}
	grown := heapInUse() - before
	t.Logf("%d deliveries in %v, %.0f/s, client in the same process; heap grew by %d KiB",
		2*perTransport*events, took.Round(time.Millisecond), float64(2*perTransport*events)/took.Seconds(), grown>>10)

	// What the two that stopped still lack is in the ring, once for everybody.
	if grown > 64<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}

	close(readOn)
	stalled.Wait()
	waitFor(t, enough, "all streams given back", func() bool {
		return host.engine.Hub().Stats().Outlets == 0
	})
}

// heapInUse is the heap after a collection, in bytes.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// waitFor polls cond until it holds.
func waitFor(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// scaleHost is a host on a loopback port with one task type, "tokens".
type scaleHost struct {
	addr   string
	engine *engine.Engine
}

func startScaleHost[In, Out any](t *testing.T, handler func(context.Context, *engine.Run, In) (Out, error)) *scaleHost {
	t.Helper()
	store, err := memstore.New(memstore.Config{MaxStreamLength: 5000})
	if err != nil {
		t.Fatal(err)
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("tokens", handler))
	if err != nil {
		t.Fatal(err)
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		t.Fatal(err)
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: eng,
		Auth: func(*fiber.Ctx) (engine.AuthContext, error) {
			return engine.AuthContext{Subject: "alice"}, nil
		},
		Drain: fiberbridge.DrainConfig{NotReady: -1, Spread: -1},
		// Who stopped reading does so for as long as the others take.
		Streams: fiberbridge.StreamsConfig{Max: 6000, WriteTimeout: enough},
	})
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	bridge.Mount(app.Group("/api/v1"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		defer cancel()
		if err := bridge.Shutdown(ctx); err != nil {
			t.Errorf("bridge: %v", err)
		}
		if err := app.ShutdownWithContext(ctx); err != nil {
			t.Errorf("app: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("listener: %v", err)
		}
	})
	return &scaleHost{addr: ln.Addr().String(), engine: eng}
}

func (h *scaleHost) create(t *testing.T, taskType string) string {
	t.Helper()
	body := `{"clientRequestId":"scale","taskType":"` + taskType + `"}`
	resp, err := http.Post("http://"+h.addr+"/api/v1/tasks", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var created struct {
		TaskID string `json:"taskId"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&created); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("create: %d, %v", resp.StatusCode, err)
	}
	return created.TaskID
}

// orderly checks that ordinals come as 1, 2, 3 …
type orderly struct{ seen uint64 }

func (o *orderly) take(id []byte) error {
	_, ord, ok := bytes.Cut(id, []byte("-"))
	n, err := strconv.ParseUint(string(ord), 10, 64)
	if !ok || err != nil {
		return fmt.Errorf("event id %q", id)
	}
	if n != o.seen+1 {
		return fmt.Errorf("event %d after %d", n, o.seen)
	}
	o.seen = n
	return nil
}

// followSSE reads the task's stream to its end and checks it. With pause it
// reads no further than the head of the answer until pause is closed.
func (h *scaleHost) followSSE(taskID string, events uint64, pause chan struct{}) error {
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /api/v1/tasks/%s/events/stream HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", taskID, h.addr)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("sse: %s", resp.Status)
	}
	if pause != nil {
		<-pause
	}
	// ReadResponse has put its own chunked reader on the body; a bare one
	// over the same buffer tells a cut from the end just as well.
	lines := bufio.NewScanner(httputil.NewChunkedReader(br))
	var order orderly
	for lines.Scan() {
		if id, ok := bytes.CutPrefix(lines.Bytes(), []byte("id: ")); ok {
			if err := order.take(id); err != nil {
				return fmt.Errorf("sse: %w", err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("sse: cut after %d events: %w", order.seen, err)
	}
	if order.seen != events {
		return fmt.Errorf("sse: %d events of %d", order.seen, events)
	}
	return nil
}

// followWebSocket is followSSE by WebSocket. With pause it reads no further
// than the confirmation until pause is closed.
func (h *scaleHost) followWebSocket(taskID string, events uint64, pause chan struct{}) error {
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /api/v1/tasks/ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", h.addr)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("websocket: %s", resp.Status)
	}
	subscribe := `{"action":"subscribe","taskId":"` + taskID + `"}`
	// A masked text frame; the mask is zero, which leaves the text as it is.
	frame := append([]byte{0x81, 0x80 | byte(len(subscribe)), 0, 0, 0, 0}, subscribe...)
	if _, err := conn.Write(frame); err != nil {
		return err
	}
	var order orderly
	var buf []byte
	key := []byte(`"eventId":"`)
	for {
		var opcode byte
		opcode, buf, err = readServerFrame(br, buf)
		if err != nil {
			return fmt.Errorf("websocket: cut after %d events: %w", order.seen, err)
		}
		switch {
		case opcode == 0x8:
			if code := binary.BigEndian.Uint16(buf); code != 1000 || order.seen != events {
				return fmt.Errorf("websocket: close %d after %d events of %d", code, order.seen, events)
			}
			return nil
		case opcode != 0x1:
		case bytes.HasPrefix(buf, []byte(`{"type":"SUBSCRIPTION_CONFIRMED"`)):
			if pause != nil {
				<-pause
			}
		default:
			_, rest, ok := bytes.Cut(buf, key)
			if !ok {
				continue // a heartbeat
			}
			id, _, _ := bytes.Cut(rest, []byte(`"`))
			if err := order.take(id); err != nil {
				return fmt.Errorf("websocket: %w", err)
			}
		}
	}
}

// readServerFrame reads one unfragmented, unmasked frame into buf.
func readServerFrame(br *bufio.Reader, buf []byte) (opcode byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(br, head[:2]); err != nil {
		return 0, nil, err
	}
	if head[0]&0x80 == 0 || head[1]&0x80 != 0 {
		return 0, nil, errors.New("a fragment or a masked frame from the server")
	}
	n := uint64(head[1])
	switch n {
	case 126:
		_, err = io.ReadFull(br, head[2:4])
		n = uint64(binary.BigEndian.Uint16(head[2:4]))
	case 127:
		_, err = io.ReadFull(br, head[2:10])
		n = binary.BigEndian.Uint64(head[2:10])
	}
	if err != nil || n > 1<<20 {
		return 0, nil, fmt.Errorf("frame of %d bytes: %w", n, err)
	}
	if uint64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err = io.ReadFull(br, buf)
	return head[0] & 0x0f, buf, err
}
