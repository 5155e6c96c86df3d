package fiberbridge

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// A reader that is slow but never stops is not one that takes nothing: its
// window opens in steps smaller than what the kernel has for it.
func TestStreamSteadyReaderIsNotCut(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long")
	}
	t.Parallel()
	h := startHost(t, hostSetup{
		bridge:  func(c *Config) { c.Streams.WriteTimeout = 3 * time.Second },
		store:   memstore.Config{MaxStreamLength: 10000, MaxStreamBytes: 64 << 20},
		deliver: fanout.Config{RingBytes: 32 << 20},
	})
	run := h.task(t)
	slow := h.get(t, ssePath(run.Task().ID))
	if err := slow.conn.(*net.TCPConn).SetReadBuffer(8 << 10); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 10000)
	for range 1500 {
		run.Stream(engine.Message{Text: text})
	}
	complete(t, run)

	step := time.NewTicker(50 * time.Millisecond)
	defer step.Stop()
	buf := make([]byte, 4<<10)
	taken := time.Duration(0) // in time: also on a machine that skips steps it is slow, but steady
	for begin := time.Now(); time.Since(begin) < 10*time.Second; <-step.C {
		for ; taken <= time.Since(begin); taken += 50 * time.Millisecond {
			if _, err := io.ReadFull(slow.conn, buf); err != nil {
				t.Fatalf("cut after %v: %v", time.Since(begin), err)
			}
		}
	}
	slow.conn.Close()
	h.empty(t)
}
