package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// openWebSocket subscribes from whatever page is open, and tells how it ended.
const openWebSocket = `new Promise((resolve) => {
  const result = { Opened: false, Types: [], Code: 0 };
  const socket = new WebSocket(%q);
  socket.onopen = () => { result.Opened = true; socket.send(JSON.stringify({ action: "subscribe", taskId: %q })); };
  socket.onmessage = (e) => result.Types.push(JSON.parse(e.data).type);
  socket.onclose = (e) => { result.Code = e.code; resolve(result); };
})`

type socketResult struct {
	Opened bool
	Types  []string
	Code   int
}

func TestWebSocketOrigins(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	g := startGate(t, host.url)
	task := create(t, host.url, "greet", nil)
	eventually(t, "the task ends", func() bool { return lastOrdinal(t, host.url, task) == 5 })
	socketURL := "ws" + g.url[len("http"):] + "/api/v1/tasks/ws?access_token=alice"

	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/opaque" {
			w.Header().Set("Content-Security-Policy", "sandbox allow-scripts") // its origin is "null"
		}
		fmt.Fprint(w, "<!doctype html><title>another site</title>")
	}))
	defer elsewhere.Close()

	t.Run("same origin", func(t *testing.T) {
		var result socketResult
		openTab(t, g.url).eval(fmt.Sprintf(openWebSocket, socketURL, task), &result)
		if !result.Opened || len(result.Types) != 6 || result.Types[0] != "SUBSCRIPTION_CONFIRMED" || result.Code != 1000 {
			t.Errorf("%+v", result)
		}
		if answered := g.exchanges("/ws"); len(answered) != 1 || answered[0].status != http.StatusSwitchingProtocols || answered[0].origin != g.url {
			t.Errorf("%+v", answered)
		}
	})
	t.Run("foreign origin", func(t *testing.T) {
		before := len(g.exchanges("/ws"))
		var result socketResult
		openTab(t, elsewhere.URL).eval(fmt.Sprintf(openWebSocket, socketURL, task), &result)
		if result.Opened || len(result.Types) != 0 {
			t.Errorf("%+v", result)
		}
		if answered := g.exchanges("/ws")[before:]; len(answered) != 1 || answered[0].status != http.StatusForbidden || answered[0].origin != elsewhere.URL {
			t.Errorf("%+v", answered)
		}
	})
	t.Run("opaque origin", func(t *testing.T) {
		before := len(g.exchanges("/ws"))
		var result socketResult
		openTab(t, elsewhere.URL+"/opaque").eval(fmt.Sprintf(openWebSocket, socketURL, task), &result)
		if result.Opened {
			t.Errorf("%+v", result)
		}
		if answered := g.exchanges("/ws")[before:]; len(answered) != 1 || answered[0].status != http.StatusForbidden || answered[0].origin != "null" {
			t.Errorf("%+v", answered)
		}
	})
	// SSE and polling from a foreign origin are CORS's business: the demo host
	// lets everybody read, since no cookie is involved.
	t.Run("EventSource from a foreign origin", func(t *testing.T) {
		p := openTab(t, elsewhere.URL)
		p.eval(fmt.Sprintf(openEventSource, streamURL(g.url, task, "")), nil)
		p.wait(`source.readyState === 2`)
		p.seen().wholeLog(t, 5)
	})
}
