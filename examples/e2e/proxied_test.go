package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

var everySite = []string{"nginx-default.conf", "nginx-recommended.conf"}

func TestStreamsThroughNginx(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, site := range everySite {
		t.Run(site, func(t *testing.T) {
			proxy := startNginx(t, site, host.url)
			start := func() string {
				return create(t, proxy, "tokens", map[string]any{"count": 20, "intervalMs": 100, "size": 20})
			}
			t.Run("SSE", func(t *testing.T) {
				task := start()
				status, events, err := readSSE(t, streamURL(proxy, task, ""))
				if status != http.StatusOK || err != nil {
					t.Fatalf("%d, ended with %v", status, err)
				}
				dense(t, events, 1, 22)
				// Coming back to the end, and into the middle.
				if status, again, err := readSSE(t, streamURL(proxy, task, events[21].EventID)); status != http.StatusNoContent || len(again) != 0 || err != nil {
					t.Errorf("after the end: %d, %d events, %v", status, len(again), err)
				}
				_, rest, err := readSSE(t, streamURL(proxy, task, events[9].EventID))
				if err != nil {
					t.Error(err)
				}
				dense(t, rest, 11, 22)
			})
			t.Run("WebSocket", func(t *testing.T) {
				events, end := readWebSocket(t, proxy, start(), "")
				if end != websocket.StatusNormalClosure {
					t.Errorf("close code %d", end)
				}
				dense(t, events, 1, 22)
			})
			t.Run("polling", func(t *testing.T) {
				dense(t, readPolls(t, proxy, start()), 1, 22)
			})
		})
	}
}

// Nothing waits in nginx until more comes or the stream ends: the task goes on
// only when the event before has arrived.
func TestEachEventComesAtOnceThroughNginx(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for _, site := range everySite {
		t.Run(site, func(t *testing.T) {
			proxy := startNginx(t, site, host.url)
			for name, read := range map[string]func(t *testing.T, task string, each func(arrived)) []arrived{
				"SSE": func(t *testing.T, task string, each func(arrived)) []arrived {
					_, events, err := readSSEWith(t, streamURL(proxy, task, ""), each)
					if err != nil {
						t.Error(err)
					}
					return events
				},
				"WebSocket": func(t *testing.T, task string, each func(arrived)) []arrived {
					events, _ := readWebSocketWith(t, proxy, task, "", each)
					return events
				},
				"polling": func(t *testing.T, task string, each func(arrived)) []arrived {
					return readPollsWith(t, proxy, task, each)
				},
			} {
				t.Run(name, func(t *testing.T) {
					task := create(t, proxy, "approval", map[string]any{"question": "Has it come?"})
					dense(t, read(t, task, func(e arrived) {
						if e.Type != "TASK_SUSPENDED" {
							return
						}
						body, err := json.Marshal(map[string]any{"clientActionId": task, "suspendId": e.Payload.SuspendID, "actionType": "approve", "payload": map[string]any{}})
						if err != nil {
							t.Fatal(err)
						}
						call(t, http.MethodPost, proxy+"/api/v1/tasks/"+task+"/actions", body, http.StatusAccepted, nil)
					}), 1, 4)
				})
			}
		})
	}
}

// A stream that ends before its task is told apart from one that is finished:
// by its closing notice through any proxy, by the cut itself through one that
// speaks HTTP/1.1 to the host.
func TestCutsThroughNginx(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	for _, site := range everySite {
		t.Run(site, func(t *testing.T) {
			proxy := startNginx(t, site, host.url)
			task := create(t, proxy, "tokens", endless)
			var events []arrived
			var err error
			intime.Try(t, 3*time.Second, func(life time.Duration) bool {
				expiring := fmt.Sprintf("alice;exp=%d", time.Now().Add(life).Unix())
				_, events, err = readSSE(t, proxy+"/api/v1/tasks/"+task+"/events/stream?access_token="+url.QueryEscape(expiring))
				return len(events) > 1
			})
			if site == "nginx-recommended.conf" && err == nil {
				t.Error("the stream was ended as if its task were over")
			}
			last := events[len(events)-1]
			if last.notice != "closing" || !strings.Contains(last.data, "auth_expired") {
				t.Fatalf("the stream ends with %+v", last)
			}
			seen := events[:len(events)-1]
			dense(t, seen, 1, len(seen))
			n := finish(t, host.url, task)
			_, rest, err := readSSE(t, streamURL(proxy, task, seen[len(seen)-1].EventID))
			if err != nil {
				t.Error(err)
			}
			dense(t, rest, len(seen)+1, n)
		})
	}
}

func TestPageThroughNginx(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	for _, site := range everySite {
		proxy := startNginx(t, site, host.url)
		for _, transport := range everyTransport {
			if site == "nginx-default.conf" && transport == "websocket" {
				continue // refused: see TestWebSocketOriginsThroughNginx
			}
			t.Run(site+"/"+transport, func(t *testing.T) {
				p := openTab(t, proxy)
				p.start(transport, "tokens", endless)
				p.waitEvents(20)
				p.press("cut")
				p.waitConnection("cut")
				cut := p.view()
				p.press("reconnect")
				p.waitEvents(cut.Events + 1)
				n := finish(t, host.url, cut.TaskID)
				p.waitStatus("CANCELLED")
				p.waitConnection("ended")
				if v := p.wholeLog(n); v.Reconnects != 1 || v.Repeats != 0 {
					t.Errorf("%d reconnects, %d repeats", v.Reconnects, v.Repeats)
				}
			})
		}
	}
}

// What breaks between nginx and the host is mended by the browser.
func TestPageThroughNginxWhenTheHostsConnectionsBreak(t *testing.T) {
	t.Parallel()
	host := startHost(t, keepsAll...)
	for _, site := range everySite {
		g := startGate(t, host.url)
		proxy := startNginx(t, site, g.url)
		for _, transport := range everyTransport {
			if site == "nginx-default.conf" && transport == "websocket" {
				continue
			}
			t.Run(site+"/"+transport, func(t *testing.T) {
				p := openTab(t, proxy)
				p.start(transport, "tokens", endless)
				p.waitEvents(20)
				before := p.view()
				g.sever()
				if transport != "poll" { // nginx asks the host once more by itself
					eventually(t, "the page comes back", func() bool { return p.view().Reconnects > before.Reconnects })
				}
				p.waitEvents(p.view().Events + 1)
				n := finish(t, host.url, before.TaskID)
				p.waitStatus("CANCELLED")
				p.waitConnection("ended")
				p.wholeLog(n)
			})
		}
	}
}

func TestWebSocketOriginsThroughNginx(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	recommended := startNginx(t, "nginx-recommended.conf", host.url)
	changedHost := startNginx(t, "nginx-default.conf", host.url)
	text, err := os.ReadFile("nginx-default.conf")
	if err != nil {
		t.Fatal(err)
	}
	forwarded := startNginxWith(t, strings.ReplaceAll(string(text), `proxy_http_version 1.1;`,
		"proxy_http_version 1.1;\nproxy_set_header X-Forwarded-Host $http_host;"), host.url)

	for _, c := range []struct {
		name, proxy, origin string
		allowed             bool
	}{
		{"recommended, same origin", recommended, recommended, true},
		{"recommended, no origin", recommended, "", true},
		{"recommended, foreign", recommended, "http://elsewhere.example", false},
		{"recommended, null", recommended, "null", false},
		// nginx's default Host is the host's own address: the host cannot know
		// what the client called it.
		{"changed Host, same origin", changedHost, changedHost, false},
		{"changed Host, no origin", changedHost, "", true},
		{"changed Host, foreign", changedHost, "http://elsewhere.example", false},
		// Unless nginx says so and the app trusts it, as a Fiber app does that
		// has not switched EnableTrustedProxyCheck on.
		{"X-Forwarded-Host, same origin", forwarded, forwarded, true},
		{"X-Forwarded-Host, foreign", forwarded, "http://elsewhere.example", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, response, err := dial(ctx, c.proxy, c.origin)
			if err == nil {
				conn.CloseNow()
			}
			if c.allowed && err != nil {
				t.Errorf("refused: %v", err)
			}
			if !c.allowed && (err == nil || response == nil || response.StatusCode != http.StatusForbidden) {
				t.Errorf("not refused with 403: %v, %+v", err, response)
			}
		})
	}
}

// A client that leaves frees its place on the host although nginx stands
// between them.
func TestLeavingThroughNginxFreesThePlace(t *testing.T) {
	t.Parallel()
	host := startHost(t, "-max-streams", "1")
	for _, site := range everySite {
		t.Run(site, func(t *testing.T) {
			proxy := startNginx(t, site, host.url)
			task := create(t, proxy, "stall", nil)
			for range 3 {
				ctx, leave := context.WithCancel(t.Context())
				eventually(t, "there is a place", func() bool {
					request, err := http.NewRequestWithContext(ctx, http.MethodGet, streamURL(proxy, task, ""), nil)
					if err != nil {
						t.Fatal(err)
					}
					response, err := client.Do(request)
					if err != nil {
						t.Fatal(err)
					}
					if response.StatusCode == http.StatusOK {
						return true
					}
					_ = response.Body.Close()
					return false
				})
				leave()
			}
		})
	}
}

func TestUploadsThroughNginx(t *testing.T) {
	t.Parallel()
	host := startHost(t)
	for site, want := range map[string]int{
		"nginx-recommended.conf": http.StatusCreated,
		"nginx-default.conf":     http.StatusRequestEntityTooLarge, // nginx's own limit
	} {
		t.Run(site, func(t *testing.T) {
			proxy := startNginx(t, site, host.url)
			var body bytes.Buffer
			form := multipart.NewWriter(&body)
			for name, value := range map[string]string{"clientRequestId": site, "taskType": "greet"} {
				if err := form.WriteField(name, value); err != nil {
					t.Fatal(err)
				}
			}
			part, err := form.CreateFormFile("attachments", "picture.png")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := part.Write(make([]byte, 3<<20)); err != nil {
				t.Fatal(err)
			}
			if err := form.Close(); err != nil {
				t.Fatal(err)
			}
			response, err := client.Post(proxy+"/api/v1/tasks?access_token=alice", form.FormDataContentType(), &body)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s, want %d", response.Status, want)
			}
		})
	}
}
