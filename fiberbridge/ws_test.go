package fiberbridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

const wsPath = "/api/v1/tasks/ws"

// wsClient speaks through coder/websocket, which checks what it gets.
type wsClient struct {
	*websocket.Conn
	ctx context.Context
}

func (h *streamHost) ws(t testing.TB, header ...string) *wsClient {
	t.Helper()
	c, resp, err := h.wsDial(t, header...)
	if err != nil {
		t.Fatalf("upgrade: %v (%v)", err, resp)
	}
	return c
}

func (h *streamHost) wsDial(t testing.TB, header ...string) (*wsClient, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	head := http.Header{"Authorization": {"Bearer alice"}}
	for _, l := range header {
		name, value, _ := strings.Cut(l, ": ")
		head.Set(name, value)
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return h.dial() }}
	t.Cleanup(transport.CloseIdleConnections)
	conn, resp, err := websocket.Dial(ctx, "ws://"+h.addr+wsPath, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: head,
	})
	if err != nil {
		return nil, resp, err
	}
	t.Cleanup(func() { conn.CloseNow() })
	return &wsClient{conn, ctx}, resp, nil
}

// wsMessage is any message of the server.
type wsMessage struct {
	Type, TaskID, EventID, Code, Reason, Message string
	ReplayStartedAfterEventID                    *string
	Live                                         bool
	Gap                                          *struct {
		Reason                     string
		AfterEventID, FirstEventID *string
	}
	Closing *struct {
		Reason       string
		RetryAfterMs int
	}
	raw string
}

// String keeps what a failed test prints readable.
func (m wsMessage) String() string { return fmt.Sprintf("%.300s", m.raw) }

func (c *wsClient) send(t testing.TB, text string) {
	t.Helper()
	if err := c.Write(c.ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatalf("send: %v", err)
	}
}

func (c *wsClient) subscribe(t testing.TB, task string, cursor ...string) {
	t.Helper()
	text := `{"action":"subscribe","taskId":"` + task + `"}`
	if len(cursor) > 0 {
		text = `{"action":"subscribe","taskId":"` + task + `","lastEventId":"` + cursor[0] + `"}`
	}
	c.send(t, text)
}

func (c *wsClient) next(t testing.TB) wsMessage {
	t.Helper()
	m, err := c.read()
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return m
}

func (c *wsClient) read() (m wsMessage, err error) {
	typ, p, err := c.Read(c.ctx)
	if err != nil {
		return m, err
	}
	if typ != websocket.MessageText {
		return m, fmt.Errorf("message of type %v", typ)
	}
	m.raw = string(p)
	return m, json.Unmarshal(p, &m)
}

// expect reads one message of a type.
func (c *wsClient) expect(t testing.TB, typ, task string) wsMessage {
	t.Helper()
	m := c.next(t)
	if m.Type != typ || m.TaskID != task {
		t.Fatalf("got %s, want %s of %s", m, typ, task)
	}
	return m
}

// events reads to the end and returns the ids of events and the close code, -1
// for a cut.
func (c *wsClient) events(t testing.TB) (ids []string, others []wsMessage, code int) {
	t.Helper()
	for {
		m, err := c.read()
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("the socket stayed open")
			}
			return ids, others, int(websocket.CloseStatus(err))
		}
		if m.EventID != "" {
			ids = append(ids, m.EventID)
		} else {
			others = append(others, m)
		}
	}
}

// closed reads to the end and checks the close code.
func (c *wsClient) closed(t testing.TB, want int) {
	t.Helper()
	ids, others, code := c.events(t)
	if code != want || len(ids) > 0 {
		t.Errorf("closed with %d (want %d) after %v %v", code, want, ids, others)
	}
}

func TestWSWholeTask(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		h := startHost(t, setup)
		run := h.task(t)
		task := run.Task().ID
		emit(t, run, 2)
		c := h.ws(t)
		c.subscribe(t, task)
		m := c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		if !m.Live || m.Gap != nil || m.ReplayStartedAfterEventID != nil || !strings.Contains(m.raw, `"replayStartedAfterEventId":null`) {
			t.Errorf("confirmed: %s", m)
		}
		got := []string{c.next(t).EventID, c.next(t).EventID}
		emit(t, run, 2)
		complete(t, run)
		ids, others, code := c.events(t)
		if got = append(got, ids...); code != 1000 || len(others) != 0 || !slices.Equal(got, h.ids(t, task)) {
			t.Errorf("code %d, others %v, got %v", code, others, got)
		}
		await(t, "place free", func() bool { return h.streams() == 0 })
	})
}

func TestWSReplayFromEverywhere(t *testing.T) {
	h := startHost(t, hostSetup{})
	run := h.task(t)
	task := run.Task().ID
	emit(t, run, 5)
	complete(t, run)
	want := h.ids(t, task)
	for i := 0; i <= len(want); i++ {
		c := h.ws(t)
		cursor := ""
		if i > 0 {
			cursor = want[i-1]
		}
		c.subscribe(t, task, cursor)
		m := c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		if m.ReplayStartedAfterEventID == nil || *m.ReplayStartedAfterEventID != cursor {
			t.Errorf("confirmed: %s", m)
		}
		if ids, others, code := c.events(t); code != 1000 || len(others) > 0 || !slices.Equal(ids, want[i:]) {
			t.Errorf("after %q: %v %v %d", cursor, ids, others, code)
		}
	}
}

// Every row of the table of ends that a client can bring about at the door or
// with a frame.
func TestWSCloseCodes(t *testing.T) {
	h := startHost(t, hostSetup{})
	impatient := startHost(t, hostSetup{bridge: func(c *Config) { c.WebSocket.SubscribeTimeout = 300 * time.Millisecond }})
	run := h.task(t)
	task := run.Task().ID
	sub := `{"action":"subscribe","taskId":"` + task + `"}`
	page := "Origin: http://" + h.addr
	for _, tc := range []struct {
		name   string
		header []string
		frames []string
		binary bool
		code   int
	}{
		{"no subscribe frame", nil, nil, false, 1008},
		{"not JSON", nil, []string{"hello"}, false, 1008},
		{"not text", nil, []string{sub}, true, 1008},
		{"unknown action", nil, []string{`{"action":"x","taskId":"t"}`}, false, 1008},
		{"unknown field", nil, []string{`{"action":"subscribe","taskId":"` + task + `","x":1}`}, false, 1008},
		{"unknown task", nil, []string{`{"action":"subscribe","taskId":"0000000000000000"}`}, false, 1008},
		{"bad cursor", nil, []string{`{"action":"subscribe","taskId":"` + task + `","lastEventId":"x"}`}, false, 1008},
		{"a page without authentication", []string{"Authorization: ", page}, nil, false, 1008},
		{"a page whose credentials have expired", []string{"Authorization: Bearer alice;exp=1000", page}, nil, false, 1008},
		{"foreign task", []string{"Authorization: Bearer bob"}, []string{sub}, false, 1008},
		{"auth store down", []string{"Authorization: Bearer unavailable"}, nil, false, 1013},
		{"not UTF-8", nil, []string{"\xff\xfe"}, false, 1007},
		{"too big", nil, []string{strings.Repeat("x", 4097)}, false, 1009},
	} {
		at := h
		if len(tc.header)+len(tc.frames) == 0 {
			at = impatient
		}
		c := at.ws(t, tc.header...)
		for _, f := range tc.frames {
			typ := websocket.MessageText
			if tc.binary {
				typ = websocket.MessageBinary
			}
			if err := c.Write(c.ctx, typ, []byte(f)); err != nil {
				t.Fatal(err)
			}
		}
		ids, others, code := c.events(t)
		if code != tc.code || len(ids)+len(others) > 0 {
			t.Errorf("%s: closed with %d, want %d (%v %v)", tc.name, code, tc.code, ids, others)
		}
	}
	// An invalid frame closes a socket that follows something, too.
	for _, bad := range []string{"{", `{"action":"subscribe","taskId":""}`, `[]`} {
		c := h.ws(t)
		c.send(t, sub)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		c.send(t, bad)
		c.closed(t, 1008)
	}
	await(t, "places free", func() bool { return h.streams() == 0 })
}

// A client that is no browser is told before the upgrade, so that it can come back
// with fresh credentials.
func TestWSRefusesAppsWithAStatus(t *testing.T) {
	h := startHost(t, hostSetup{})
	for _, credentials := range []string{"", "Bearer alice;exp=x", "Bearer alice;exp=1000"} {
		c := h.get(t, wsPath, append([]string{"Authorization: " + credentials}, wsUpgrade...)...)
		if c.status != 401 {
			t.Errorf("%q: %d", credentials, c.status)
			continue
		}
		if text := c.all(t); !strings.Contains(text, `"code":"AUTHENTICATION_ERROR"`) {
			t.Errorf("%q: %s", credentials, text)
		}
	}
	await(t, "no place is kept", func() bool { return h.streams() == 0 })
}

func TestWSUpgradeRefusals(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.Origins = []string{"https://app.example.com"} }})
	upgrade := []string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}
	for _, tc := range []struct {
		name   string
		lines  []string
		status int
	}{
		{"plain GET", nil, 426},
		{"not authenticated either", []string{"Authorization: "}, 426},
		{"version", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8", upgrade[3]}, 426},
		{"no key", upgrade[:3], 400},
		{"foreign origin", append(slices.Clone(upgrade), "Origin: https://evil.example.com"), 403},
		{"null origin", append(slices.Clone(upgrade), "Origin: null"), 403},
		{"other port", append(slices.Clone(upgrade), "Origin: http://127.0.0.1:1"), 403},
		{"listed origin", append(slices.Clone(upgrade), "Origin: https://app.example.com"), 101},
		{"same origin", append(slices.Clone(upgrade), "Origin: http://"+h.addr), 101},
		{"no origin", upgrade, 101},
		{"two origins", append(slices.Clone(upgrade), "Origin: http://"+h.addr, "Origin: https://evil.example.com"), 403},
		{"one origin twice", append(slices.Clone(upgrade), "Origin: http://"+h.addr, "Origin: http://"+h.addr), 403},
		{"an empty origin first", append(slices.Clone(upgrade), "Origin:", "Origin: https://evil.example.com"), 403},
		{"behind a proxy", append(slices.Clone(upgrade), "Origin: https://front.example.com", "X-Forwarded-Host: front.example.com"), 101},
	} {
		c := h.get(t, wsPath, tc.lines...)
		if c.status != tc.status {
			t.Errorf("%s: %d", tc.name, c.status)
			continue
		}
		if c.status == 101 {
			if c.header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || c.header.Get("Sec-WebSocket-Extensions") != "" ||
				!slices.Equal(c.header.Values("Connection"), []string{"Upgrade"}) || c.header.Get("Content-Length") != "" {
				t.Errorf("%s: %v", tc.name, c.header)
			}
			continue
		}
		if text := c.all(t); !strings.Contains(text, `"code":"INVALID_REQUEST"`) {
			t.Errorf("%s: %s", tc.name, text)
		}
		if c.status == 426 && c.header.Get("Upgrade") != "websocket" && c.header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("%s: %v", tc.name, c.header)
		}
	}
}

// X-Forwarded-Host counts only from a trusted proxy.
func TestWSOriginTrust(t *testing.T) {
	setup := hostSetup{}
	setup.app.EnableTrustedProxyCheck = true
	setup.app.TrustedProxies = []string{"10.1.1.1"}
	h := startHost(t, setup)
	_, resp, err := h.wsDial(t, "Origin: https://front.example.com", "X-Forwarded-Host: front.example.com")
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("%v %v", resp, err)
	}
}

func TestWSManyTasks(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) {
		c.WebSocket.IdleTimeout = 400 * time.Millisecond
		c.WebSocket.MaxSubscriptions = 2
	}})
	a, b, over := h.task(t), h.task(t), h.task(t)
	idA, idB, idOver := a.Task().ID, b.Task().ID, over.Task().ID
	complete(t, over)
	last := h.ids(t, idOver)[0]

	c := h.ws(t)
	c.subscribe(t, idA)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", idA)
	// Refused, and the socket stays.
	c.subscribe(t, "0000000000000000")
	if m := c.expect(t, "SUBSCRIPTION_REJECTED", "0000000000000000"); m.Code != "TASK_NOT_FOUND" || m.Message == "" {
		t.Errorf("%s", m)
	}
	c.subscribe(t, idB, "nonsense")
	if m := c.expect(t, "SUBSCRIPTION_REJECTED", idB); m.Code != "INVALID_REQUEST" {
		t.Errorf("%s", m)
	}
	// What is not followed is not missed.
	c.subscribe(t, idB)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", idB)
	c.subscribe(t, idOver)
	if m := c.expect(t, "SUBSCRIPTION_REJECTED", idOver); m.Code != "TOO_MANY_STREAMS" {
		t.Errorf("%s", m)
	}
	emit(t, a, 1)
	first := c.next(t)
	if first.TaskID != idA || first.Type != "TASK_MESSAGE" {
		t.Errorf("%s", first.raw)
	}
	// Again for the same task: its cursor moves.
	c.subscribe(t, idA)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", idA)
	if m := c.next(t); m.EventID != first.EventID || m.TaskID != idA {
		t.Errorf("%s", m)
	}
	c.send(t, `{"action":"unsubscribe","taskId":"`+idA+`"}`)
	if m := c.expect(t, "SUBSCRIPTION_ENDED", idA); m.Reason != "unsubscribed" {
		t.Errorf("%s", m)
	}
	c.send(t, `{"action":"unsubscribe","taskId":"`+idA+`"}`)
	emit(t, a, 1)
	// The end at once: confirmed first.
	c.subscribe(t, idOver, last)
	if m := c.expect(t, "SUBSCRIPTION_CONFIRMED", idOver); *m.ReplayStartedAfterEventID != last {
		t.Errorf("%s", m)
	}
	if m := c.expect(t, "SUBSCRIPTION_ENDED", idOver); m.Reason != "terminal" {
		t.Errorf("%s", m)
	}
	emitted := time.Now()
	complete(t, b)
	c.expect(t, "TASK_COMPLETED", idB)
	if m := c.expect(t, "SUBSCRIPTION_ENDED", idB); m.Reason != "terminal" {
		t.Errorf("%s", m)
	}
	c.closed(t, 1000)
	if d := time.Since(emitted); d < 400*time.Millisecond {
		t.Errorf("closed %v after the last subscription", d)
	}
	soon(t, emitted)
}

// A refused second subscribe does not make a socket one of many tasks: old
// clients see the close that they know.
func TestWSOneTaskAndARejection(t *testing.T) {
	h := startHost(t, hostSetup{})
	run := h.task(t)
	c := h.ws(t)
	c.subscribe(t, run.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
	c.subscribe(t, "0000000000000000")
	c.expect(t, "SUBSCRIPTION_REJECTED", "0000000000000000")
	complete(t, run)
	ids, others, code := c.events(t)
	if len(ids) != 1 || len(others) != 0 || code != 1000 {
		t.Errorf("%v %v %d", ids, others, code)
	}
}

// An unsubscribe of the only task leaves the socket open for another.
func TestWSUnsubscribeAndOn(t *testing.T) {
	idle := intime.For(t, 150*time.Millisecond, func() { startHost(t, hostSetup{}).followed(t) })
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.WebSocket.IdleTimeout = idle }})
	a, b := h.task(t), h.task(t)
	c := h.ws(t)
	c.subscribe(t, a.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", a.Task().ID)
	c.send(t, `{"action":"unsubscribe","taskId":"`+a.Task().ID+`"}`)
	c.expect(t, "SUBSCRIPTION_ENDED", a.Task().ID)
	c.subscribe(t, b.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", b.Task().ID)
	time.AfterFunc(2*idle+100*time.Millisecond, func() { complete(t, b) })
	if m := c.next(t); m.Type != "TASK_COMPLETED" {
		t.Errorf("the socket that follows something was idle: %s", m)
	}
	c.expect(t, "SUBSCRIPTION_ENDED", b.Task().ID)
	c.closed(t, 1000)
}

// All subscriptions in one burst, as a page that opens does it.
func TestWSBurstOfSubscribes(t *testing.T) {
	h := startHost(t, hostSetup{})
	var runs []*engine.Run
	c := h.ws(t)
	for range 64 {
		runs = append(runs, h.task(t))
	}
	for _, r := range runs {
		c.subscribe(t, r.Task().ID)
	}
	for _, r := range runs {
		c.expect(t, "SUBSCRIPTION_CONFIRMED", r.Task().ID)
	}
	for _, r := range runs {
		complete(t, r)
	}
	ended := map[string]bool{}
	for len(ended) < len(runs) {
		if m := c.next(t); m.Type == "SUBSCRIPTION_ENDED" {
			ended[m.TaskID] = true
		}
	}
}

func TestWSGap(t *testing.T) {
	h := startHost(t, hostSetup{store: memstore.Config{MaxStreamLength: 5}})
	run := h.task(t)
	emit(t, run, 20)
	ids := h.ids(t, run.Task().ID)
	c := h.ws(t)
	c.subscribe(t, run.Task().ID)
	m := c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
	if m.Gap == nil || m.Gap.Reason != "trimmed" || m.Gap.AfterEventID != nil || *m.Gap.FirstEventID != ids[0] {
		t.Errorf("%s", m)
	}
	if m := c.next(t); m.EventID != ids[0] {
		t.Errorf("%s", m)
	}
}

func TestWSHeartbeatsAndPings(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		inner := setup.bridge
		setup.bridge = func(c *Config) {
			if inner != nil {
				inner(c)
			}
			c.WebSocket.Heartbeat = 40 * time.Millisecond
			c.WebSocket.PongTimeout = patience
		}
		h := startHost(t, setup)
		a, b := h.task(t), h.task(t)
		c := h.ws(t)
		c.subscribe(t, a.Task().ID)
		c.subscribe(t, b.Task().ID)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", a.Task().ID)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", b.Task().ID)
		for range 3 {
			m := c.expect(t, "HEARTBEAT", b.Task().ID)
			if m.raw != `{"type":"HEARTBEAT","taskId":"`+b.Task().ID+`","live":true}` {
				t.Errorf("%s", m)
			}
		}
	})
}

// A peer that does not answer pings is cut.
func TestWSPongTimeout(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		inner := setup.bridge
		setup.bridge = func(c *Config) {
			if inner != nil {
				inner(c)
			}
			c.WebSocket.Heartbeat = 100 * time.Millisecond
			c.WebSocket.PongTimeout = 100 * time.Millisecond
		}
		h := startHost(t, setup)
		c := h.get(t, wsPath, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
		begin := time.Now()
		rest, err := io.ReadAll(c.raw)
		// Pings, of which a busy machine may send another one, and no close frame.
		if d := time.Since(begin); err != nil || len(rest) == 0 || len(bytes.ReplaceAll(rest, []byte{0x89, 0}, nil)) > 0 || d < 150*time.Millisecond {
			t.Errorf("%q %v after %v", rest, err, d)
		}
		soon(t, begin)
		await(t, "place free", func() bool { return h.streams() == 0 })
	})
}

// Pings are answered, of many at once the last; a close is answered with its
// code, and then comes the FIN.
func TestWSPingAndCloseHandshake(t *testing.T) {
	h := startHost(t, hostSetup{})
	c := h.get(t, wsPath, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	send := func(b ...byte) {
		if _, err := c.conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	send(0x89, 0x82, 0, 0, 0, 0, 'h', 'i')
	got := make([]byte, 4)
	if _, err := io.ReadFull(c.raw, got); err != nil || string(got) != "\x8a\x02hi" {
		t.Fatalf("pong %q %v", got, err)
	}
	send(0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9) // 1001
	rest, err := io.ReadAll(c.raw)
	if err != nil || string(rest) != "\x88\x02\x03\xe9" {
		t.Errorf("answer to close: %q %v", rest, err)
	}
	await(t, "place free", func() bool { return h.streams() == 0 })
}

// The end waits for the peer's close frame, but not for ever.
func TestWSCloseUnanswered(t *testing.T) {
	t.Parallel()
	h := startHost(t, hostSetup{})
	run := h.task(t)
	complete(t, run)
	c := h.get(t, wsPath, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	if _, err := c.conn.Write(maskedText(`{"action":"subscribe","taskId":"` + run.Task().ID + `"}`)); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	all, err := io.ReadAll(c.raw)
	if d := time.Since(begin); err != nil || d < closeAnswerTime-100*time.Millisecond {
		t.Errorf("FIN after %v, %v", d, err)
	}
	soon(t, begin.Add(closeAnswerTime))
	if !strings.HasSuffix(string(all), "\x88\x02\x03\xe8") {
		t.Errorf("%q", all)
	}
}

// maskedText is one text frame as clients send it, masked with zeros.
func maskedText(s string) []byte {
	b := []byte{0x81}
	if len(s) < 126 {
		b = append(b, 0x80|byte(len(s)))
	} else {
		b = append(b, 0x80|126, byte(len(s)>>8), byte(len(s)))
	}
	return append(append(b, 0, 0, 0, 0), s...)
}

// followed is a socket that follows a task of its own.
func (h *streamHost) followed(t *testing.T) *wsClient {
	t.Helper()
	run := h.task(t)
	c := h.ws(t)
	c.subscribe(t, run.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
	return c
}

func TestWSAuthExpiry(t *testing.T) {
	overEach(t, func(t *testing.T, setup hostSetup) {
		h := startHost(t, setup)
		run := h.task(t)
		expires := time.Now().Add(intime.For(t, time.Second, func() { h.followed(t) }))
		c := h.ws(t, fmt.Sprintf("Authorization: Bearer alice;exp=%d", expires.UnixMilli()))
		c.subscribe(t, run.Task().ID)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
		c.closed(t, 3000)
		if time.Since(expires) < -time.Millisecond {
			t.Errorf("closed %v before the expiry", time.Until(expires))
		}
		soon(t, expires)
	})
}

func TestWSOverload(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.Streams.Max = 1 }})
	run := h.task(t)
	held := h.ws(t)
	held.subscribe(t, run.Task().ID)
	held.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
	h.ws(t).closed(t, 1013)
	held.Close(websocket.StatusNormalClosure, "")
	await(t, "place free", func() bool { return h.streams() == 0 })
	await(t, "socket closed", func() bool { return h.bridge.streams.group.Len() == 0 })
	c := h.ws(t)
	c.subscribe(t, run.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
}

func TestWSMaxAge(t *testing.T) {
	age := intime.For(t, 150*time.Millisecond, func() { startHost(t, hostSetup{}).followed(t) })
	for _, frames := range []bool{false, true} {
		h := startHost(t, hostSetup{bridge: func(c *Config) {
			c.Streams.MaxAge = age
			c.WebSocket.CloseFrames = frames
		}})
		run := h.task(t)
		c := h.ws(t)
		c.subscribe(t, run.Task().ID)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
		m := c.expect(t, "HEARTBEAT", run.Task().ID)
		if m.Closing == nil || m.Closing.Reason != "max_age" || m.Closing.RetryAfterMs < 1 || !m.Live {
			t.Errorf("%s", m)
		}
		want := -1
		if frames {
			want = 1013
		}
		c.closed(t, want)
	}
}

// A client that floods is refused frame by frame, and in the end closed,
// whatever its frames say.
func TestWSFlood(t *testing.T) {
	h := startHost(t, hostSetup{})
	run := h.task(t)
	c := h.get(t, wsPath, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	var burst []byte
	for range 20000 {
		burst = append(burst, maskedText(`{"action":"subscribe","taskId":"`+run.Task().ID+`"}`)...)
	}
	go func() { _, _ = c.conn.Write(burst) }()
	all := untilClose(t, c.raw)
	if !strings.Contains(all, "\x03\xf5too many frames") {
		t.Errorf("%d bytes, end %q", len(all), all[max(0, len(all)-60):])
	}
	c.conn.Close()
	await(t, "place free", func() bool { return h.streams() == 0 })
}
