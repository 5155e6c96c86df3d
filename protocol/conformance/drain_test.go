package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

// SIGTERM: not ready, then refusing, then every stream is told to come back and
// cut, and the process ends with 0 within -drain.
func TestDrain(t *testing.T) {
	t.Parallel()
	h, c := start(t, "-drain", "8s")
	id := c.Start("stall", `{}`)
	first := c.Poll(id, client.Poll{Wait: 10 * time.Second})
	after := *first.NextAfterEventID

	const n = 12
	heard := make([]client.Heard, n)
	told := make([]client.Told, n)
	var pages [n]client.Page
	var wg sync.WaitGroup
	for i := range n {
		s, ws := c.Follow(id, client.SSE{After: after}), c.Dial(nil)
		ws.Subscribe(id, after)
		ws.Want("SUBSCRIPTION_CONFIRMED")
		wg.Go(func() { heard[i] = s.ToEnd() })
		wg.Go(func() { told[i] = ws.ToEnd() })
		wg.Go(func() {
			var err error
			if pages[i], err = c.TryPoll(id, client.Poll{After: after, Wait: 40 * time.Second}); err != nil {
				t.Error(err)
			}
		})
	}
	idle := c.Dial(nil) // has not subscribed yet
	wg.Go(func() { idle.ToEnd() })

	began := time.Now()
	if err := h.Terminate(); err != nil {
		t.Fatal(err)
	}
	var ready, refused, passing bool
	for gone := false; !gone && time.Since(began) < client.Patience; {
		gone = watchDrain(t, c, id, &ready, &refused, &passing)
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.Patience)
	defer cancel()
	code, err := h.Wait(ctx)
	if err != nil || code != 0 {
		t.Fatalf("exit %d %v", code, err)
	}
	if took := time.Since(began); took > busy(9*time.Second) {
		t.Errorf("with -drain 8s it took %v", took)
	}
	if !ready || !refused || !passing {
		t.Errorf("seen: not ready %v, creates refused %v, streams refused in passing %v", ready, refused, passing)
	}
	wg.Wait()
	retries := map[int]bool{}
	for i := range n {
		if h := heard[i]; len(h.Closings) != 1 || h.Closings[0].Reason != "server_draining" || h.Retry == nil || !errors.Is(h.End, client.ErrCut) || len(h.Events) > 0 {
			t.Errorf("SSE: %+v", h)
		} else {
			retries[h.Closings[0].RetryAfterMs] = true
			if *h.Retry != h.Closings[0].RetryAfterMs {
				t.Errorf("retry: %d, retryAfterMs %d", *h.Retry, h.Closings[0].RetryAfterMs)
			}
		}
		if o := told[i]; len(o.Closings) != 1 || o.Closings[0].Reason != "server_draining" || !o.Cut || len(o.Events) > 0 {
			t.Errorf("WebSocket: %+v", o)
		} else {
			retries[o.Closings[0].RetryAfterMs] = true
		}
		if len(pages[i].Events) > 0 || pages[i].Gap != nil {
			t.Errorf("poll: %+v", pages[i])
		}
	}
	if len(retries) < n/2 {
		t.Errorf("not spread: %v", retries)
	}
}

// watchDrain asks a draining host and notes what it says; it reports whether
// the host is gone.
func watchDrain(t *testing.T, c *client.Client, id string, ready, refused, passing *bool) (gone bool) {
	t.Helper()
	a, err := c.Try(http.MethodGet, "/ready", nil, nil)
	if err != nil {
		return isGone(t, err)
	}
	*ready = *ready || a.Status == http.StatusServiceUnavailable

	a, err = c.Try(http.MethodPost, tasks, http.Header{"Content-Type": {"application/json"}}, []byte(create(client.FreshID(), "greet", "")))
	switch {
	case err != nil:
		return isGone(t, err)
	case a.Status == http.StatusServiceUnavailable:
		*refused = true
		if a.Error(t).Code != "SERVER_DRAINING" || a.Header.Get("Retry-After") == "" {
			t.Errorf("create: %s %v", a.Body, a.Header)
		}
	case a.Status != http.StatusCreated:
		t.Errorf("create: %d %s", a.Status, a.Body)
	case *refused:
		t.Error("a create was taken after another had been refused")
	}
	if !*refused {
		return false
	}
	s, err := c.TrySSE(id, client.SSE{})
	if err != nil {
		return isGone(t, err)
	}
	defer s.Close()
	if h := s.ToEnd(); s.Status == http.StatusOK && len(h.Events) == 0 {
		if len(h.Closings) != 1 || h.Closings[0].Reason != "server_draining" || h.Retry == nil || !errors.Is(h.End, client.ErrCut) {
			t.Errorf("a stream while draining: %+v", h)
		}
		*passing = true
	}
	return false
}

func isGone(t *testing.T, err error) bool {
	t.Helper()
	var op *net.OpError
	if errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "EOF") {
		return true
	}
	t.Error(err)
	return true
}

// A drain with nothing going on does not wait for what is not there, and a
// second signal does no harm.
func TestDrainOfAnIdleHost(t *testing.T) {
	t.Parallel()
	h, c := start(t, "-drain", "5s")
	c.Finished("greet", `{"name":"Ada"}`)
	began := time.Now()
	if err := h.Terminate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.Patience)
	defer cancel()
	if code, err := h.Wait(ctx); err != nil || code != 0 || time.Since(began) > busy(6*time.Second) {
		t.Errorf("exit %d %v after %v", code, err, time.Since(began))
	}
}

// A peer that reads nothing must not hold the drain up.
func TestDrainWithStuckPeers(t *testing.T) {
	h, c := start(t, "-drain", "5s")
	id := c.Start("tokens", `{"count":1000000,"intervalMs":0,"size":200}`)
	for range 4 {
		conn, err := h.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "GET %s/%s/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", tasks, id, c.Subject); err != nil {
			t.Fatal(err)
		}
	}
	raw := c.DialRaw(t, nil, client.MaskedFrame(true, client.OpText, fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id)))
	if raw.Response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(raw.Response.Status)
	}
	eventually(t, "much has been written", func() bool {
		s := c.Snapshot(id)
		return s.LastEventID != nil && client.Event{EventID: *s.LastEventID}.Ordinal() > 20_000
	})
	began := time.Now()
	if err := h.Terminate(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), client.Patience)
	defer cancel()
	if code, err := h.Wait(ctx); err != nil || code != 0 || time.Since(began) > busy(6500*time.Millisecond) {
		t.Errorf("exit %d %v after %v", code, err, time.Since(began))
	}
}
