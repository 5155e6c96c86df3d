package fiberbridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
	"github.com/taskbridge/taskbridge-fiber/protocol"
)

// Pages from every position of the log give exactly what lies after it.
func TestPollFromEveryPosition(t *testing.T) {
	h := newHTTPHost(t, nil)
	id := h.create(t, "words", `{"words":["a","b\n","<c>","d"]}`)
	h.until(t, id, "COMPLETED")
	all := h.poll(t, id, "")
	if len(all.Events) != 6 || all.HasMore || all.Gap != nil || all.TaskID != id || *all.NextAfterEventID != all.Events[5].EventID {
		t.Fatalf("%+v", all)
	}
	cursor := ""
	for from := range 7 {
		for most := 1; most <= 7; most++ {
			p := h.poll(t, id, fmt.Sprintf("afterEventId=%s&maxEvents=%d", cursor, most))
			want := all.Events[from:min(from+most, 6)]
			if len(p.Events) != len(want) || p.HasMore != (from+most < 6) || p.Status != "COMPLETED" {
				t.Fatalf("after %d, %d: %+v", from, most, p)
			}
			for i, e := range p.Events {
				if e.EventID != want[i].EventID || string(e.Payload) != string(want[i].Payload) || e.TaskID != id {
					t.Errorf("after %d: %+v", from, e)
				}
			}
			switch next := p.NextAfterEventID; {
			case len(want) > 0 && (next == nil || *next != want[len(want)-1].EventID),
				len(want) == 0 && (next == nil || *next != cursor):
				t.Errorf("after %d: next %v", from, next)
			}
		}
		if from < 6 {
			cursor = all.Events[from].EventID
		}
	}
	// The cursor comes back as it was sent.
	if p := h.poll(t, id, "afterEventId="+strings.Repeat("9", 13)); len(p.Events) == 0 && p.Gap == nil && *p.NextAfterEventID != strings.Repeat("9", 13) {
		t.Errorf("%+v", p)
	}
}

func TestPollRefusals(t *testing.T) {
	h := newHTTPHost(t, nil)
	id := h.create(t, "stall", "")
	for query, want := range map[string]struct {
		status int
		code   engine.Code
	}{
		"afterEventId=x":                      {400, engine.CodeInvalidRequest},
		"afterEventId=1&afterEventId=1":       {400, engine.CodeInvalidRequest},
		"afterEventId=1%0d%0aX-Injected:%201": {400, engine.CodeInvalidRequest},
		"waitTimeoutMs=60001":                 {422, engine.CodeRequestValidation},
		"maxEvents=0":                         {422, engine.CodeRequestValidation},
		"maxEvents=1&maxEvents=2":             {422, engine.CodeRequestValidation},
	} {
		if r := h.do(t, "GET", "/tasks/"+id+"/events?"+query, ""); r.status != want.status || r.code() != want.code || r.header.Get("X-Injected") != "" {
			t.Error(query, r)
		}
	}
	p := h.poll(t, id, "access_token=x&unknown=1&unknown=2&maxEvents=500&waitTimeoutMs=0")
	if p.Gap != nil || len(p.Events) > 1 {
		t.Errorf("%+v", p)
	}
}

func TestPollWaits(t *testing.T) {
	h := newHTTPHost(t, nil)
	id := h.create(t, "stall", "")
	h.until(t, id, "RUNNING")
	last := *h.poll(t, id, "").NextAfterEventID

	begin := time.Now()
	p := h.poll(t, id, "waitTimeoutMs=150&afterEventId="+last)
	if took := time.Since(begin); len(p.Events) != 0 || *p.NextAfterEventID != last || took < 150*time.Millisecond {
		t.Errorf("%v %+v", took, p)
	}
	done := make(chan pollPage)
	go func() { done <- h.poll(t, id, "waitTimeoutMs=60000&afterEventId="+last) }()
	// However the two fall, the poll must see the end.
	if r := h.do(t, "POST", "/tasks/"+id+"/cancel", `{"reason":"enough \u003c>"}`); r.status != 202 {
		t.Fatal(r)
	}
	if p := <-done; len(p.Events) != 1 || p.Events[0].Type != "TASK_CANCELLED" || p.Status != "CANCELLED" {
		t.Errorf("%+v", p)
	} else if got := string(p.Events[0].Payload); !strings.Contains(got, `enough`) {
		t.Error(got)
	}
	// Behind the end a wait lasts as long as asked.
	begin = time.Now()
	end := h.poll(t, id, "")
	p = h.poll(t, id, "waitTimeoutMs=100&afterEventId="+*end.NextAfterEventID)
	if took := time.Since(begin); took < 100*time.Millisecond || p.Status != "CANCELLED" || len(p.Events) != 0 {
		t.Errorf("%v %+v", took, p)
	}
}

// A host's own deadline ends a wait early, with a page.
func TestPollUnderAHostsDeadline(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, func(o *hostOptions) {
		o.before = func(app *fiber.App) {
			app.Use(func(c *fiber.Ctx) error {
				if c.Query("waitTimeoutMs") == "" { // what only prepares the test may take long
					return c.Next()
				}
				ctx, cancel := context.WithTimeout(c.UserContext(), 2*time.Second)
				defer cancel()
				c.SetUserContext(ctx)
				return c.Next()
			})
		}
	})
	id := h.create(t, "stall", "")
	begin := time.Now()
	p := h.poll(t, id, "waitTimeoutMs=60000&afterEventId=9999999999999-1")
	if took := time.Since(begin); took > enough/2 || p.TaskID != id {
		t.Errorf("%v %+v", took, p)
	}
}

// A wait does not outlast the caller's credentials.
func TestPollEndsWithTheCredentials(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, func(o *hostOptions) {
		o.bridge.Auth = func(c *fiber.Ctx) (engine.AuthContext, error) {
			auth, err := authFromToken(c)
			auth.ExpiresAt = time.Now().Add(time.Second)
			return auth, err
		}
	})
	id := h.create(t, "stall", "")
	h.until(t, id, "RUNNING")
	last := *h.poll(t, id, "").NextAfterEventID
	begin := time.Now()
	if p := h.poll(t, id, "waitTimeoutMs=60000&afterEventId="+last); time.Since(begin) > enough/2 || len(p.Events) != 0 {
		t.Errorf("%v %+v", time.Since(begin), p)
	}
}

func TestPollTellsOfGaps(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) { o.store = memstore.Config{MaxStreamLength: 3} })
	id := h.create(t, "words", `{"words":["a","b","c","d","e","f","g"]}`)
	h.until(t, id, "COMPLETED")
	p := h.poll(t, id, "maxEvents=1")
	if p.Gap == nil || p.Gap.Reason != "trimmed" || p.Gap.AfterEventID != nil || *p.Gap.FirstEventID != p.Events[0].EventID {
		t.Errorf("%+v", p)
	}
	first := p.Events[0].EventID
	p = h.poll(t, id, "afterEventId=5-1")
	if p.Gap == nil || p.Gap.AfterEventID == nil || *p.Gap.AfterEventID != "5-1" || *p.Gap.FirstEventID != first {
		t.Errorf("%+v", p.Gap)
	}
	p = h.poll(t, id, "afterEventId="+first)
	if p.Gap != nil {
		t.Errorf("%+v", p.Gap)
	}
	// A cursor of a log that went back: announced, and not for ever.
	stall := h.create(t, "stall", "")
	h.until(t, stall, "RUNNING")
	p = h.poll(t, stall, "afterEventId=9999999999999-7")
	if p.Gap == nil || p.Gap.Reason != "ahead" {
		t.Fatalf("%+v", p)
	}
	next := ""
	if p.NextAfterEventID != nil {
		next = *p.NextAfterEventID
	}
	if p = h.poll(t, stall, "waitTimeoutMs=50&afterEventId="+next); p.Gap != nil {
		t.Errorf("the same gap again: %+v", p.Gap)
	}
}

func TestSnapshot(t *testing.T) {
	h := newHTTPHost(t, nil)
	id := h.create(t, "ask", "")
	var suspended pollPage
	eventually(t, func() bool {
		suspended = h.poll(t, id, "waitTimeoutMs=100")
		return len(suspended.Events) == 2
	})
	r := h.do(t, "GET", "/tasks/"+id, "")
	var s struct {
		TaskID, TaskType, Status, ClientRequestID, CreatedAt, UpdatedAt string
		CancellationRequested                                           bool
		LastEventID                                                     *string
		Suspensions                                                     []json.RawMessage
		Waiting                                                         bool
	}
	r.decode(t, &s)
	if r.status != 200 || r.header.Get("Cache-Control") != "no-store" || r.header.Get("Content-Type") != "application/json" {
		t.Error(r, r.header)
	}
	if s.TaskID != id || s.TaskType != "ask" || s.Status != "RUNNING" || s.ClientRequestID == "" || s.CancellationRequested || s.LastEventID == nil || *s.LastEventID != *suspended.NextAfterEventID {
		t.Errorf("%+v", s)
	}
	for _, at := range []string{s.CreatedAt, s.UpdatedAt} {
		if parsed, err := time.Parse(time.RFC3339, at); err != nil || !strings.HasSuffix(at, "Z") || time.Since(parsed) > time.Minute {
			t.Errorf("time %q", at)
		}
	}
	var inEvent, inSnapshot any
	if len(s.Suspensions) != 1 {
		t.Fatalf("%+v", s)
	}
	_ = json.Unmarshal(suspended.Events[1].Payload, &inEvent)
	_ = json.Unmarshal(s.Suspensions[0], &inSnapshot)
	if fmt.Sprint(inEvent) != fmt.Sprint(inSnapshot) || !strings.Contains(fmt.Sprint(inSnapshot), "Z ") {
		t.Errorf("%s\n%s", suspended.Events[1].Payload, s.Suspensions[0])
	}
	if !strings.Contains(r.body, `"waiting":true`) || strings.Contains(r.body, `"terminal"`) {
		t.Errorf("while it waits: %s", r.body)
	}
	h.do(t, "POST", "/tasks/"+id+"/cancel", "")
	h.until(t, id, "CANCELLED")
	if r = h.do(t, "GET", "/tasks/"+id, ""); !strings.Contains(r.body, `"suspensions":[]`) || !strings.Contains(r.body, `"cancellationRequested":true`) ||
		strings.Contains(r.body, `"waiting"`) || !strings.Contains(r.body, `"terminal":{"type":"TASK_CANCELLED","taskId":"`+id+`"`) {
		t.Error(r)
	}
	if r = h.do(t, "HEAD", "/tasks/"+id, ""); r.status != 200 || r.body != "" {
		t.Error(r)
	}
}

func TestCancel(t *testing.T) {
	h := newHTTPHost(t, nil)
	id := h.create(t, "stall", "")
	for name, want := range map[string]struct {
		contentType, body string
		status            int
		code              engine.Code
	}{
		"unknown field":  {"application/json", `{"reason":"x","force":true}`, 422, engine.CodeRequestValidation},
		"mistyped":       {"application/json", `{"reason":1}`, 422, engine.CodeRequestValidation},
		"no object":      {"application/json", `"x"`, 422, engine.CodeRequestValidation},
		"too long":       {"application/json", `{"reason":"` + strings.Repeat("x", 1001) + `"}`, 422, engine.CodeRequestValidation},
		"malformed":      {"application/json", `{`, 400, engine.CodeInvalidRequest},
		"not JSON":       {"text/plain", `{}`, 400, engine.CodeInvalidRequest},
		"no type":        {"", `{}`, 400, engine.CodeInvalidRequest},
		"invalid UTF-8":  {"application/json", "{\"reason\":\"\xff\"}", 400, engine.CodeInvalidRequest},
		"nothing at all": {"application/json", " ", 400, engine.CodeInvalidRequest},
	} {
		req := newRequest("POST", "/api/v1/tasks/"+id+"/cancel", want.body)
		req.Header.Del("Content-Type")
		if want.contentType != "" {
			req.Header.Set("Content-Type", want.contentType)
		}
		if r := h.send(t, req); r.status != want.status || r.code() != want.code {
			t.Error(name, r)
		}
	}
	if s := h.do(t, "GET", "/tasks/"+id, ""); !strings.Contains(s.body, `"cancellationRequested":false`) {
		t.Fatal("a refused request has cancelled", s)
	}
	for i, body := range []string{`{"reason":"first"}`, `{"reason":"second"}`, `{}`, "", `{"reason":null}`, " null\n"} {
		r := h.do(t, "POST", "/tasks/"+id+"/cancel", body)
		var c struct{ TaskID, Status string }
		r.decode(t, &c)
		if r.status != 202 || c.TaskID != id || i == 0 && c.Status != "CANCELLATION_REQUESTED" {
			t.Error(r)
		}
	}
	h.until(t, id, "CANCELLED")
	if r := h.do(t, "POST", "/tasks/"+id+"/cancel", ""); r.status != 202 || !strings.Contains(r.body, "ALREADY_TERMINAL") {
		t.Error(r)
	}
	events := h.poll(t, id, "").Events
	if got := string(events[len(events)-1].Payload); !strings.Contains(got, `"reason":"first"`) {
		t.Error(got)
	}
	// Without a body some clients send a type all the same, some a length of 0.
	other := h.create(t, "stall", "")
	req := newRequest("POST", "/api/v1/tasks/"+other+"/cancel", "")
	req.Header.Set("Content-Type", "text/plain")
	if r := h.send(t, req); r.status != 202 {
		t.Error(r)
	}
	h.until(t, other, "CANCELLED")
}

// A foreign task cannot be told from a missing one, nor from an id that no
// task can have, on any route.
func TestForeignLooksMissing(t *testing.T) {
	h := newHTTPHost(t, nil)
	foreign := h.create(t, "stall", "")
	strip := func(r reply) string {
		before, _, _ := strings.Cut(r.body, `,"timestamp"`)
		headers := r.header.Clone()
		headers.Del("Date")
		return fmt.Sprint(r.status, headers, before, len(r.body))
	}
	for _, route := range []struct{ method, path, body string }{
		{"GET", "", ""}, {"GET", "/events", ""}, {"GET", "/events?afterEventId=5&waitTimeoutMs=1000", ""}, {"GET", "/events/stream", ""},
		{"POST", "/cancel", ""}, {"POST", "/cancel", `{"reason":"x"}`}, {"HEAD", "", ""},
		{"POST", "/actions", `{"clientActionId":"a","suspendId":"s-1","actionType":"approve"}`},
	} {
		want := ""
		for _, id := range []string{foreign, strings.Repeat("x", len(foreign)), "short", "UPPER" + foreign, "a%0d%0aX:%20y", strings.Repeat("a", 65), "%ff%fe"} {
			r := h.as(t, "bob", route.method, "/tasks/"+id+route.path, route.body)
			if r.status != 404 || route.method != "HEAD" && r.code() != engine.CodeTaskNotFound {
				t.Error(route, id, r)
			}
			if want == "" {
				want = strip(r)
			} else if got := strip(r); got != want {
				t.Errorf("%v %s:\n%s\n%s", route, id, got, want)
			}
		}
	}
	// What is wrong with a request is said before anyone looks at the task.
	for _, id := range []string{foreign, strings.Repeat("x", len(foreign))} {
		if r := h.as(t, "bob", "GET", "/tasks/"+id+"/events?maxEvents=0", ""); r.status != 422 {
			t.Error(r)
		}
		if r := h.as(t, "bob", "POST", "/tasks/"+id+"/cancel", "{"); r.status != 400 {
			t.Error(r)
		}
		if r := h.as(t, "bob", "POST", "/tasks/"+id+"/actions", "{}"); r.status != 422 {
			t.Error(r)
		}
	}
	if s := h.do(t, "GET", "/tasks/"+foreign, ""); s.status != 200 || !strings.Contains(s.body, `"cancellationRequested":false`) {
		t.Error(s)
	}
}

// Strings of Fiber's are the connection's memory: what outlives a request must
// not change with the next one.
func TestNothingOfARequestIsKept(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) {
		o.bridge.Auth = func(c *fiber.Ctx) (engine.AuthContext, error) {
			return engine.AuthContext{Subject: c.Get("X-User")}, nil // fasthttp's own bytes
		}
	})
	base, client := h.listen(t)
	send := func(user, method, path, body string) reply {
		req := newRequest(method, base+path, body)
		req.Header.Set("X-User", user)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return read(t, resp)
	}
	var c createdTask
	r := send("alice-with-a-name", "POST", "/tasks", `{"clientRequestId":"first-request","taskType":"words","input":{"words":["mine"]},"metadata":{"k":"v"}}`)
	r.decode(t, &c)
	for i := range 50 { // the same connection, the same buffers
		send("mallory-with-a-name", "POST", "/tasks", fmt.Sprintf(`{"clientRequestId":"other-reques%d","taskType":"words","input":{"words":["evil"]},"metadata":{"k":"w"}}`, i%10))
		send("mallory-with-a-name", "GET", "/tasks/"+c.TaskID, "")
	}
	if r := send("alice-with-a-name", "GET", "/tasks/"+c.TaskID, ""); r.status != 200 || !strings.Contains(r.body, "first-request") {
		t.Error(r)
	}
	task, err := h.store.Get(t.Context(), c.TaskID, engine.Fresh)
	if err != nil || task.Owner != "alice-with-a-name" || string(task.Input) != `{"words":["mine"]}` || string(task.Metadata) != `{"k":"v"}` || task.Type != "words" {
		t.Errorf("%+v %v", task, err)
	}
}

func TestMountWithHostsOwnPaths(t *testing.T) {
	h := newHTTPHost(t, func(o *hostOptions) {
		o.noGroup = true
		o.bridge.Routes = fiberbridge.Routes{
			Create: "/projects/:projectId/tasks", Snapshot: "/projects/:projectId/tasks/:taskId", Poll: "/projects/:projectId/tasks/:taskId/events",
			Cancel: "-", SSE: "-", WebSocket: "/ws", OpenAPI: "/projects/openapi.json", Health: "/-/healthy", Ready: "-",
		}
	})
	r := h.do(t, "POST", "/projects/7/tasks", `{"clientRequestId":"r","taskType":"words"}`)
	if r.status != 201 {
		t.Fatal(r)
	}
	location := r.header.Get("Location")
	if !strings.HasPrefix(location, "/projects/7/tasks/") {
		t.Error(location)
	}
	for path, status := range map[string]int{
		location: 200, location + "/events": 200, location + "/events/stream": 404, "/tasks": 404, "/health": 404, "/-/healthy": 200, "/ready": 404,
		"/projects/openapi.json": 200, "/ws": 426,
	} {
		if r := h.do(t, "GET", path, ""); r.status != status {
			t.Error(path, r)
		}
	}
	if r := h.do(t, "POST", location+"/cancel", ""); r.status != 404 && r.status != 405 {
		t.Error(r)
	}
	doc := h.do(t, "GET", "/projects/openapi.json", "")
	if doc.header.Get("Content-Type") != "application/json" || doc.body != string(protocol.OpenAPI()) {
		t.Error(doc)
	}
}

func TestStaticSocketPathWins(t *testing.T) {
	h := newHTTPHost(t, nil)
	if r := h.do(t, "GET", "/tasks/ws", ""); r.status != 426 {
		t.Error(r)
	}
	if r := h.do(t, "DELETE", "/tasks/ws", ""); r.status != 405 || r.code() != engine.CodeInvalidRequest {
		t.Error(r)
	}
}

// What Fiber would panic about is an error.
func TestMountReportsWhatFiberRefuses(t *testing.T) {
	h := newHTTPHost(t, nil)
	if err := h.bridge.Mount(fiber.New(fiber.Config{RequestMethods: []string{"GET"}})); err == nil {
		t.Error("POST taken by an app without it")
	}
	if err := h.bridge.Mount(fiber.New().Group(strings.Repeat("/:p", 30))); err == nil {
		t.Error("too many parameters taken")
	}
}

// Owns knows every route of Mount, and handlers that a host has put on paths of
// its own, from a package of its own.
func TestOwns(t *testing.T) {
	h := newHTTPHost(t, nil)
	h.app.Get("/mine/:taskId", h.bridge.Poll)
	h.app.Get("/live/:taskId", h.bridge.SSE)
	h.app.Get("/live", h.bridge.WebSocket)
	var owned bool
	outer := fiber.New()
	outer.Use(func(c *fiber.Ctx) error { owned = h.bridge.Owns(c); return c.SendStatus(200) })
	outer.Mount("/", h.app)
	id := strings.Repeat("x", 26)
	for request, want := range map[string]bool{
		"POST /api/v1/tasks": true, "GET /api/v1/tasks/" + id: true, "HEAD /api/v1/tasks/" + id: true, "GET /api/v1/tasks/" + id + "/events": true,
		"GET /api/v1/tasks/" + id + "/events/stream": true, "HEAD /api/v1/tasks/" + id + "/events/stream": true, "GET /api/v1/tasks/ws": true,
		"POST /api/v1/tasks/" + id + "/cancel": true, "GET /health": true, "GET /ready": true, "GET /mine/" + id: true, "GET /live/" + id: true, "GET /live": true,
		"GET /api/v1/tasks": false, "GET /": false, "DELETE /api/v1/tasks": false, "GET /api/v1/other": false, "POST /mine/" + id: false,
	} {
		method, path, _ := strings.Cut(request, " ")
		owned = !want
		resp, err := outer.Test(newRequest(method, path, ""), -1)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if owned != want {
			t.Errorf("%s: %v", request, owned)
		}
	}
}

// Two bridges in one app, below different groups, each with tasks of its own.
func TestTwoBridges(t *testing.T) {
	var second *fiberbridge.Bridge
	other := newHTTPHost(t, func(o *hostOptions) { o.bridge.Auth = authFromToken })
	second = other.bridge
	h := newHTTPHost(t, func(o *hostOptions) {
		o.before = func(app *fiber.App) {
			if err := second.Mount(app.Group("/second")); err != nil {
				t.Fatal(err)
			}
		}
	})
	id := h.create(t, "stall", "")
	if r := h.send(t, newRequest("GET", "/second/tasks/"+id, "")); r.status != 404 {
		t.Error(r)
	}
	if r := h.send(t, newRequest("PUT", "/second/tasks/"+id, "")); r.status != 405 || r.code() != engine.CodeInvalidRequest {
		t.Error(r)
	}
}

func TestPreforkIsRefused(t *testing.T) {
	h := newHTTPHost(t, nil)
	shared := newHTTPHost(t, func(o *hostOptions) {
		store, err := memstore.New(memstore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		o.engine.Store = struct{ engine.Store }{store} // one that processes might share
	})
	app := fiber.New(fiber.Config{Prefork: true})
	if err := shared.bridge.Mount(app); err == nil || !strings.Contains(err.Error(), "Prefork") {
		t.Errorf("with a shared store: %v", err)
	}
	for name, router := range map[string]fiber.Router{"app": app, "group": app.Group("/api/v1")} {
		if err := h.bridge.Mount(router); err == nil || !strings.Contains(err.Error(), "Prefork") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if app.HandlersCount() != 0 {
		t.Error("routes were registered all the same")
	}
	t.Setenv("FIBER_PREFORK_CHILD", "1")
	if !fiber.IsChild() {
		t.Skip("Fiber tells its children apart in another way now", os.Environ())
	}
	for _, eng := range []*engine.Engine{h.engine, shared.engine} {
		if _, err := fiberbridge.New(fiberbridge.Config{Engine: eng, Auth: authFromToken}); err == nil || !strings.Contains(err.Error(), "Prefork") {
			t.Error(err)
		}
	}
}

func TestHealthAndReady(t *testing.T) {
	var broken error
	h := newHTTPHost(t, func(o *hostOptions) {
		o.engine.Readiness, o.engine.ReadyTTL = []engine.ReadinessProbe{probe{&broken}}, 1
	})
	ask := func(path string) reply { return h.send(t, httptestGet(path)) }
	if r := ask("/health"); r.status != 200 || r.body != `{"status":"ok"}` || r.header.Get("Cache-Control") != "no-store" {
		t.Error(r)
	}
	if r := ask("/ready"); r.status != 200 || !strings.Contains(r.body, `"status":"ready"`) || !strings.Contains(r.body, `"database":"ok"`) {
		t.Error(r)
	}
	broken = fmt.Errorf("dial tcp 10.0.0.7: hunter2")
	if r := ask("/ready"); r.status != 503 || !strings.Contains(r.body, `"status":"not_ready"`) || !strings.Contains(r.body, `"database":"unavailable"`) || strings.Contains(r.body, "hunter2") {
		t.Error(r)
	}
	broken = engine.NewError(engine.CodeStoreUnavailable, "the database does not answer")
	if r := ask("/ready"); r.status != 503 || !strings.Contains(r.body, `"database":"the database does not answer"`) {
		t.Error(r)
	}
	if r := ask("/health"); r.status != 200 {
		t.Error(r)
	}
}

// An outage is one line of the log, however many ask.
func TestReadyIsLoggedOncePerChange(t *testing.T) {
	var broken error
	var log bytes.Buffer
	h := newHTTPHost(t, func(o *hostOptions) {
		o.bridge.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.engine.Readiness, o.engine.ReadyTTL = []engine.ReadinessProbe{probe{&broken}}, 1
	})
	for range 2 {
		for _, broken = range []error{errors.New("refused"), nil} {
			for range 20 {
				if r := h.send(t, httptestGet("/ready")); (r.status == 200) != (broken == nil) {
					t.Error(r)
				}
			}
		}
	}
	if down, up := strings.Count(log.String(), "not ready"), strings.Count(log.String(), "ready again"); down != 2 || up != 2 {
		t.Errorf("the log says %d times that it is not ready and %d times that it is again:\n%s", down, up, log.String())
	}
}

type probe struct{ err *error }

func (probe) Name() string                  { return "database" }
func (p probe) Ready(context.Context) error { return *p.err }
func httptestGet(path string) *http.Request {
	r := newRequest("GET", path, "")
	r.Header.Del("Authorization")
	return r
}
