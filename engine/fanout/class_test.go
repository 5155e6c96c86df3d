package fanout

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{}, src)
		defer closeHub(t, h)
		cfg := OutletConfig{WriteTimeout: time.Second, Heartbeat: 100 * time.Millisecond}
		stuck, creeping, leaving, refollowing := attach(h, 5, cfg), attach(h, 5, cfg), attach(h, 5, cfg), attach(h, 5, cfg)
		for _, p := range []*pipe{stuck, creeping, leaving, refollowing} {
			p.out.Follow("k", ID{}, nil)
		}
		synctest.Wait()
		src.append("k", 5, 20, false)
		synctest.Wait()
		leaving.out.End([]byte("C bye\n"))
		for range 9 {
			time.Sleep(100 * time.Millisecond)
			creeping.open(1)
			refollowing.out.Follow("k", ID{}, nil)
			stuck.out.Writable() // a false alarm is no progress
		}
		for _, p := range []*pipe{stuck, leaving, refollowing} {
			if _, ok := p.end(); ok {
				t.Fatal("ended too early")
			}
		}
		for range 3 {
			time.Sleep(100 * time.Millisecond)
			creeping.open(1)
			refollowing.out.Follow("k", ID{}, nil)
			stuck.out.Writable()
		}
		for _, p := range []*pipe{stuck, leaving, refollowing} {
			if r, ok := p.end(); !ok || r != EndSlow {
				t.Errorf("ended %v %v, want EndSlow", r, ok)
			}
			if p.text() != "E k 1"[:5] && len(p.text()) != 5 {
				t.Errorf("wrote %q", p.text())
			}
		}
		if r, ok := creeping.end(); ok {
			t.Errorf("an outlet that makes progress ended with %v", r)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{}, src)
		defer closeHub(t, h)
		p := attach(h, -1, OutletConfig{Heartbeat: 50 * time.Millisecond})
		time.Sleep(time.Second)
		if p.text() != "" {
			t.Errorf("a heartbeat without a subscription: %q", p.text())
		}
		p.out.Follow("a", ID{}, []byte("O a 0 0\n"))
		p.out.Follow("b", ID{}, []byte("O b 0 0\n"))
		time.Sleep(49 * time.Millisecond)
		if p.text() != "O a 0 0\nO b 0 0\n" {
			t.Errorf("too early: %q", p.text())
		}
		time.Sleep(2 * time.Millisecond)
		p.untilText(t, "H b\n")
		p.out.Unfollow("b", nil)
		time.Sleep(50 * time.Millisecond)
		p.untilText(t, "H a\n")
		p.out.Follow("b", ID{}, nil)
		p.out.Follow("a", ID{}, nil) // a again is the one followed last
		time.Sleep(time.Second)
		p.untilText(t, "H a\n")
		if n := strings.Count(p.text(), "H "); n < 20 || n > 23 {
			t.Errorf("%d heartbeats in 1.1s", n)
		}
		// Entries are signs of life too.
		before := strings.Count(p.text(), "H ")
		for range 50 {
			src.append("a", 1, 1, false)
			time.Sleep(20 * time.Millisecond)
		}
		if n := strings.Count(p.text(), "H ") - before; n > 1 {
			t.Errorf("%d heartbeats on a busy stream", n)
		}
		// None while parked.
		p.mu.Lock()
		p.window = 3
		p.mu.Unlock()
		src.append("a", 1, 1, false)
		time.Sleep(time.Second)
		had := strings.Count(p.text(), "H ")
		p.open(-1)
		time.Sleep(49 * time.Millisecond)
		if n := strings.Count(p.text(), "H ") - had; n != 0 {
			t.Errorf("%d heartbeats were kept for a parked outlet", n)
		}
		p.out.Unfollow("a", nil)
		p.out.Unfollow("b", nil)
		synctest.Wait()
		text := p.text()
		time.Sleep(time.Second)
		if p.text() != text {
			t.Error("a heartbeat after the last subscription")
		}
	})
}

// What a peer's application does not see does not put its heartbeats off, also
// when it is sent at the moment that one is due.
func TestHeartbeatDespiteUnseenBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{}, src)
		defer closeHub(t, h)
		const interval = 100 * time.Millisecond
		var pipes []*pipe
		for range 4 {
			p := attach(h, -1, OutletConfig{Heartbeat: interval})
			p.out.Follow("a", ID{}, nil)
			pipes = append(pipes, p)
		}
		synctest.Wait()
		for n := 1; n <= 5; n++ {
			for step := range 4 { // the last one comes with the heartbeat
				time.Sleep(interval / 4)
				for i, p := range pipes[1:] {
					if i+step >= 3 {
						p.out.SendUnseen([]byte("-\n"))
					}
				}
			}
			synctest.Wait()
			for i, p := range pipes {
				if got := strings.Count(p.text(), "H a\n"); got != n {
					t.Errorf("socket %d: %d heartbeats after %d intervals", i, got, n)
				}
			}
		}
		if got := strings.Count(pipes[3].text(), "-\n"); got != 5*3 {
			t.Errorf("%d of the unseen bytes arrived", got)
		}
		// They wait for a full sink as others do.
		p := pipes[0]
		p.mu.Lock()
		p.window = 1
		p.mu.Unlock()
		p.out.SendUnseen([]byte("one\n"))
		p.out.SendUnseen([]byte("two\n"))
		time.Sleep(3 * interval)
		p.open(-1)
		synctest.Wait()
		if !strings.HasSuffix(p.text(), "one\ntwo\n") {
			t.Errorf("a full sink got %q", p.text())
		}
	})
}
