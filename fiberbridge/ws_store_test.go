package fiberbridge

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A store that hangs holds up neither the epoll loops nor those who wait in
// turn; a frame that came in time is not one that never came.
func TestWSSlowStore(t *testing.T) {
	t.Parallel()
	const inTime = 2 * time.Second
	release := make(chan struct{})
	h := startHost(t, hostSetup{
		bridge: func(c *Config) { c.WebSocket.SubscribeTimeout = inTime },
		wrap:   func(s engine.Store) engine.Store { return &hangingStore{Store: s, release: release} },
	})
	run := h.task(t)
	quick := h.get(t, wsPath, wsUpgrade...)
	var waiting []*wsClient
	for range 2 * commandWorkers {
		c := h.ws(t)
		c.subscribe(t, run.Task().ID)
		waiting = append(waiting, c)
	}
	// The loops still read: a ping is answered, and the one that sent no
	// subscribe frame is closed.
	if _, err := quick.conn.Write([]byte{0x89, 0x80, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	b, err := quick.raw.ReadByte()
	if err != nil || b != 0x8a && b != 0x88 {
		t.Errorf("%x %v", b, err)
	}
	last := time.Now()
	await(t, "nobody's time is left", func() bool { return time.Since(last) > inTime+inTime/10 })
	close(release)
	for _, c := range waiting {
		c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
	}
	complete(t, run)
	for _, c := range waiting {
		if ids, _, code := c.events(t); len(ids) != 1 || code != 1000 {
			t.Errorf("%v %d", ids, code)
		}
	}
}

// hangingStore reads no record for anyone but a worker until it is released.
type hangingStore struct {
	engine.Store
	release chan struct{}
}

func (s *hangingStore) Get(ctx context.Context, id string, f engine.Freshness) (engine.Task, error) {
	if f == engine.Cached {
		select {
		case <-s.release:
		case <-ctx.Done():
			return engine.Task{}, ctx.Err()
		}
	}
	return s.Store.Get(ctx, id, f)
}

func (s *hangingStore) Close() error { return s.Store.(io.Closer).Close() }
