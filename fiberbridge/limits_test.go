package fiberbridge

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gofiber/fiber/v2"
)

// One subject's streams are bounded, whatever the transport, and others are not
// touched by it.
func TestStreamsPerSubject(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{bridge: func(c *Config) { c.Streams.MaxPerSubject = 2 }})
		h := n.there
		task := n.here.task(t).Task().ID
		sse := h.get(t, ssePath(task))
		sse.next(t)
		ws := h.ws(t)
		ws.subscribe(t, task)
		ws.expect(t, "SUBSCRIPTION_CONFIRMED", task)

		refused := h.get(t, ssePath(task))
		if refused.status != 429 || refused.header.Get("Retry-After") == "" || !strings.Contains(refused.all(t), "TOO_MANY_STREAMS") {
			t.Errorf("a plain client: %d", refused.status)
		}
		c := h.get(t, ssePath(task), "Accept: text/event-stream")
		if c.status != 200 {
			t.Errorf("an EventSource: %d", c.status)
		}
		c.wantClosing(t, "server_draining")
		h.ws(t).closed(t, 1013)

		// bob may not follow alice's, but he gets that far.
		if c := h.get(t, ssePath(task), bearer("bob")); c.status != 404 {
			t.Errorf("bob: %d", c.status)
		}
		h.ws(t, bearer("bob")).mustRefuse(t, task)

		// Nobody was put out for it, and a place that is given back is free.
		ws.subscribe(t, task)
		ws.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		sse.conn.Close()
		await(t, "a place is free", func() bool { return h.streams() == 1 })
		h.get(t, ssePath(task)).next(t)
	})
}

// A task's subscribers are bounded. Whoever has no access cannot tell.
func TestSubscribersPerTask(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{bridge: func(c *Config) { c.Streams.MaxPerTask = 2 }})
		h := n.there
		a, b := n.here.task(t), n.here.task(t)
		task, other := a.Task().ID, b.Task().ID
		sse := h.get(t, ssePath(task))
		sse.next(t)
		ws := h.ws(t)
		for range 3 { // the same again is one
			ws.subscribe(t, task)
			ws.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		}
		if c := h.get(t, ssePath(task)); c.status != 429 {
			t.Errorf("one too many: %d", c.status)
		}
		first := h.ws(t)
		first.subscribe(t, task)
		first.closed(t, 1013)
		later := h.ws(t)
		later.subscribe(t, other)
		later.expect(t, "SUBSCRIPTION_CONFIRMED", other)
		later.subscribe(t, task)
		if m := later.expect(t, "SUBSCRIPTION_REJECTED", task); m.Code != "TOO_MANY_STREAMS" {
			t.Errorf("%s", m)
		}
		if c := h.get(t, ssePath(task), bearer("bob")); c.status != 404 {
			t.Errorf("bob: %d", c.status)
		}
		// Each way to leave gives the place back.
		ws.send(t, `{"action":"unsubscribe","taskId":"`+task+`"}`)
		ws.expect(t, "SUBSCRIPTION_ENDED", task)
		later.subscribe(t, task)
		later.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		later.CloseNow()
		await(t, "the socket's places are free", func() bool { return h.placesOf(task) == 1 && h.placesOf(other) == 0 })
		sse.conn.Close()
		await(t, "the stream's place is free", func() bool { return h.placesOf(task) == 0 })
		last := h.ws(t)
		last.subscribe(t, task)
		last.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		complete(t, a)
		last.events(t)
		await(t, "the end gives it back", func() bool { return h.placesOf(task) == 0 })
	})
}

func (h *streamHost) placesOf(task string) int {
	h.bridge.streams.mu.Lock()
	defer h.bridge.streams.mu.Unlock()
	return h.bridge.streams.perTask[task]
}

// Polls are bounded by subject, whether they wait or not.
func TestPollsPerSubject(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{bridge: func(c *Config) { c.Streams.MaxPollsPerSubject = 1 }})
		h := n.there
		run := n.here.task(t)
		task := run.Task().ID
		first := h.waiting(t, task, "alice")
		if c := h.get(t, pollPath(task)); c.status != 429 || c.header.Get("Retry-After") == "" {
			t.Errorf("the second: %d", c.status)
		}
		if c := h.get(t, "/api/v1/tasks/"+task+"/events"); c.status != 429 {
			t.Errorf("one that does not wait: %d", c.status)
		}
		if c := h.get(t, "/api/v1/tasks/"+task+"/events", bearer("bob")); c.status != 404 {
			t.Errorf("another subject: %d", c.status)
		}
		emit(t, run, 1)
		if c := answer(t, first); c.status != 200 {
			t.Errorf("the first: %d", c.status)
		}
		await(t, "its place is free", func() bool { return h.pollsWaiting() == 0 })
		complete(t, run)
		if n := len(h.bridge.streams.subjects); n != 0 {
			t.Errorf("%d subjects are remembered", n)
		}
	})
}

// A burst of several hundred frames harms nothing that was asked before.
func TestWSBurstBeyondTheRate(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{bridge: func(c *Config) { c.WebSocket.FramesPerSecond = 100 }})
		h := n.there
		run := n.here.task(t)
		task := run.Task().ID
		c := h.ws(t)
		c.subscribe(t, task)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		const burst = 300
		for range burst {
			c.subscribe(t, task)
		}
		confirmed, refused := 0, 0
		for confirmed+refused < burst {
			switch m := c.next(t); {
			case m.Type == "SUBSCRIPTION_CONFIRMED":
				confirmed++
			case m.Type == "SUBSCRIPTION_REJECTED" && m.Code == "RATE_LIMITED" && m.TaskID == task:
				refused++
			default:
				t.Fatalf("%s", m)
			}
		}
		if confirmed < 64 || refused == 0 {
			t.Errorf("%d confirmed, %d refused", confirmed, refused)
		}
		emit(t, run, 1)
		c.expect(t, "TASK_MESSAGE", task)
		// At its pace it goes on.
		await(t, "a frame is worked on again", func() bool {
			c.subscribe(t, task)
			for {
				if m := c.next(t); m.Type != "TASK_MESSAGE" {
					return m.Type == "SUBSCRIPTION_CONFIRMED"
				}
			}
		})
	})
}

// Sockets that never subscribe make room for one another, and never for one
// that is served; others are served as if they were not there.
func TestSilentSockets(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{bridge: func(c *Config) { c.Streams.Max, c.WebSocket.MaxIdle = 300, 10 }})
		h := n.there
		run := n.here.task(t)
		task := run.Task().ID
		served := h.ws(t, bearer("sub=alice&sid=mallory"))
		served.subscribe(t, task)
		served.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		waiting := h.ws(t, bearer("patient")) // of another subject, and the oldest of all

		var silent []*wsClient
		for i := range 200 {
			silent = append(silent, h.ws(t, bearer("mallory")))
			if i%20 == 0 {
				c := h.ws(t)
				c.subscribe(t, task)
				c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
				c.Close(websocket.StatusNormalClosure, "")
			}
		}
		for _, c := range silent[:150] {
			c.closed(t, 1013)
		}
		await(t, "places are free", func() bool { return h.streams() <= 12 })
		waiting.mustRefuse(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") // it was still there
		emit(t, run, 1)
		served.expect(t, "TASK_MESSAGE", task)
		for _, c := range silent {
			c.CloseNow()
		}
		await(t, "all have left", func() bool { return h.streams() == 1 })
		s := h.bridge.streams
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.idle != 0 || len(s.idleSubjects) != 0 || len(s.subjects) != 1 {
			t.Errorf("%d silent sockets, %d subjects are remembered", s.idle, len(s.subjects))
		}
	})
}

func TestBucket(t *testing.T) {
	var b bucket
	at := func(d time.Duration) instant { return instant(d) }
	for i := range 5 {
		if !b.take(at(time.Second), 2, 5) {
			t.Fatalf("token %d of a full bucket", i)
		}
	}
	if b.take(at(time.Second), 2, 5) {
		t.Error("an empty bucket gave a token")
	}
	if !b.take(at(1500*time.Millisecond), 2, 5) || b.take(at(1600*time.Millisecond), 2, 5) {
		t.Error("half a second makes one token")
	}
	for i := range 6 {
		if got, want := b.take(at(time.Hour), 2, 5), i < 5; got != want {
			t.Errorf("token %d of a bucket that is full again: %v", i, got)
		}
	}
}

// What a host's error repeats of the credentials does not get into the log.
func TestWithoutCredentials(t *testing.T) {
	for _, c := range []struct{ header, cookie, query, text, want string }{
		{"Bearer abc.def-123456", "", "", `cannot parse "abc.def-123456": bad`, `cannot parse "abc.[redacted]": bad`},
		{"Bearer sécrèt-tøken", "", "", "no sécrèt-tøken here", "no [redacted] here"},
		{"", "session=0123456789; a=b", "", "session 0123456789 is unknown", "[redacted] [redacted] is unknown"},
		{"", "", "access_token=p%40ssword", "p@ssword and p%40ssword", "p@[redacted] and p%[redacted]"},
		{"Basic dXNlcjpwYXNz", "", "", "basic auth: dXNlcjpwYXNz", "basic auth: [redacted]"},
		{"opaquetoken", "", "", "opaquetoken expired", "[redacted] expired"},
		{"", "", "", "nothing to hide", "nothing to hide"},
		{"Bearer x", "", "", "signature is invalid", "signature is invalid"},
	} {
		if got := redact(t, c.header, c.cookie, c.query, c.text); got != c.want {
			t.Errorf("%q with %q %q %q became %q, want %q", c.text, c.header, c.cookie, c.query, got, c.want)
		}
	}
}

// Credentials come in other headers, too.
func TestWithoutCredentialsOfOtherHeaders(t *testing.T) {
	const text = "no such token: s3cr3t-t0ken"
	for header, want := range map[string]string{
		"X-Api-Key":              "no such token: [redacted]",
		"x-service-token":        "no such token: [redacted]",
		"Sec-WebSocket-Protocol": "no such token: [redacted]",
		"Proxy-Authorization":    "no such token: [redacted]",
		"User-Agent":             text,
	} {
		app := fiber.New(fiber.Config{DisableStartupMessage: true})
		app.Get("/", func(c *fiber.Ctx) error { return c.SendString(withoutCredentials(c, text)) })
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set(header, "x1, s3cr3t-t0ken")
		res, err := app.Test(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if _ = res.Body.Close(); err != nil || string(got) != want {
			t.Errorf("with %s: %q, %v, want %q", header, got, err, want)
		}
	}
}

func redact(t *testing.T, header, cookie, query, text string) (got string) {
	t.Helper()
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Get("/", func(c *fiber.Ctx) error {
		got = withoutCredentials(c, text)
		return nil
	})
	req := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
	for name, value := range map[string]string{"Authorization": header, "Cookie": cookie} {
		req.Header.Del(name)
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if _, err := app.Test(req); err != nil {
		t.Fatal(err)
	}
	return got
}
