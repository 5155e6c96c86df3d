package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/internal/smuggling"
)

// Behind proxies that share their connections to the host among all clients, no
// request is executed that the proxy has not seen, whatever a client puts into
// its bodies: on the bridge's routes and on a host's that do not care, by any
// method, framing and answer.
func TestNothingIsSmuggledPastAProxy(t *testing.T) {
	t.Parallel()
	site, err := os.ReadFile("nginx-recommended.conf")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(site), "proxy_http_version 1.1;", "proxy_http_version 1.1;\nproxy_set_header X-Via nginx;")
	proxies := map[string]func(t *testing.T, host string) string{
		"nginx": func(t *testing.T, host string) string { return startNginxWith(t, text, host) },
		// The body passes as it comes, with its chunks.
		"nginx, unbuffered": func(t *testing.T, host string) string {
			return startNginxWith(t, strings.ReplaceAll(text, "proxy_http_version", "proxy_request_buffering off;\nproxy_http_version"), host)
		},
		"haproxy": func(t *testing.T, host string) string {
			return startHAProxy(t, "haproxy-recommended.cfg", host, "    http-request set-header X-Via haproxy\n")
		},
	}
	settings := map[string][]string{
		"as recommended":   {},
		"Fiber's defaults": {"-stream=false", "-parse"},
	}
	for proxyName, start := range proxies {
		for settingName, flags := range settings {
			t.Run(proxyName+"/"+settingName, func(t *testing.T) {
				t.Parallel()
				host := startProgram(t, &carelessBinary, flags...)
				smuggle(t, host.url, start(t, host.url))
			})
		}
	}
}

// smuggle sends the whole matrix through proxy, and looks at host for what it
// has not sent.
func smuggle(t *testing.T, host, proxy string) {
	t.Helper()
	over, last := finishedTask(t, proxy)
	const api = "/api/v1/tasks"
	targets := []string{
		"/ignores", "/nothing", "/fails", "/panics", "/late", "/reads", "/parses", "/closes", "/resets", "/begins", "/streams",
		"/file", "/denied", "/limited", "/missing", "/health", "/ready",
		api, api + "/" + over, api + "/" + over + "/events", api + "/" + over + "/events/stream",
		api + "/" + over + "/events/stream?lastEventId=" + last, api + "/aaaaaaaaaaaaaaaa/events/stream",
		api + "/" + over + "/cancel", api + "/" + over + "/actions", api + "/ws",
	}
	address := strings.TrimPrefix(proxy, "http://")
	victims := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: patience}
	defer victims.CloseIdleConnections()
	for _, target := range targets {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
			for _, framing := range smuggling.Framings() {
				what := method + " " + target + ", " + framing.Name
				attack(t, address, method, target, framing)
				// Somebody else comes next, on the same connection to the host.
				for range 2 {
					got, err := ask(victims, proxy+"/marker")
					if err != nil || got != "200 marker" {
						t.Errorf("after %s: somebody else gets %s, %v", what, got, err)
					}
				}
				if t.Failed() && len(smuggled(t, host)) > 0 {
					t.Fatalf("after %s: executed unsent: %q", what, smuggled(t, host))
				}
			}
		}
	}
	if unsent := smuggled(t, host); len(unsent) > 0 {
		t.Errorf("%d requests were executed that nobody has sent: %.500q", len(unsent), unsent)
	}
}

// attack sends one request and waits for its answer, whatever that is.
func attack(t *testing.T, address, method, target string, framing smuggling.Framing) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var sent sync.WaitGroup
	defer sent.Wait()
	defer conn.Close()
	sent.Go(func() {
		_ = framing.Write(conn, method, target, "X-User: mallory\r\nOrigin: http://a.example\r\nAccess-Control-Request-Method: POST\r\n",
			smuggling.Body("/canary"))
	})
	in := bufio.NewReader(conn)
	for {
		response, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return // a proxy may refuse it, by closing
		}
		if response.StatusCode != http.StatusContinue {
			_, _ = io.Copy(io.Discard, response.Body)
			return
		}
	}
}

func ask(client *http.Client, address string) (string, error) {
	response, err := client.Get(address)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %s", response.StatusCode, body), err
}

// smuggled asks the host, past the proxy, for the requests that came past it.
func smuggled(t *testing.T, host string) (lines []string) {
	t.Helper()
	call(t, http.MethodGet, host+"/smuggled", nil, http.StatusOK, &lines)
	return lines
}

// finishedTask makes a task of mallory's that is over, and returns its id and
// its last event's.
func finishedTask(t *testing.T, base string) (id, last string) {
	t.Helper()
	do := func(method, path, body string, into any) {
		t.Helper()
		request, err := http.NewRequest(method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-User", "mallory")
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	var created struct{ TaskID string }
	do(http.MethodPost, "/api/v1/tasks", `{"clientRequestId":"r","taskType":"nothing"}`, &created)
	eventually(t, "the task is over", func() bool {
		var snapshot struct{ Status, LastEventID string }
		do(http.MethodGet, "/api/v1/tasks/"+created.TaskID, "", &snapshot)
		last = snapshot.LastEventID
		return snapshot.Status == "COMPLETED"
	})
	return created.TaskID, last
}
