package fiberbridge

import (
	"context"
	"sync"
	"testing"
	"time"
)

// Heartbeats come whatever goes over the wire that a page cannot see: here the
// client's pings and our pongs follow one another in a fraction of an interval.
func TestWSHeartbeatsBesidePings(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.WebSocket.Heartbeat = 300 * time.Millisecond }})
	task := h.task(t).Task().ID
	var all sync.WaitGroup
	for range 4 {
		c := h.ws(t)
		c.subscribe(t, task)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		ctx, stop := context.WithCancel(c.ctx)
		all.Go(func() {
			pace := time.NewTicker(25 * time.Millisecond) // 40 a second, of the 50 that are allowed
			defer pace.Stop()
			for ctx.Err() == nil {
				<-pace.C
				if err := c.Ping(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("ping: %v", err)
					return
				}
			}
		})
		all.Go(func() {
			defer c.CloseNow()
			defer stop() // first
			for range 3 {
				if m, err := c.read(); err != nil || m.Type != "HEARTBEAT" {
					t.Errorf("got %s, %v", m, err)
					return
				}
			}
		})
	}
	all.Wait()
}
