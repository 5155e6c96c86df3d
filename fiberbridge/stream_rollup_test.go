package fiberbridge

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// slowConn hands over little at a time, and nothing before begin, if that is
// set.
type slowConn struct {
	net.Conn
	step  int
	pause *time.Ticker
	begin <-chan struct{}
}

func (c *slowConn) Read(p []byte) (int, error) {
	if c.begin != nil {
		<-c.begin
	}
	<-c.pause.C
	return c.Conn.Read(p[:min(len(p), c.step)])
}

// tokenText reads an event's text; ok is false for anything but TASK_MESSAGE.
func tokenText(t *testing.T, data string) (text string, ok bool) {
	t.Helper()
	var ev struct {
		Type    string
		Payload engine.Message
	}
	if err := json.Unmarshal([]byte(data), &ev); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return ev.Payload.Text, ev.Type == string(engine.TypeMessage)
}

// TestStreamSlowReaderCatchesUp: with roll-up a reader that comes late, and takes
// 200 KB/s of a stream that is 4 MB long in single tokens, is at its end in a
// fraction of the time; the text is the same. Who keeps up sees every event.
func TestStreamSlowReaderCatchesUp(t *testing.T) {
	for _, over := range []string{"tcp", "tls"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			h := startHost(t, hostSetup{
				over:   over,
				rollUp: []string{"test"},
				store:  memstore.Config{MaxStreamLength: 30000, MaxStreamBytes: 64 << 20},
			})
			run := h.task(t)
			path := ssePath(run.Task().ID)
			fast := h.get(t, path)
			pause := time.NewTicker(20 * time.Millisecond)
			defer pause.Stop()
			conn := h.connect(t)
			if tcp, ok := conn.(*net.TCPConn); ok {
				if err := tcp.SetReadBuffer(8 << 10); err != nil {
					t.Fatal(err)
				}
			}
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\r\n", path)
			limited := &slowConn{Conn: conn, step: 4 << 10, pause: pause}
			slow := readHead(t, limited, "HTTP/1.1")
			late := make(chan struct{})
			limited.begin = late

			const tokens = 20000
			var want strings.Builder
			// Fewer tokens are on their way to the one who keeps up than a socket
			// takes, however busy the machine is.
			under, gone := make(chan struct{}, 64), make(chan struct{})
			go func() {
				for i := range tokens {
					if i == tokens*3/4 {
						close(late)
					}
					select {
					case under <- struct{}{}:
					case <-gone:
					}
					run.Stream(engine.Message{Text: fmt.Sprintf("%07d,", i)})
				}
				_ = run.Emit(run.Context(), engine.Completed{})
			}()
			for i := range tokens {
				fmt.Fprintf(&want, "%07d,", i)
			}
			all := make(chan int)
			go func() {
				defer close(all)
				n := 0
				for {
					b, err := fast.read()
					if err != nil {
						close(gone)
						all <- n
						return
					}
					if b.id != "" {
						if n++; n <= tokens {
							<-under
						}
					}
				}
			}()

			begin := time.Now()
			blocks, clean := slow.rest(t)
			took := time.Since(begin)
			var text strings.Builder
			merged := ""
			for _, b := range blocks {
				if b.event != "" {
					t.Errorf("a notice: %+v", b)
				}
				if b.id == "" || strings.Contains(b.data, "HEARTBEAT") {
					continue
				}
				if s, ok := tokenText(t, b.data); ok {
					text.WriteString(s)
					if len(s) > 8 && merged == "" {
						merged = b.id
					}
				}
			}
			events := len(eventIDs(blocks))
			t.Logf("%d events of %d in %v", events, tokens+1, took.Round(time.Millisecond))
			if !clean || text.String() != want.String() {
				t.Errorf("clean end %v, %d bytes of text of %d", clean, text.Len(), want.Len())
			}
			if merged == "" || events > tokens/2 {
				t.Fatalf("%d events, the first merged one %q", events, merged)
			}
			if n := <-all; n != tokens+1 {
				t.Errorf("who keeps up got %d events of %d", n, tokens+1)
			}

			// A merged id is a cursor like any other: exactly the rest follows.
			var ordinal, next, millis uint64
			if _, err := fmt.Sscanf(merged, "%d-%d", &millis, &ordinal); err != nil {
				t.Fatal(err)
			}
			again := h.get(t, path, "Last-Event-ID: "+merged).event(t)
			if _, err := fmt.Sscanf(again.id, "%d-%d", &millis, &next); err != nil || next != ordinal+1 {
				t.Errorf("after %s came %s (%v)", merged, again.id, err)
			}
		})
	}
}

// TestWebSocketSlowReaderCatchesUp is the same by WebSocket, and without
// roll-up: then every event comes, however slowly.
func TestWebSocketSlowReaderCatchesUp(t *testing.T) {
	for _, rollUp := range []bool{true, false} {
		setup := hostSetup{store: memstore.Config{MaxStreamLength: 30000, MaxStreamBytes: 64 << 20}}
		if rollUp {
			setup.rollUp = []string{"other", "test"}
		}
		h := startHost(t, setup)
		run := h.task(t)
		c := h.ws(t)
		c.subscribe(t, run.Task().ID)
		const tokens = 10000
		go func() {
			for i := range tokens {
				run.Stream(engine.Message{Text: fmt.Sprintf("%07d,", i)})
			}
			_ = run.Emit(run.Context(), engine.Completed{})
		}()
		await(t, "the end of the log", func() bool {
			s, err := h.eng.Snapshot(run.Context(), engine.AuthContext{Subject: "alice"}, run.Task().ID)
			return err == nil && s.Task.Status == engine.StatusCompleted
		})
		// Long enough not to be one who only has much to catch up with.
		stalled := time.Now()
		await(t, "a while without reading", func() bool { return time.Since(stalled) > 400*time.Millisecond })
		ids, _, code := c.events(t)
		if code != 1000 {
			t.Errorf("closed with %d", code)
		}
		if rollUp == (len(ids) > tokens/2) {
			t.Errorf("roll-up %v: %d events", rollUp, len(ids))
		}
	}
}
