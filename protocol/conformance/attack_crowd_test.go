package conformance_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/host"
)

// attackBudget is how much more memory than at rest a host may take under any
// of these crowds: far below what a leak of one of their buffers would cost.
const attackBudget = 200 << 20

// beside runs attack while ten subscribers, over each transport, follow a task:
// all get all of it, clean, in order and hardly later than without, and the
// host's memory stays bounded. What is without shows on a second host, which has
// the same ten at the same time on the same machine, and nobody attacks it.
func beside(t *testing.T, h *host.Host, attack func()) {
	t.Helper()
	before, err := h.PeakMemory()
	if err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	var control time.Duration
	spared := host.Start(t)
	both.Go(func() { control = followed(t, spared, func() {}) })
	took := followed(t, h, attack)
	both.Wait()
	if took > 2*control+12*time.Second {
		t.Errorf("the others' task took %v, and %v on a host that nobody attacked", took, control)
	}
	if peak, err := h.PeakMemory(); err != nil || peak > before+attackBudget {
		t.Errorf("memory grew from %d MiB to %d MiB, %v", before>>20, peak>>20, err)
	}
}

// followed is how long ten subscribers took for a task of 3 s while meanwhile
// ran; they must get all of it.
func followed(t *testing.T, h *host.Host, meanwhile func()) time.Duration {
	c := client.New(t, h.URL, subject())
	id := c.Start("tokens", `{"count":100,"intervalMs":30,"size":40}`)
	begin := time.Now()
	var attack, all sync.WaitGroup
	logs := make([][]client.Event, 10)
	for i := range logs {
		all.Go(func() {
			switch i % 3 {
			case 0:
				logs[i] = c.FollowToEnd(id, "").Events
			case 1:
				logs[i] = c.SocketToEnd(id, "").Events
			default:
				logs[i] = c.PollToEnd(id, "")
			}
		})
	}
	attack.Go(meanwhile)
	all.Wait()
	took := time.Since(begin)
	attack.Wait()
	for i, log := range logs {
		if len(log) != 102 {
			t.Errorf("subscriber %d got %d events", i, len(log))
			continue
		}
		client.CheckLog(t, id, log, 1)
	}
	return took
}

// crowd opens n connections that send head, and returns them, to be closed when
// the test ends.
func crowd(t *testing.T, base string, n int, head string) []net.Conn {
	conns := make([]net.Conn, 0, n)
	for range n {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), client.Patience)
		if err != nil {
			t.Error(err)
			break
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(client.Patience))
		if _, err := io.WriteString(conn, head); err != nil {
			t.Error(err)
			break
		}
		conns = append(conns, conn)
	}
	return conns
}

func handshake(subject string) string {
	return "GET " + tasks + "/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer " + subject + "\r\n\r\n"
}

// A thousand sockets that never subscribe are closed with 1008 in time.
func TestAttackSocketsThatNeverSubscribe(t *testing.T) {
	t.Parallel()
	// The others have to get in meanwhile.
	door := intime.For(t, 3*time.Second, func() {
		c := connect(t)
		id := c.Start("stall", `{}`)
		s := c.Dial(nil)
		s.Subscribe(id, "")
		s.Want("SUBSCRIPTION_CONFIRMED")
		c.Cancel(id, "")
	})
	h, c := start(t, "-subscribe-timeout", door.String())
	beside(t, h, func() {
		for _, conn := range crowd(t, h.URL, 1000, handshake(c.Subject)) {
			in := bufio.NewReader(conn)
			if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
				t.Errorf("%v %v", res, err)
				return
			}
			frame := make([]byte, 4)
			if _, err := io.ReadFull(in, frame); err != nil || frame[0] != 0x88 || frame[2] != 0x03 || frame[3] != 0xf0 {
				t.Errorf("% x %v", frame, err)
				return
			}
			conn.Close()
		}
	})
}

// A subscribe frame of which a byte comes now and then does not keep its
// socket, nor do pings in its place.
func TestAttackSlowSubscribeFrame(t *testing.T) {
	t.Parallel()
	_, c := start(t, "-subscribe-timeout", "1s")
	slow := client.MaskedFrame(true, client.OpText, strings.Repeat(" ", 3000))
	for name, next := range map[string]func(i int) []byte{
		"bytes": func(i int) []byte { return slow[i%len(slow) : i%len(slow)+1] },
		"pings": func(int) []byte { return client.MaskedFrame(true, client.OpPing, "x") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := c.For(t).DialRaw(t, nil, nil)
			ended := make(chan int, 1)
			go func() {
				code, err := s.CloseCode(client.Patience)
				if err != nil {
					t.Error(err)
				}
				ended <- code
			}()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case code := <-ended:
					if code != 1008 {
						t.Errorf("closed with %d", code)
					}
					return
				case <-tick.C:
					_ = s.Write(next(i)) // an error shows in how it ends
				}
			}
		})
	}
}

// Connections that say nothing, or send a header a byte at a time, are ended by
// the demo host's own times; nobody else is held up by them.
func TestAttackSlowHeaders(t *testing.T) {
	t.Parallel()
	h, c := start(t)
	beside(t, h, func() {
		conns := crowd(t, h.URL, 200, "")
		conns = append(conns, crowd(t, h.URL, 200, "GET "+tasks+" HTTP/1.1\r\nX: ")...)
		conns = append(conns, crowd(t, h.URL, 200, strings.TrimSuffix(handshake(c.Subject), "\r\n")+"X: ")...)
		done := make(chan struct{})
		var dribble sync.WaitGroup
		dribble.Go(func() {
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					for _, conn := range conns[200:] {
						_, _ = conn.Write([]byte("x")) // one that is ended refuses it
					}
				}
			}
		})
		for i, conn := range conns {
			status, err := bufio.NewReader(conn).ReadString('\n')
			if errors.Is(err, os.ErrDeadlineExceeded) || err == nil && !strings.Contains(status, " 408 ") {
				t.Errorf("connection %d: %q %v", i, status, err)
				break
			}
		}
		close(done)
		dribble.Wait()
	})
}

// Floods over one socket, and its reader takes nothing: the host keeps nothing.
func TestAttackFloods(t *testing.T) {
	t.Parallel()
	h, c := start(t)
	id := c.Start("stall", `{}`)
	defer c.Cancel(id, "")
	subscribe := string(client.MaskedFrame(true, client.OpText, fmt.Sprintf(`{"action":"subscribe","taskId":%q}`, id)))
	beside(t, h, func() {
		for name, flood := range map[string]string{
			"pings":           strings.Repeat(string(client.MaskedFrame(true, client.OpPing, strings.Repeat("x", 125))), 50_000),
			"pongs":           strings.Repeat(string(client.MaskedFrame(true, client.OpPong, "")), 200_000),
			"empty fragments": string(client.MaskedFrame(false, client.OpText, "")) + strings.Repeat(string(client.MaskedFrame(false, client.OpContinuation, "")), 200_000),
			"subscribes":      strings.Repeat(subscribe, 1000),
		} {
			conn := crowd(t, h.URL, 1, handshake(c.Subject)+subscribe)[0]
			// Cut off, or taken to its end: either is fine, and neither is kept.
			_, err := io.WriteString(conn, flood)
			t.Logf("%s: %v", name, err)
			conn.Close()
		}
	})
}
