package conformance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

func TestStreamHead(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	s := c.Follow(id, client.SSE{Header: http.Header{"Origin": {"https://app.example.com"}}})
	for name, want := range map[string]string{
		"Content-Type":      "text/event-stream",
		"Cache-Control":     "no-cache, no-transform",
		"X-Accel-Buffering": "no",
		"Connection":        "close",
	} {
		got := s.Header.Get(name)
		if name == "Connection" && s.Response.Close {
			got = "close" // net/http takes it out of the header
		}
		if got != want || len(s.Header.Values(name)) > 1 {
			t.Errorf("%s: %v, want %q", name, s.Header.Values(name), want)
		}
	}
	if te := s.Response.TransferEncoding; len(te) != 1 || te[0] != "chunked" {
		t.Errorf("Transfer-Encoding %v", te)
	}
	if s.Response.ContentLength != -1 || s.Header.Get("Content-Length") != "" {
		t.Errorf("Content-Length %d", s.Response.ContentLength)
	}
	if s.Header.Get("X-Request-Id") == "" || s.Header.Get("Access-Control-Allow-Origin") == "" || s.Header.Get("Date") == "" {
		t.Errorf("the headers of the host's middleware are missing: %v", s.Header)
	}
}

// Headers, retry and a comment leave at once, before there is any event.
func TestStreamOpensAtOnce(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	started := c.Poll(id, client.Poll{Wait: 10 * time.Second})
	s := c.Follow(id, client.SSE{After: *started.NextAfterEventID})
	var h client.Heard
	for h.Retry == nil || len(h.Comments) == 0 {
		m, err := s.Next(busy(2 * time.Second)) // a heartbeat would come later
		if err != nil {
			t.Fatalf("%v; so far %+v", err, h)
		}
		if m.HasData {
			t.Fatalf("%+v before retry and a comment", m)
		}
		if m.Retry != nil {
			h.Retry = m.Retry
		}
		h.Comments = append(h.Comments, m.Comments...)
	}
	if *h.Retry <= 0 {
		t.Errorf("retry: %d", *h.Retry)
	}
}

func TestStreamEndsWithTheLastChunkAfterTheTerminalEvent(t *testing.T) {
	c := connect(t)
	for name, task := range map[string][2]string{
		"completed": {"greet", `{"name":"Ada"}`},
		"failed":    {"fail", `{"code":"X","message":"y","retryable":false,"afterSteps":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := c.For(t)
			id := c.Start(task[0], task[1])
			h := c.FollowToEnd(id, "") // live
			client.CheckLog(t, id, h.Events, 1)
			if !h.Events[len(h.Events)-1].Terminal() || len(h.Closings) > 0 {
				t.Errorf("%+v", h)
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		id := c.Start("stall", `{}`)
		s := c.For(t).Follow(id, client.SSE{})
		s.Events(1)
		c.Cancel(id, "")
		if h := s.ToEnd(); !errors.Is(h.End, io.EOF) || len(h.Events) != 1 {
			t.Errorf("%+v", h)
		}
	})
}

func TestStreamCursorComesFromHeaderThenQuery(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	for _, tc := range []struct {
		name string
		ask  client.SSE
		want int // index of the first event
	}{
		{"neither", client.SSE{}, 0},
		{"header", client.SSE{After: log[1].EventID}, 2},
		{"query", client.SSE{Query: log[2].EventID}, 3},
		{"header over query", client.SSE{After: log[0].EventID, Query: log[2].EventID}, 1},
		{"an empty header", client.SSE{Query: log[2].EventID, Header: http.Header{"Last-Event-ID": {""}}}, 3},
		{"a header over a query that is bad", client.SSE{After: log[0].EventID, Query: "abc"}, 1},
		{"a short form", client.SSE{After: "5"}, 0},
		{"lower case", client.SSE{Header: http.Header{"last-event-id": {log[3].EventID}}}, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := c.For(t).Follow(id, tc.ask).ToEnd()
			client.CheckEqual(t, h.Events, log[tc.want:])
		})
	}
	for name, ask := range map[string]client.SSE{
		"two headers":              {Header: http.Header{"Last-Event-ID": {log[0].EventID, log[1].EventID}}},
		"two equal headers":        {Header: http.Header{"Last-Event-ID": {log[0].EventID, log[0].EventID}}},
		"two headers in two cases": {Header: http.Header{"Last-Event-ID": {log[0].EventID}, "last-event-id": {log[1].EventID}}},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, c.For(t).OpenSSE(id, ask), http.StatusBadRequest, "INVALID_REQUEST")
		})
	}
	for _, cursor := range badCursors {
		if !strings.ContainsAny(cursor, "\r\n\x00") && strings.TrimSpace(cursor) == cursor {
			refused(t, c.OpenSSE(id, client.SSE{After: cursor}), http.StatusBadRequest, "INVALID_REQUEST")
		}
		refused(t, c.OpenSSE(id, client.SSE{Query: cursor}), http.StatusBadRequest, "INVALID_REQUEST")
	}
}

// refused wants a plain JSON answer.
func refused(t *testing.T, s *client.Stream, status int, code string) client.Answer {
	t.Helper()
	body, err := io.ReadAll(s.Response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := client.Answer{Status: s.Status, Header: s.Header, Body: body}
	if a.Status != status || a.Error(t).Code != code {
		t.Errorf("%d %s, want %d %s", a.Status, a.Body, status, code)
	}
	return a
}

func TestStreamAccept(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	ask := func(accept ...string) client.SSE { return client.SSE{Header: http.Header{"Accept": accept}} }
	for _, yes := range [][]string{
		nil, {""}, {"*/*"}, {"text/*"}, {"text/event-stream"}, {"text/event-stream, */*;q=0.1"}, {"TEXT/Event-Stream"},
		{"application/json, */*;q=0.1"}, {"application/json;q=0.9,text/event-stream;q=0.001"}, {"application/json", "text/event-stream"},
	} {
		s := c.OpenSSE(id, ask(yes...))
		if s.Status != http.StatusOK {
			t.Errorf("Accept %q: %d", yes, s.Status)
			continue
		}
		client.CheckEqual(t, s.ToEnd().Events, log)
	}
	for _, no := range []string{
		"application/json", "text/html, application/xhtml+xml", "text/event-stream;q=0", "*/*;q=0", "text/event-stream;q=0, */*", "text/*;q=0, */*",
	} {
		s := c.OpenSSE(id, ask(no))
		if s.Status != http.StatusNotAcceptable {
			t.Errorf("Accept %q: %d", no, s.Status)
		}
	}
}

func TestStreamHEAD(t *testing.T) {
	c := connect(t)
	open := c.Start("stall", `{}`)
	defer c.Cancel(open, "")
	over, log := c.Finished("greet", `{"name":"Ada"}`)
	path := func(id string) string { return tasks + "/" + id + "/events/stream" }
	for range 3 { // the connection may be used again
		a := c.Do(http.MethodHead, path(open), nil, nil).Want(t, http.StatusOK)
		if got := a.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("Content-Type %q", got)
		}
		if a.Header.Get("Cache-Control") != "no-cache, no-transform" || a.Header.Get("X-Accel-Buffering") != "no" {
			t.Errorf("%v", a.Header)
		}
	}
	c.Do(http.MethodHead, path(over), http.Header{"Last-Event-ID": {log[len(log)-1].EventID}}, nil).Want(t, http.StatusNoContent)
	c.Do(http.MethodHead, path(over), http.Header{"Last-Event-ID": {"x"}}, nil).Want(t, http.StatusBadRequest)
	c.Do(http.MethodHead, path(over), http.Header{"Accept": {"text/html"}}, nil).Want(t, http.StatusNotAcceptable)
	c.As("").Do(http.MethodHead, path(over), nil, nil).Want(t, http.StatusUnauthorized)
}

// A HEAD must not be answered with a stream, or the next answer on the
// connection is lost in it.
func TestStreamHEADOnOneConnection(t *testing.T) {
	c := connect(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	head := fmt.Sprintf("HEAD %s/%s/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", tasks, id, c.Subject)
	res, body, err := c.Exchange(http.MethodHead, head+"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if err != nil || res.StatusCode != http.StatusOK || len(body) > 0 {
		t.Fatalf("%v %v %q", err, res, body)
	}
}

// A proxy with its defaults speaks HTTP/1.0: no chunks, the end of the
// connection is the end.
func TestStreamHTTP10(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	for name, connection := range map[string][]string{"plain": nil, "close": {"close"}, "keep-alive": {"keep-alive"}} {
		t.Run(name, func(t *testing.T) {
			s := c.For(t).Follow(id, client.SSE{Proto: "HTTP/1.0", Header: http.Header{"Connection": connection}})
			if len(s.Response.TransferEncoding) > 0 {
				t.Errorf("chunks on HTTP/1.0: %v", s.Response.TransferEncoding)
			}
			h := s.ToEnd()
			client.CheckEqual(t, h.Events, log)
			if !errors.Is(h.End, io.EOF) {
				t.Errorf("the end: %v", h.End)
			}
		})
	}
	t.Run("live", func(t *testing.T) {
		c := c.For(t)
		id := c.Start("tokens", `{"count":20,"intervalMs":10,"size":8}`)
		client.CheckLog(t, id, c.Follow(id, client.SSE{Proto: "HTTP/1.0"}).ToEnd().Events, 1)
	})
	t.Run("over", func(t *testing.T) {
		if s := c.For(t).OpenSSE(id, client.SSE{Proto: "HTTP/1.0", After: log[len(log)-1].EventID}); s.Status != http.StatusNoContent {
			t.Errorf("%d", s.Status)
		}
	})
}

// What a client sends behind its request must not harm the stream.
func TestStreamSurvivesBytesBehindTheRequest(t *testing.T) {
	c := connect(t)
	id, log := c.Finished("greet", `{"name":"Ada"}`)
	get := fmt.Sprintf("GET %s/%s/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", tasks, id, c.Subject)
	for name, behind := range map[string]string{
		"another request": "GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
		"rubbish":         strings.Repeat("\x00\xff", 5000),
	} {
		res, body, err := c.Exchange(http.MethodGet, get+behind)
		if err != nil || res.StatusCode != http.StatusOK || strings.Count(string(body), "\ndata: ") != len(log) {
			t.Errorf("%s: %v %v %q", name, err, res, body)
		}
	}
}

func TestHeartbeats(t *testing.T) {
	t.Parallel()
	_, c := start(t, "-heartbeat", "200ms")
	id := c.Start("stall", `{}`)
	s := c.Follow(id, client.SSE{})
	began := time.Now()
	var heartbeats, comments int
	for heartbeats < 4 || comments < 4 {
		m, err := s.Next(client.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if m.Heartbeat {
			heartbeats++
		}
		for _, text := range m.Comments {
			if text == "heartbeat" {
				comments++
			}
		}
	}
	if took := time.Since(began); took < 600*time.Millisecond || took > busy(5*time.Second) {
		t.Errorf("4 heartbeats of 200ms took %v", took)
	}
	if heartbeats > comments+1 || comments > heartbeats+1 {
		t.Errorf("%d heartbeats, %d comments", heartbeats, comments)
	}
	ws := c.Dial(nil)
	ws.Subscribe(id, "")
	began = time.Now()
	told := ws.Until(func(o client.Told) bool { return o.Heartbeats >= 4 })
	if took := time.Since(began); told.Heartbeats < 4 || took < 600*time.Millisecond || took > busy(5*time.Second) {
		t.Errorf("WebSocket: %+v in %v", told, took)
	}
	c.Cancel(id, "")
	if h := s.ToEnd(); !errors.Is(h.End, io.EOF) || !h.Events[len(h.Events)-1].Terminal() {
		t.Errorf("after heartbeats: %+v", h)
	}
	if told := ws.ToEnd(); told.Code != 1000 || len(told.Events) == 0 {
		t.Errorf("after heartbeats: %+v", told)
	}
}

func TestClosingAStreamCancelsNothing(t *testing.T) {
	c := connect(t)
	id := c.Start("tokens", `{"count":40,"intervalMs":20,"size":3}`)
	for i := range 3 {
		s := c.Follow(id, client.SSE{})
		s.Events(2)
		if i == 0 {
			s.Reset()
		}
		s.Close()
		ws := c.Dial(nil)
		ws.Subscribe(id, "")
		ws.Events(2)
		ws.Cut()
	}
	log := c.PollToEnd(id, "")
	client.CheckLog(t, id, log, 1)
	if len(log) != 42 || log[41].Type != "TASK_COMPLETED" {
		t.Errorf("%d events, the last is %s", len(log), log[len(log)-1].Type)
	}
}

// EventSource in a browser, OkHttp: the same stream again and again, each time
// from the last id.
func TestReconnectingOneByOne(t *testing.T) {
	c := connect(t)
	id := c.Start("tokens", `{"count":25,"intervalMs":5,"size":3}`)
	var log []client.Event
	after := ""
	for range 100 {
		s := c.OpenSSE(id, client.SSE{After: after, Header: http.Header{"Accept-Encoding": {"gzip"}, "User-Agent": {"okhttp/4.12.0"}}})
		if s.Status == http.StatusNoContent {
			break
		}
		if enc := s.Header.Get("Content-Encoding"); enc != "" {
			t.Fatalf("Content-Encoding %s", enc)
		}
		h := s.Events(1)
		s.Close()
		log = append(log, h.Events...)
		after = log[len(log)-1].EventID
	}
	client.CheckLog(t, id, log, 1)
	if len(log) != 27 {
		t.Errorf("%d events", len(log))
	}
}

func TestTooManyStreams(t *testing.T) {
	_, c := start(t, "-max-streams", "2")
	id := c.Start("stall", `{}`)
	first, second := c.Follow(id, client.SSE{}), c.Dial(nil)
	first.Events(1)
	second.Subscribe(id, "")
	second.Events(1)

	a := refused(t, c.OpenSSE(id, client.SSE{Header: http.Header{"Accept": {"*/*"}}}), http.StatusTooManyRequests, "TOO_MANY_STREAMS")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	// A client whose Accept names it would give up on an error.
	h := c.Follow(id, client.SSE{}).ToEnd()
	if len(h.Events) > 0 || len(h.Closings) != 1 || h.Retry == nil || !errors.Is(h.End, client.ErrCut) {
		t.Errorf("%+v", h)
	}
	if told := c.Dial(nil).ToEnd(); told.Code != 1013 {
		t.Errorf("WebSocket: %+v", told)
	}
	// Polls are no streams, and a place that is free again is found.
	c.Poll(id, client.Poll{})
	first.Close()
	eventually(t, "the place is free again", func() bool {
		s := c.OpenSSE(id, client.SSE{Header: http.Header{"Accept": {"*/*"}}})
		defer s.Close()
		return s.Status == http.StatusOK
	})
	second.Cut()
	eventually(t, "the socket's place is free again", func() bool {
		s := c.Dial(nil)
		defer s.Cut()
		s.Subscribe(id, "")
		return len(s.Events(1).Events) == 1
	})
}

func TestPayloadsCannotForgeLines(t *testing.T) {
	c := connect(t)
	for _, name := range []string{
		"a\n\ndata: {}\n\n", "a\r\rid: 1\r\r", "\u2028\u2029", "\x00\x01\x1f\x7f", "</script>", "\ufeff", "😀", `"\`, "id: 9-9",
	} {
		input := fmt.Sprintf(`{"name":%s}`, quote(name))
		id, log := c.Finished("greet", input)
		client.CheckEqual(t, c.FollowToEnd(id, "").Events, log)
		client.CheckEqual(t, c.SocketToEnd(id, "").Events, log)
		if last := log[len(log)-1]; last.Type != "TASK_COMPLETED" {
			t.Errorf("%q: %s %s", name, last.Type, last.Payload)
		}
	}
}

// quote writes s as a JSON string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has a form
	}
	return string(b)
}
