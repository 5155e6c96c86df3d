package fiberbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// A panic in the host's code is one subscription's failure.
func TestWSPanicInASubscribe(t *testing.T) {
	var panics atomic.Bool
	own := engine.OwnerOnly()
	h := startHost(t, hostSetup{owners: engine.OwnershipFunc(
		func(ctx context.Context, auth engine.AuthContext, access engine.Access, task engine.Task) error {
			if panics.Load() {
				panic("the host's")
			}
			return own.Allow(ctx, auth, access, task)
		})})
	h.log.allowed.Store(true)
	run := h.task(t)
	follower := h.ws(t)
	follower.subscribe(t, run.Task().ID)
	follower.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
	panics.Store(true)
	c := h.ws(t)
	c.subscribe(t, run.Task().ID)
	c.closed(t, 1011)
	follower.subscribe(t, run.Task().ID)
	if m := follower.expect(t, "SUBSCRIPTION_REJECTED", run.Task().ID); m.Code != "INTERNAL_ERROR" || strings.Contains(m.Message, "host") {
		t.Errorf("%s", m)
	}
	panics.Store(false)
	complete(t, run)
	if ids, _, code := follower.events(t); len(ids) != 1 || code != 1000 {
		t.Errorf("%v %d", ids, code)
	}
	h.empty(t)
}

// Credentials that expire while a subscribe still waits for a slow store end
// the socket at their time; what comes of the subscribe is nobody's.
func TestWSExpiryDuringASlowSubscribe(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	h := startHost(t, hostSetup{wrap: func(s engine.Store) engine.Store { return &hangingStore{Store: s, release: release} }})
	run := h.task(t)
	expires := time.Now().Add(intime.For(t, time.Second, func() { startHost(t, hostSetup{}).followed(t) }))
	c := h.ws(t, fmt.Sprintf("Authorization: Bearer alice;exp=%d", expires.UnixMilli()))
	c.subscribe(t, run.Task().ID)
	c.closed(t, 3000)
	soon(t, expires)
	close(release)
	h.empty(t)
}

// A socket of many tasks hears of their ends while it goes on asking, and
// nothing is kept for when it stops.
func TestWSEndsAreToldInBetween(t *testing.T) {
	h := startHost(t, hostSetup{})
	over, open := h.task(t), h.task(t)
	complete(t, over)
	last := h.ids(t, over.Task().ID)[0]
	c := h.ws(t)
	c.subscribe(t, open.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", open.Task().ID)
	const rounds = 100
	go func() { // always some that wait
		for range rounds {
			c.subscribe(t, over.Task().ID, last)
		}
	}()
	for range rounds {
		c.expect(t, "SUBSCRIPTION_CONFIRMED", over.Task().ID)
		if m := c.expect(t, "SUBSCRIPTION_ENDED", over.Task().ID); m.Reason != "terminal" {
			t.Errorf("%s", m)
		}
	}
}

// Frames that wait are bounded in bytes, too.
func TestWSQueueIsBounded(t *testing.T) {
	release := make(chan struct{})
	h := startHost(t, hostSetup{wrap: func(s engine.Store) engine.Store { return &hangingStore{Store: s, release: release} }})
	c := h.ws(t)
	c.subscribe(t, h.task(t).Task().ID)
	long := strings.Repeat("x", 4000)
	tasks := make([]string, 100)
	for i := range tasks {
		tasks[i] = long
	}
	sent := c.burst(tasks)
	await(t, "no more is read", func() bool { q := h.queueOf(); return q != nil && q.bytes >= maxQueuedBytes })
	if q := h.queueOf(); q.bytes > 3*maxQueuedBytes {
		t.Errorf("%d bytes wait", q.bytes)
	}
	close(release)
	if m := c.next(t); m.Type != "SUBSCRIPTION_CONFIRMED" {
		t.Errorf("%s", m)
	}
	for range tasks {
		c.expect(t, "SUBSCRIPTION_REJECTED", long)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// slowHost has a log that is trimmed, and a ring too small to make up for it.
func slowHost(t *testing.T, portable bool) *streamHost {
	return startHost(t, hostSetup{
		bridge: func(c *Config) {
			c.Streams.DisableFastPath = portable
			c.Streams.WriteTimeout = 20 * time.Second
		},
		store:   memstore.Config{MaxStreamLength: 50},
		deliver: fanout.Config{RingBytes: 64 << 10, FlushBytes: 16 << 10, Linger: -1},
	})
}

// checkGapped holds what a reader got, with the gaps before each event, against
// a log whose last event is last: in order, and no hole without notices that
// name its ends; several if the log was trimmed again before the next event.
func checkGapped(t *testing.T, got []string, gaps map[int][][2]string, last string) {
	t.Helper()
	ordinal := func(id string) (n int) {
		if _, err := fmt.Sscanf(id[strings.IndexByte(id, '-')+1:], "%d", &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := ""
	for i, id := range got {
		gap, announced := gaps[i]
		hole := i == 0 && ordinal(id) != 1 || i > 0 && ordinal(id) != ordinal(before)+1
		if hole != announced {
			t.Errorf("from %q to %q: announced %v", before, id, announced)
		}
		if announced && (gap[0][0] != before || gap[len(gap)-1][1] != id) {
			t.Errorf("from %q to %q: announced as %q", before, id, gap)
		}
		before = id
	}
	if before != last {
		t.Errorf("the end is %q, want %q", before, last)
	}
	if len(gaps) == 0 {
		t.Error("there was no gap: the reader was not slow enough")
	}
}

// outrun emits until a reader that does not read has lost something.
func outrun(t *testing.T, h *streamHost, run *engine.Run) {
	t.Helper()
	text := strings.Repeat("x", 30_000)
	for range 400 { // 12 MB: more than any socket takes
		if err := run.Emit(t.Context(), engine.Message{Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	complete(t, run)
}

// gapOf is the gap in a notice's data.
func gapOf(t *testing.T, data string) [2]string {
	t.Helper()
	var notice struct {
		Payload struct {
			Gap struct{ Reason, AfterEventID, FirstEventID string }
		}
	}
	if err := json.Unmarshal([]byte(data), &notice); err != nil || notice.Payload.Gap.Reason != "trimmed" {
		t.Fatalf("%s: %v", data, err)
	}
	return [2]string{notice.Payload.Gap.AfterEventID, notice.Payload.Gap.FirstEventID}
}

// A log that is trimmed under a slow reader: the hole is announced where it is,
// on both transports, and what is left comes whole.
func TestStreamTrimmedUnderASlowReader(t *testing.T) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("sse/portable=%v", portable), func(t *testing.T) {
			h := slowHost(t, portable)
			run := h.task(t)
			c := h.get(t, ssePath(run.Task().ID))
			outrun(t, h, run)
			want := h.ids(t, run.Task().ID)
			blocks, clean := c.rest(t)
			var got []string
			gaps := map[int][][2]string{}
			for _, b := range blocks {
				switch {
				case b.id != "":
					got = append(got, b.id)
				case b.event == "gap":
					gaps[len(got)] = append(gaps[len(got)], gapOf(t, b.data))
				}
			}
			if !clean {
				t.Error("the end is a cut")
			}
			checkGapped(t, got, gaps, want[len(want)-1])
			c.conn.Close()
			h.empty(t)
		})
		t.Run(fmt.Sprintf("websocket/portable=%v", portable), func(t *testing.T) {
			h := slowHost(t, portable)
			run := h.task(t)
			c := h.ws(t)
			c.SetReadLimit(1 << 20)
			c.subscribe(t, run.Task().ID)
			await(t, "subscribed", func() bool { return h.eng.Hub().Stats().Subscriptions == 1 })
			outrun(t, h, run)
			want := h.ids(t, run.Task().ID)
			var got []string
			gaps := map[int][][2]string{}
			for {
				m, err := c.read()
				if err != nil {
					if !strings.Contains(err.Error(), "StatusNormalClosure") {
						t.Error(err)
					}
					break
				}
				switch {
				case m.EventID != "":
					got = append(got, m.EventID)
				case m.Gap != nil:
					if m.Gap.Reason != "trimmed" || m.Gap.FirstEventID == nil {
						t.Fatalf("%s", m)
					}
					after := ""
					if m.Gap.AfterEventID != nil {
						after = *m.Gap.AfterEventID
					}
					gaps[len(got)] = append(gaps[len(got)], [2]string{after, *m.Gap.FirstEventID})
				}
			}
			checkGapped(t, got, gaps, want[len(want)-1])
			h.empty(t)
		})
	}
}

// A WebSocket that stops reading, for longer than a pong may take, holds nobody
// up and gets everything when it reads on, whatever others do that never do.
func TestWSSlowReader(t *testing.T) {
	t.Parallel()
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable=%v", portable), func(t *testing.T) {
			t.Parallel()
			const pong, heartbeat = 2 * time.Second, 200 * time.Millisecond
			h := startHost(t, hostSetup{
				bridge: func(c *Config) {
					c.Streams.DisableFastPath = portable
					c.Streams.WriteTimeout = patience
					c.WebSocket.Heartbeat = heartbeat
					c.WebSocket.PongTimeout = pong
				},
				store:   memstore.Config{MaxStreamLength: 10_000, MaxStreamBytes: 64 << 20},
				deliver: fanout.Config{RingBytes: 1 << 20},
			})
			run := h.task(t)
			join := func() *wsClient {
				c := h.ws(t)
				c.SetReadLimit(1 << 20)
				c.subscribe(t, run.Task().ID)
				c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
				return c
			}
			slow, quick := join(), join()
			dead := h.get(t, wsPath, wsUpgrade...)
			if _, err := dead.conn.Write(maskedText(`{"action":"subscribe","taskId":"` + run.Task().ID + `"}`)); err != nil {
				t.Fatal(err)
			}
			await(t, "subscribed", func() bool { return h.eng.Hub().Stats().Subscriptions == 3 })
			var wg sync.WaitGroup
			var got []string
			var code int
			wg.Go(func() { got, _, code = quick.events(t) })
			stalled := time.Now()
			text := strings.Repeat("x", 30_000)
			for range 60 {
				if err := run.Emit(t.Context(), engine.Message{Text: text}); err != nil {
					t.Fatal(err)
				}
			}
			complete(t, run)
			wg.Wait()
			await(t, "a while without a pong", func() bool { return time.Since(stalled) > pong+2*heartbeat })
			want := h.ids(t, run.Task().ID)
			if code != 1000 || !slices.Equal(got, want) {
				t.Errorf("the quick reader got %d of %d, code %d", len(got), len(want), code)
			}
			if got, _, code := slow.events(t); code != 1000 || !slices.Equal(got, want) {
				t.Errorf("the slow reader got %d of %d, code %d", len(got), len(want), code)
			}
			dead.conn.Close()
			h.empty(t)
		})
	}
}

// The hub closes under streams that are open, being opened and being ended.
func TestStreamHubClosesUnderThem(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		setup.shut = true
		h := startHost(t, setup)
		run := h.task(t)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		requests := []string{
			"GET " + ssePath(run.Task().ID) + "?access_token=alice HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n",
			"GET " + wsPath + "?access_token=alice HTTP/1.1\r\nHost: " + h.addr + "\r\n" + strings.Join(wsUpgrade, "\r\n") + "\r\n\r\n" +
				string(maskedText(`{"action":"subscribe","taskId":"`+run.Task().ID+`"}`)),
		}
		for i := range 6 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					conn, err := h.dial()
					if err != nil {
						t.Error(err)
						return
					}
					_ = conn.SetDeadline(time.Now().Add(patience))
					_, _ = io.WriteString(conn, requests[i%2])
					if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("a stream without a hub stays open")
					}
					conn.Close()
				}
			})
		}
		await(t, "streams", func() bool { return h.streams() >= 3 })
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.eng.Hub().Close(ctx); err != nil {
			t.Error(err)
		}
		close(stop)
		wg.Wait()
		h.empty(t)
		h.log.allowed.Store(true) // the engine finds its hub closed
		h.bridge.cfg.Drain.NotReady = -1
		_ = h.bridge.Shutdown(ctx)
	})
}

// Peers leave by every way in every state, all at once; each place comes back.
func TestStreamLeavesAtEveryStage(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		setup.store = memstore.Config{MaxStreamBytes: 64 << 20}
		h := startHost(t, setup)
		run, over := h.task(t), h.task(t)
		complete(t, over)
		for range 40 {
			if err := run.Emit(t.Context(), engine.Message{Text: strings.Repeat("x", 30_000)}); err != nil {
				t.Fatal(err)
			}
		}
		upgrade := "GET " + wsPath + "?access_token=alice HTTP/1.1\r\nHost: " + h.addr + "\r\n" + strings.Join(wsUpgrade, "\r\n") + "\r\n\r\n"
		follow := string(maskedText(`{"action":"subscribe","taskId":"` + run.Task().ID + `"}`))
		stages := []struct {
			wire  string
			reads int // bytes before it leaves
		}{
			{"GET " + ssePath(run.Task().ID) + " HTTP", 0},
			{"GET " + ssePath(run.Task().ID) + "?access_token=alice HTTP/1.1\r\nHost: x\r\n\r\n", 0},
			{"GET " + ssePath(run.Task().ID) + "?access_token=alice HTTP/1.1\r\nHost: x\r\n\r\n", 100},
			{"GET " + ssePath(run.Task().ID) + "?access_token=alice HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", 50_000},
			{upgrade, 0},
			{upgrade, 20},
			{upgrade + follow[:9], 20},
			{upgrade + follow, 0},
			{upgrade + follow, 200},
			{upgrade + follow, 50_000},
			{upgrade + strings.ReplaceAll(follow, run.Task().ID, over.Task().ID), 300}, // its close frame is out
			{upgrade + follow + string(maskedFrame(0x88, "\x03\xe8")), 0},
			{upgrade + string(maskedText("x")), 20},
			{upgrade + string(maskedText("x")), 200},
		}
		ways := []func(net.Conn){
			func(c net.Conn) { c.Close() },
			func(c net.Conn) {
				if tcp, ok := c.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
				}
				c.Close()
			},
			func(c net.Conn) {
				if half, ok := c.(interface{ CloseWrite() error }); ok {
					_ = half.CloseWrite()
					_, _ = io.Copy(io.Discard, c)
				}
				c.Close()
			},
		}
		var wg sync.WaitGroup
		for _, s := range stages {
			for _, leave := range ways {
				for range 3 {
					wg.Go(func() {
						conn := h.connect(t)
						_, _ = io.WriteString(conn, s.wire)
						_, _ = io.CopyN(io.Discard, conn, int64(s.reads))
						leave(conn)
					})
				}
			}
		}
		wg.Wait()
		h.empty(t)
	})
}
