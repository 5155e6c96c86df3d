package fiberbridge

import (
	"context"
	"slices"
	"testing"
	"time"
)

// parted returns a socket whose only subscription is over, and which stays open
// for a further one for as long as the test likes.
func parted(t *testing.T, adjust func(*Config)) (h *streamHost, c *wsClient, task string) {
	t.Helper()
	h = startHost(t, hostSetup{shut: true, bridge: func(c *Config) {
		c.Drain.NotReady, c.Drain.Spread = -1, -1
		if adjust != nil {
			adjust(c)
		}
	}})
	h.bridge.streams.partTime = instant(patience)
	run := h.task(t)
	complete(t, run)
	task = run.Task().ID
	c = h.ws(t)
	c.subscribe(t, task)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
	if m := c.next(t); m.Type != "TASK_COMPLETED" {
		t.Fatalf("got %s", m)
	}
	h.awaitParting(t)
	return h, c, task
}

// awaitParting waits for the host to know that the subscription is over: the client
// may read the last event before.
func (h *streamHost) awaitParting(t *testing.T) {
	t.Helper()
	await(t, "the socket parts", func() bool {
		parting := false
		h.each(func(w *wsStream) {
			w.mu.Lock()
			defer w.mu.Unlock()
			parting = w.parting
		})
		return parting
	})
}

func shutDown(t *testing.T, h *streamHost) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.bridge.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// The client of one task has it over before its next subscribe frame arrives.
func TestWSSubscribeBehindTheEnd(t *testing.T) {
	h, c, first := parted(t, nil)
	run := h.task(t)
	second := run.Task().ID
	c.subscribe(t, second)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", second)
	if m := c.expect(t, "SUBSCRIPTION_ENDED", first); m.Reason != "terminal" {
		t.Errorf("got %s", m)
	}
	complete(t, run)
	if m := c.next(t); m.Type != "TASK_COMPLETED" || m.TaskID != second {
		t.Errorf("got %s", m)
	}
	if m := c.expect(t, "SUBSCRIPTION_ENDED", second); m.Reason != "terminal" {
		t.Errorf("got %s", m)
	}
	shutDown(t, h)
}

// Moved back, the same task is told again, and is still the only one.
func TestWSMoveBackBehindTheEnd(t *testing.T) {
	h, c, task := parted(t, nil)
	c.subscribe(t, task)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
	if m := c.next(t); m.Type != "TASK_COMPLETED" {
		t.Fatalf("got %s", m)
	}
	h.awaitParting(t)
	shutDown(t, h)
	if ids, others, code := c.events(t); code != 1000 || len(ids)+len(others) > 0 {
		t.Errorf("closed with %d after %v %v", code, ids, others)
	}
}

// Without a further frame the socket closes soon.
func TestWSEndsWithItsOnlyTask(t *testing.T) {
	h := startHost(t, hostSetup{})
	run := h.task(t)
	complete(t, run)
	for _, cursor := range [][]string{nil, {h.ids(t, run.Task().ID)[0]}} {
		c := h.ws(t)
		c.subscribe(t, run.Task().ID, cursor...)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
		if ids, others, code := c.events(t); code != 1000 || len(ids) != 1-len(cursor) || len(others) > 0 {
			t.Errorf("after %v: closed with %d, %v %v", cursor, code, ids, others)
		}
	}
}

// What ends a socket meanwhile finds it at its end: nothing is left to come back
// for.
func TestWSEndedBehindTheEnd(t *testing.T) {
	for name, end := range map[string]func(h *streamHost){
		"draining": func(h *streamHost) { shutDown(t, h) },
		"expired":  func(h *streamHost) { h.each((*wsStream).expired) },
		"too old": func(h *streamHost) {
			h.each(func(w *wsStream) { w.endFor(closingMaxAge, time.Second) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, c, _ := parted(t, nil)
			end(h)
			if ids, others, code := c.events(t); code != 1000 || len(ids)+len(others) > 0 {
				t.Errorf("closed with %d after %v %v", code, ids, others)
			}
			shutDown(t, h)
		})
	}
}

// An unsubscribe makes it a socket of several, which stays for IdleTimeout; a
// subscribe that is refused does not.
func TestWSFramesBehindTheEnd(t *testing.T) {
	h, c, task := parted(t, func(c *Config) { c.WebSocket.IdleTimeout = 50 * time.Millisecond })
	c.subscribe(t, "0000000000000000")
	c.expect(t, "SUBSCRIPTION_REJECTED", "0000000000000000")
	c.send(t, `{"action":"unsubscribe","taskId":"`+task+`"}`)
	c.expect(t, "SUBSCRIPTION_ENDED", task)
	if ids, others, code := c.events(t); code != 1000 || len(ids)+len(others) > 0 {
		t.Errorf("closed with %d after %v %v", code, ids, others)
	}
	shutDown(t, h)
}

// each calls f for every open WebSocket.
func (h *streamHost) each(f func(*wsStream)) {
	s := h.bridge.streams
	s.mu.Lock()
	open := slices.Clone(s.subscribers)
	s.mu.Unlock()
	for _, st := range open {
		if w, ok := st.self().(*wsStream); ok {
			f(w)
		}
	}
}
