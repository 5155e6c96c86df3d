package readers

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

var rounds = flag.Int("rounds", 200, "streams that each client reads to their end, with a POST after each")

// TestPoolsNeverRunIntoTheEnd: a client that pools connections posts right after
// a stream's end, and must not do so on the connection that ends with it.
func TestPoolsNeverRunIntoTheEnd(t *testing.T) {
	h := startHost(t, fiberbridge.SSEConfig{Heartbeat: time.Millisecond})
	_, path := h.stream(t, "talk")
	for name, pool := range map[string]func(t *testing.T) string{
		"Go net/http":  func(t *testing.T) string { return poolGo(t, h.url, path) },
		"Node's fetch": func(t *testing.T) string { return node(t, "pool.mjs", h.url, path, strconv.Itoa(*rounds)) },
		"PyPI httpx":   func(t *testing.T) string { return python(t, "pool.py", h.url, path, strconv.Itoa(*rounds)) },
	} {
		t.Run(name, func(t *testing.T) {
			if out := strings.TrimSpace(pool(t)); out != fmt.Sprintf("%d rounds, 0 failed", *rounds) {
				t.Error(out)
			} else {
				t.Log(out)
			}
		})
	}
}

func poolGo(t *testing.T, base, path string) string {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	send := func(method, url string, body io.Reader) error {
		req, err := http.NewRequestWithContext(t.Context(), method, url, body)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if _, err = io.Copy(io.Discard, res.Body); err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", res.StatusCode)
		}
		return err
	}
	failed, last := 0, ""
	for range *rounds {
		err := send(http.MethodGet, base+path, nil)
		if err == nil {
			err = send(http.MethodPost, base+"/post", strings.NewReader("x"))
		}
		if err != nil {
			failed, last = failed+1, err.Error()
		}
	}
	return fmt.Sprintf("%d rounds, %d failed %s", *rounds, failed, last)
}

// TestNodeSeesACut: undici before 7.28, and so Node 20, takes a body that was cut
// for a complete one if the answer said Connection: close.
func TestNodeSeesACut(t *testing.T) {
	h := startHost(t, fiberbridge.SSEConfig{})
	task, path := h.stream(t, "wait")
	h.cut = func() {
		if _, err := h.eng.Revoke(context.Background(), engine.Revocation{TaskID: task}); err != nil {
			t.Error(err)
		}
	}
	if out := node(t, "cut.mjs", h.url, path); strings.TrimSpace(out) != "failure" {
		t.Errorf("a cut looks like: %s", out)
	}
}
