package fiberbridge_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// A drain goes in steps: not ready while everything still works, then refusing
// new work while polls return and streams are cut, then the end.
func TestShutdownInSteps(t *testing.T) {
	t.Parallel()
	// What is done in the first step has to be through before the second.
	first := intime.For(t, time.Second, func() {
		h := newHTTPHost(t, nil)
		h.create(t, "words", `{"words":["a"]}`)
		h.send(t, httptestGet("/ready"))
	})
	h := newHTTPHost(t, func(o *hostOptions) {
		o.bridge.Drain = fiberbridge.DrainConfig{NotReady: first, Spread: -1}
	})
	base, client := h.listen(t)
	id := h.create(t, "words", `{"words":["a"]}`)
	h.until(t, id, "COMPLETED")
	last := *h.poll(t, id, "").NextAfterEventID

	parked := make(chan reply, 1)
	go func() {
		resp, err := client.Do(newRequest("GET", base+"/tasks/"+id+"/events?waitTimeoutMs=60000&afterEventId="+last, ""))
		if err != nil {
			t.Error(err)
			parked <- reply{}
			return
		}
		parked <- read(t, resp)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	var wg sync.WaitGroup
	for range 3 { // concurrent calls wait for the same end
		wg.Go(func() {
			if err := h.bridge.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, func() bool { return h.send(t, httptestGet("/ready")).status == 503 })
	if r := h.send(t, httptestGet("/ready")); !strings.Contains(r.body, `"not_ready"`) || !strings.Contains(r.body, "shutting down") {
		t.Error(r)
	}
	// In the first step everything works.
	if r := h.do(t, "POST", "/tasks", `{"clientRequestId":"late","taskType":"words"}`); r.status != 201 {
		t.Error(r)
	}
	select {
	case r := <-parked:
		t.Error("the poll came back before its time", r)
	default:
	}
	var refused reply
	eventually(t, func() bool {
		refused = h.do(t, "POST", "/tasks", fmt.Sprintf(`{"clientRequestId":"n%d","taskType":"words"}`, time.Now().UnixNano()))
		return refused.status != 201
	})
	if refused.status != 503 || refused.header.Get("Retry-After") == "" || refused.code() != engine.CodeServerDraining && refused.code() != engine.CodeStoreUnavailable {
		t.Error(refused)
	}
	if r := <-parked; r.status != 200 || !strings.Contains(r.body, `"events":[]`) {
		t.Error(r)
	}
	wg.Wait()
	// Over: called again it says so at once, and requests get clear answers.
	if err := h.bridge.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/tasks/" + id, "/tasks/" + id + "/events", "/tasks/" + id + "/events/stream"} {
		if r := h.do(t, "GET", path, ""); r.status != 503 || r.header.Get("Retry-After") == "" || r.code() == "" {
			t.Error(path, r)
		}
	}
	if r := h.send(t, httptestGet("/health")); r.status != 200 {
		t.Error(r)
	}
}

// An open stream does not hold the shutdown up, and is cut with a notice.
func TestShutdownCutsStreams(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, nil)
	base, _ := h.listen(t)
	id := h.create(t, "stall", "")
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), h.prefix))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(enough))
	fmt.Fprintf(conn, "GET %s/tasks/%s/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nAccept: text/event-stream\r\n\r\n", h.prefix, id)
	lines := bufio.NewScanner(conn)
	for lines.Scan() && !strings.Contains(lines.Text(), "TASK_STARTED") {
	}
	if _, err := h.engine.Cancel(t.Context(), engine.AuthContext{Subject: "bob"}, id, ""); err == nil {
		t.Fatal("bob may cancel")
	}
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), enough)
		defer cancel()
		done <- h.bridge.Shutdown(ctx)
	}()
	var got strings.Builder
	for lines.Scan() {
		got.WriteString(lines.Text() + "\n")
	}
	if !strings.Contains(got.String(), "server_draining") || strings.Contains(got.String(), "TASK_FAILED") {
		t.Errorf("%s", got.String())
	}
	// The shutdown still waits for the task.
	if _, err := h.engine.Cancel(t.Context(), engine.AuthContext{Subject: "alice"}, id, ""); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Too little time: the caller hears of it, and may call again.
func TestShutdownOutOfTime(t *testing.T) {
	t.Parallel()
	h := newHTTPHost(t, func(o *hostOptions) {
		o.bridge.Drain = fiberbridge.DrainConfig{NotReady: time.Hour, Spread: time.Hour}
	})
	id := h.create(t, "stall", "")
	over, cancel := context.WithCancel(context.Background())
	cancel()
	begin := time.Now()
	if err := h.bridge.Shutdown(over); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took > enough/2 {
		t.Errorf("took %v", took)
	}
	if _, err := h.engine.Cancel(t.Context(), engine.AuthContext{Subject: "alice"}, id, ""); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), enough/4) // a fifth of it in the first step
	defer cancel()
	if err := h.bridge.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
