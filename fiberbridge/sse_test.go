package fiberbridge

import (
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// overEach runs a test on each kind of connection.
func overEach(t *testing.T, f func(t *testing.T, setup hostSetup)) {
	for _, over := range []string{"tcp", "tls", "memory"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			f(t, hostSetup{over: over})
		})
	}
	t.Run("portable", func(t *testing.T) {
		t.Parallel()
		f(t, hostSetup{bridge: func(c *Config) { c.Streams.DisableFastPath = true }})
	})
}

func TestSSEWholeTask(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		h := startHost(t, setup)
		run := h.task(t)
		emit(t, run, 2)
		c := h.get(t, ssePath(run.Task().ID))
		if c.status != 200 {
			t.Fatalf("status %d", c.status)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform",
			"X-Accel-Buffering": "no", "Connection": "close", "Transfer-Encoding": "chunked", "Content-Length": "",
		} {
			if got := strings.Join(c.header.Values(name), "|"); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		first := c.next(t)
		if first.retry != "2000" || len(first.comments) != 1 || first.data != "" || first.id != "" {
			t.Errorf("opening: %+v", first)
		}
		got := []string{c.event(t).id, c.event(t).id}
		await(t, "live", func() bool { return h.streams() == 1 })
		emit(t, run, 3)
		complete(t, run)
		blocks, clean := c.rest(t)
		if !clean {
			t.Error("the stream of a finished task was cut")
		}
		got = append(got, eventIDs(blocks)...)
		if want := h.ids(t, run.Task().ID); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for _, b := range blocks {
			var ev struct{ EventID, TaskID string }
			if err := json.Unmarshal([]byte(b.data), &ev); err != nil || ev.EventID != b.id || ev.TaskID != run.Task().ID || b.event != "" {
				t.Errorf("block %+v: %v", b, err)
			}
		}
		await(t, "place free", func() bool { return h.streams() == 0 })
	})
}

// Replay from every position is the suffix, exactly, and a cursor at the end
// is 204.
func TestSSEReplayFromEverywhere(t *testing.T) {
	h := startHost(t, hostSetup{})
	run := h.task(t)
	emit(t, run, 6)
	complete(t, run)
	want := h.ids(t, run.Task().ID)
	for i := 0; i <= len(want); i++ {
		cursor := ""
		if i > 0 {
			cursor = want[i-1]
		}
		for _, how := range []struct{ query, header string }{
			{"?lastEventId=" + cursor, "X-None: 1"},
			{"", "Last-Event-ID: " + cursor},
			{"?lastEventId=" + cursor, "Last-Event-ID:"},
			{"?lastEventId=garbage", "Last-Event-ID: " + cursor},
		} {
			if i == 0 && strings.Contains(how.query, "garbage") {
				continue
			}
			c := h.get(t, ssePath(run.Task().ID)+how.query, how.header)
			if i == len(want) {
				if c.status != 204 {
					t.Errorf("cursor at the end: %d", c.status)
				}
				continue
			}
			blocks, clean := c.rest(t)
			if got := eventIDs(blocks); !clean || !slices.Equal(got, want[i:]) {
				t.Errorf("after %q by %v: %v, clean %v", cursor, how, got, clean)
			}
		}
	}
}

func TestSSERefusals(t *testing.T) {
	h := startHost(t, hostSetup{})
	run := h.task(t)
	path := ssePath(run.Task().ID)
	const es = "Accept: text/event-stream"
	for _, tc := range []struct {
		name, path string
		lines      []string
		status     int
		code       string
	}{
		{"no auth", path, []string{"Authorization: ", es}, 401, "AUTHENTICATION_ERROR"},
		{"expired", path, []string{"Authorization: Bearer alice;exp=1000", es}, 401, "AUTHENTICATION_ERROR"},
		{"auth before cursor", path + "?lastEventId=x", []string{"Authorization: "}, 401, "AUTHENTICATION_ERROR"},
		{"bad cursor", path + "?lastEventId=x", []string{es}, 400, "INVALID_REQUEST"},
		{"bad header", path, []string{"Last-Event-ID: 1-2-3", es}, 400, "INVALID_REQUEST"},
		{"two in the query", path + "?lastEventId=1-1&lastEventId=1-1", []string{es}, 400, "INVALID_REQUEST"},
		{"two headers", path, []string{"Last-Event-ID: 1-1", "Last-Event-ID: 1-1", es}, 400, "INVALID_REQUEST"},
		{"cursor before accept", path + "?lastEventId=x", []string{"Accept: text/html"}, 400, "INVALID_REQUEST"},
		{"accept", path, []string{"Accept: application/json"}, 406, "INVALID_REQUEST"},
		{"accept before task", ssePath("0000000000000000"), []string{"Accept: application/json"}, 406, "INVALID_REQUEST"},
		{"unknown", ssePath("0000000000000000"), []string{es}, 404, "TASK_NOT_FOUND"},
		{"foreign", path, []string{"Authorization: Bearer bob", es}, 404, "TASK_NOT_FOUND"},
		{"passing, plain client", path, []string{"Authorization: Bearer unavailable"}, 503, "STORE_UNAVAILABLE"},
		{"passing, any", path, []string{"Authorization: Bearer unavailable", "Accept: */*"}, 503, "STORE_UNAVAILABLE"},
	} {
		c := h.get(t, tc.path, tc.lines...)
		var body struct {
			Code    string
			Message string
			Details *struct{}
		}
		text := c.all(t)
		if err := json.Unmarshal([]byte(text), &body); err != nil || c.status != tc.status || body.Code != tc.code ||
			body.Details == nil || !strings.HasPrefix(c.header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %d %s", tc.name, c.status, text)
		}
		if (c.status == 503) != (c.header.Get("Retry-After") != "") {
			t.Errorf("%s: Retry-After %q", tc.name, c.header.Get("Retry-After"))
		}
	}
	if n := h.streams(); n != 0 {
		t.Errorf("%d places are taken by refusals", n)
	}
}

// A passing refusal must not end an EventSource for good.
func TestSSEPassingRefusalToEventSource(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		inner := setup.bridge
		setup.bridge = func(c *Config) {
			if inner != nil {
				inner(c)
			}
			c.Streams.Max = 1
		}
		h := startHost(t, setup)
		run := h.task(t)
		path := ssePath(run.Task().ID)
		held := h.get(t, path)
		held.next(t)

		refused := h.get(t, path)
		if refused.status != 429 || !strings.Contains(refused.all(t), "TOO_MANY_STREAMS") || refused.header.Get("Retry-After") == "" {
			t.Errorf("plain client at the limit: %d", refused.status)
		}
		for _, auth := range []string{"alice", "unavailable"} {
			c := h.get(t, path, "Accept: text/event-stream", "Authorization: Bearer "+auth)
			if c.status != 200 || c.header.Get("Content-Type") != "text/event-stream" {
				t.Fatalf("%d %v", c.status, c.header)
			}
			blocks, clean := c.rest(t)
			if clean || len(blocks) != 1 || blocks[0].event != "closing" || blocks[0].retry == "" || blocks[0].id != "" {
				t.Errorf("clean %v, %+v", clean, blocks)
			}
			checkClosing(t, blocks[0], "server_draining")
		}
		// What lasts is said at the limit as well.
		over := h.task(t)
		complete(t, over)
		ids := h.ids(t, over.Task().ID)
		for _, c := range []struct {
			path, cursor string
			status       int
		}{
			{ssePath(strings.Repeat("a", 32)), "", 404},
			{ssePath(over.Task().ID), ids[len(ids)-1], 204},
		} {
			if got := h.get(t, c.path, "Accept: text/event-stream", "Last-Event-ID: "+c.cursor); got.status != c.status {
				t.Errorf("at the limit %d, want %d", got.status, c.status)
			}
		}
		held.conn.Close()
		await(t, "place free", func() bool { return h.streams() == 0 })
		h.get(t, path).next(t)
	})
}

func checkClosing(t testing.TB, b sseBlock, reason string) {
	t.Helper()
	var n struct {
		Type    string
		Payload struct {
			Live    bool
			Closing struct {
				Reason       string
				RetryAfterMs int
			}
		}
	}
	if err := json.Unmarshal([]byte(b.data), &n); err != nil {
		t.Fatalf("%q: %v", b.data, err)
	}
	if b.event != "closing" || n.Type != "HEARTBEAT" || !n.Payload.Live || n.Payload.Closing.Reason != reason ||
		b.retry != strconv.Itoa(n.Payload.Closing.RetryAfterMs) || n.Payload.Closing.RetryAfterMs < 1 {
		t.Errorf("closing notice: %+v", b)
	}
}

func TestSSEHead(t *testing.T) {
	h := startHost(t, hostSetup{})
	run := h.task(t)
	c := h.do(t, "HEAD", ssePath(run.Task().ID), "HTTP/1.1", "Accept: text/event-stream")
	if c.status != 200 || c.header.Get("Content-Type") != "text/event-stream" || c.header.Get("Content-Length") != "" {
		t.Errorf("%d %v", c.status, c.header)
	}
	// The connection is still good for another request.
	fmt.Fprintf(c.conn, "HEAD %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bob\r\n\r\n", ssePath(run.Task().ID))
	c.body = nil
	c2 := &sseClient{conn: c.conn, raw: c.raw}
	if line, err := c2.raw.ReadString('\n'); err != nil || !strings.Contains(line, "404") {
		t.Errorf("second request: %q %v", line, err)
	}
	if h.streams() != 0 {
		t.Error("HEAD took a place")
	}
}

func TestSSEHTTP10(t *testing.T) {
	for _, connection := range []string{"close", "keep-alive"} {
		h := startHost(t, hostSetup{})
		run := h.task(t)
		emit(t, run, 2)
		c := h.do(t, "GET", ssePath(run.Task().ID), "HTTP/1.0", "Connection: "+connection)
		if c.status != 200 || c.header.Get("Transfer-Encoding") != "" || c.header.Get("Content-Length") != "" ||
			!slices.Equal(c.header.Values("Connection"), []string{"close"}) {
			t.Errorf("%d %v", c.status, c.header)
		}
		c.event(t)
		complete(t, run)
		if blocks, _ := c.rest(t); len(eventIDs(blocks)) != 2 {
			t.Errorf("%+v", blocks)
		}
	}
}

// Servers that keep nothing alive, or count connections, hand over as well.
func TestSSEServerSettings(t *testing.T) {
	request := intime.For(t, time.Second, func() { // no more than it needs: the test waits for longer
		h := startHost(t, hostSetup{})
		h.get(t, ssePath(h.task(t).Task().ID)).next(t)
	})
	for name, change := range map[string]func(*fasthttp.Server){
		"default":            func(*fasthttp.Server) {},
		"DisableKeepalive":   func(s *fasthttp.Server) { s.DisableKeepalive = true },
		"MaxRequestsPerConn": func(s *fasthttp.Server) { s.MaxRequestsPerConn = 1 },
		"MaxConnsPerIP":      func(s *fasthttp.Server) { s.MaxConnsPerIP = 100 },
		"ReduceMemoryUsage":  func(s *fasthttp.Server) { s.ReduceMemoryUsage = true },
		"timeouts":           func(s *fasthttp.Server) { s.ReadTimeout, s.WriteTimeout = request, request },
		"KeepHijackedConns":  func(s *fasthttp.Server) { s.KeepHijackedConns = true },
		"no default response": func(s *fasthttp.Server) {
			s.NoDefaultContentType, s.NoDefaultDate, s.NoDefaultServerHeader = true, true, true
		},
	} {
		for _, portable := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s portable=%v", name, portable), func(t *testing.T) {
				h := startHost(t, hostSetup{
					server: func(app *fiber.App) { change(app.Server()) },
					bridge: func(c *Config) { c.Streams.DisableFastPath = portable },
				})
				run := h.task(t)
				defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would close what is forgotten
				before := openDescriptors(t)
				var clients []*sseClient
				for _, connection := range []string{"close", "keep-alive"} {
					c := h.get(t, ssePath(run.Task().ID), "Connection: "+connection)
					c.next(t)
					clients = append(clients, c)
				}
				w := h.ws(t)
				w.subscribe(t, run.Task().ID)
				w.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
				if name == "timeouts" { // longer than what bounds a request
					timer := time.NewTimer(request + request/2)
					<-timer.C
				}
				complete(t, run)
				for _, c := range clients {
					if blocks, clean := c.rest(t); !clean || len(eventIDs(blocks)) != 1 {
						t.Errorf("clean %v, %+v", clean, blocks)
					}
					c.conn.Close()
				}
				if ids, others, code := w.events(t); len(ids) != 1 || len(others) != 0 || code != 1000 {
					t.Errorf("%v %v %d", ids, others, code)
				}
				h.empty(t)
				await(t, "all descriptors closed", func() bool { return openDescriptors(t) <= before })
			})
		}
	}
}

func TestSSEHeartbeats(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		inner := setup.bridge
		setup.bridge = func(c *Config) {
			if inner != nil {
				inner(c)
			}
			c.SSE.Heartbeat = 30 * time.Millisecond
		}
		h := startHost(t, setup)
		run := h.task(t)
		c := h.get(t, ssePath(run.Task().ID))
		c.next(t)
		for range 3 {
			if b := c.next(t); len(b.comments) != 1 || b.comments[0] != "heartbeat" || b.data != "" {
				t.Fatalf("comment: %+v", b)
			}
			b := c.next(t)
			var beat struct {
				Type, TaskID, EventID, CreatedAt string
				Payload                          map[string]bool
			}
			if err := json.Unmarshal([]byte(b.data), &beat); err != nil {
				t.Fatal(err)
			}
			_, err := time.Parse(wireTime, beat.CreatedAt)
			if beat.Type != "HEARTBEAT" || beat.TaskID != run.Task().ID || !strings.HasPrefix(beat.EventID, "hb-") || err != nil ||
				len(beat.Payload) != 1 || !beat.Payload["live"] || b.id != "" || b.event != "" {
				t.Fatalf("heartbeat: %+v %v", b, err)
			}
		}
	})
}

// A log that was trimmed says so before the first event; one that is trimmed
// under a reader says so where the hole is.
func TestSSEGap(t *testing.T) {
	h := startHost(t, hostSetup{store: memstore.Config{MaxStreamLength: 5}})
	run := h.task(t)
	emit(t, run, 20)
	ids := h.ids(t, run.Task().ID)
	c := h.get(t, ssePath(run.Task().ID))
	b := c.named(t, "gap")
	if b.id != "" || !strings.Contains(b.data, `"gap":{"reason":"trimmed","afterEventId":null,"firstEventId":"`+ids[0]+`"}`) {
		t.Errorf("gap: %+v", b)
	}
	// Before the next is trimmed: that would be another gap.
	first := c.next(t)
	complete(t, run)
	blocks, clean := c.rest(t)
	if got, want := append([]string{first.id}, eventIDs(blocks)...), h.ids(t, run.Task().ID); !clean || len(got) != len(want)+1 || !slices.Equal(got[1:], want) {
		t.Errorf("after the gap: %v, want %v", got, want)
	}
}

func TestSSEAuthExpiry(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		h := startHost(t, setup)
		run := h.task(t)
		var expires time.Time
		var c *sseClient
		intime.Try(t, time.Second, func(life time.Duration) bool {
			expires = time.Now().Add(life)
			c = h.get(t, ssePath(run.Task().ID), fmt.Sprintf("Authorization: Bearer alice;exp=%d", expires.UnixMilli()))
			return c.status != 401 || time.Now().Before(expires)
		})
		blocks, clean := c.rest(t)
		if time.Since(expires) < -time.Millisecond {
			t.Errorf("ended %v before the expiry", time.Until(expires))
		}
		soon(t, expires)
		if clean || len(blocks) != 2 {
			t.Fatalf("clean %v: %+v", clean, blocks)
		}
		checkClosing(t, blocks[1], "auth_expired")
		await(t, "place free", func() bool { return h.streams() == 0 })
	})
}

func TestSSEMaxAge(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.Streams.MaxAge = 100 * time.Millisecond }})
	run := h.task(t)
	c := h.get(t, ssePath(run.Task().ID))
	blocks, clean := c.rest(t)
	if clean || len(blocks) != 2 {
		t.Fatalf("clean %v: %+v", clean, blocks)
	}
	checkClosing(t, blocks[1], "max_age")
}

// The bytes of a stream, exactly.
func TestSSEBytes(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.SSE.Retry = 1234 * time.Millisecond }})
	run := h.task(t)
	complete(t, run)
	c := h.get(t, ssePath(run.Task().ID))
	res, err := h.eng.Poll(t.Context(), engine.AuthContext{Subject: "alice"}, engine.PollRequest{TaskID: run.Task().ID})
	if err != nil {
		t.Fatal(err)
	}
	ev := res.Events[0]
	body, _ := ev.MarshalJSON()
	event := "id: " + ev.ID.String() + "\ndata: " + string(body) + "\n\n"
	const opening = "retry: 1234\n: connected\n"
	want := fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", len(opening), opening, len(event), event)
	got := make([]byte, 0, 4096)
	buf := make([]byte, 4096)
	for {
		n, err := c.raw.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			break
		}
	}
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
