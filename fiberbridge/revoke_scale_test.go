//go:build !race

package fiberbridge_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// TestRevocationIsFeltAmongMany ends the streams of one session among thousands,
// with no other revocation in force and with nearly as many as there can be: what
// is in force must not make it slower.
func TestRevocationIsFeltAmongMany(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	const streams, victims = 6000, 100
	host := startSessionHost(t)
	taskID := host.create(t, "tokens")
	felt := func(session string) time.Duration {
		t.Helper()
		var ended, open sync.WaitGroup
		for i := range victims {
			open.Add(1)
			ended.Go(func() {
				if err := host.untilCut(taskID, session, open.Done); err != nil {
					t.Errorf("victim %d: %v", i, err)
				}
			})
		}
		open.Wait()
		began := time.Now()
		if _, err := host.engine.Revoke(t.Context(), engine.Revocation{
			Attributes: map[string]string{"app": "web", "session": session}, Operator: true,
		}); err != nil {
			t.Fatal(err)
		}
		ended.Wait()
		return time.Since(began)
	}

	done := make(chan struct{})
	var others sync.WaitGroup
	var ready sync.WaitGroup
	for i := range streams {
		ready.Add(1)
		others.Go(func() { host.hold(t, taskID, fmt.Sprint("other ", i), ready.Done, done) })
		if i%200 == 199 {
			ready.Wait() // no more at once than the listener's backlog takes
		}
	}
	ready.Wait()
	alone := felt("first")
	for i := range 9800 {
		if _, err := host.engine.Revoke(t.Context(), engine.Revocation{
			Attributes: map[string]string{"app": "web", "session": fmt.Sprint("gone ", i)}, Operator: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	among := felt("second")
	t.Logf("%d streams of a session among %d ended after %v, with 9,800 revocations in force after %v", victims, streams, alone, among)
	// The old scan took nine times as long; a busy machine may take a second more.
	if among > 4*alone+time.Second {
		t.Errorf("with 9,800 revocations in force it takes %v, without %v", among, alone)
	}
	if got := host.engine.Hub().Stats().Outlets; got != streams {
		t.Errorf("%d streams are open, want the %d others", got, streams)
	}
	close(done)
	others.Wait()
}

// startSessionHost is a host whose callers name their session in a header.
func startSessionHost(t *testing.T) *scaleHost {
	t.Helper()
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("tokens",
		func(ctx context.Context, _ *engine.Run, _ struct{}) (struct{}, error) {
			<-ctx.Done()
			return struct{}{}, context.Cause(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		t.Fatal(err)
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{
		Engine: eng,
		Auth: func(c *fiber.Ctx) (engine.AuthContext, error) {
			return engine.AuthContext{
				Subject: "alice", Attributes: map[string]string{"app": "web", "session": c.Get("X-Session")},
			}, nil
		},
		Drain: fiberbridge.DrainConfig{NotReady: -1, Spread: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	if err := bridge.Mount(app.Group("/api/v1")); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- bridge.Serve(ctx, app, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return &scaleHost{addr: ln.Addr().String(), engine: eng}
}

// follow opens a stream of a session.
func (h *scaleHost) follow(taskID, session string) (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(conn, "GET /api/v1/tasks/%s/events/stream HTTP/1.1\r\nHost: %s\r\nX-Session: %s\r\n\r\n", taskID, h.addr, session)
	br := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(br, nil)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("sse: %s", resp.Status)
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, br, nil
}

// untilCut follows until the host ends the stream.
func (h *scaleHost) untilCut(taskID, session string, open func()) error {
	conn, br, err := h.follow(taskID, session)
	open()
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(enough))
	_, err = io.Copy(io.Discard, br)
	return err
}

// hold keeps a stream open until done is closed.
func (h *scaleHost) hold(t *testing.T, taskID, session string, ready func(), done chan struct{}) {
	conn, _, err := h.follow(taskID, session)
	ready()
	if err != nil {
		t.Error(err)
		return
	}
	<-done
	_ = conn.Close()
}
