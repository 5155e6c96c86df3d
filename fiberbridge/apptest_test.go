package fiberbridge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/compress"
	"github.com/gofiber/fiber/v2/middleware/requestid"

	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// appTest sends a request as a host's own tests do.
func (h *streamHost) appTest(t *testing.T, path string, lines ...string) (*http.Response, string) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.Header.Set("Authorization", "Bearer alice")
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		req.Header.Set(name, value)
	}
	res, err := h.app.Test(req, int(patience.Milliseconds()))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v", path, err)
	}
	return res, string(body)
}

// A host tests its wiring with App.Test: the stream of a finished task is whole.
func TestAppTestOfAFinishedTask(t *testing.T) {
	h := startHost(t, hostSetup{
		before: []fiber.Handler{requestid.New(), compress.New()},
		store:  memstore.Config{MaxStreamLength: 700},
	})
	run := h.task(t)
	emit(t, run, 900) // more than a page, and trimmed
	complete(t, run)
	ids := h.ids(t, run.Task().ID)

	res, body := h.appTest(t, ssePath(run.Task().ID), "Accept: text/event-stream")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" ||
		res.Header.Get("X-Request-Id") == "" || !res.Close || res.ContentLength != -1 {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if !strings.HasPrefix(body, "retry: 2000\n: connected\nevent: gap\n") {
		t.Errorf("begins with %.100q", body)
	}
	if got := eventIDs(parseSSE(body)); strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("%d events, want %d", len(got), len(ids))
	}
	_, body = h.appTest(t, ssePath(run.Task().ID), "Last-Event-ID: "+ids[len(ids)-2])
	if got := eventIDs(parseSSE(body)); len(got) != 1 || got[0] != ids[len(ids)-1] {
		t.Errorf("after a cursor: %q", body)
	}
	if res, body := h.appTest(t, ssePath(run.Task().ID), "Last-Event-ID: "+ids[len(ids)-1]); res.StatusCode != http.StatusNoContent || body != "" {
		t.Errorf("behind the end: %d %q", res.StatusCode, body)
	}
	if n := h.streams(); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}

// What App.Test cannot carry is refused with what to use instead.
func TestAppTestOfAStream(t *testing.T) {
	h := startHost(t, hostSetup{shut: true, bridge: func(c *Config) { c.Drain.NotReady, c.Drain.Spread = -1, -1 }})
	run := h.task(t)
	emit(t, run, 3)
	sse := ssePath(run.Task().ID)
	upgrade := append([]string{"Origin: http://example.com"}, wsUpgrade...)
	for _, path := range []string{sse, wsPath} {
		res, body := h.appTest(t, path, upgrade...)
		if res.StatusCode != http.StatusNotImplemented || !strings.Contains(body, "fasthttputil.NewInmemoryListener") || !strings.Contains(body, `"code":"INVALID_REQUEST"`) {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
		if res, body := h.appTest(t, path, append(upgrade, "Authorization: Bearer alice;exp=1000")...); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without credentials: %d %s", path, res.StatusCode, body)
		}
	}
	if n := h.streams(); n != 0 {
		t.Errorf("%d places are taken", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.bridge.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{sse, wsPath} {
		res, body := h.appTest(t, path, append(upgrade, "Accept: text/event-stream")...)
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s after a shutdown: %d %s", path, res.StatusCode, body)
		}
	}
}
