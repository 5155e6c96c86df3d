package fanout

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// attach opens an outlet on a new pipe.
func attach(h *Hub, window int, cfg OutletConfig) *pipe {
	p := newPipe(window)
	cfg.Framing = textFraming{}
	p.out = h.Open(p, cfg)
	return p
}

func opening(key string, at ID) []byte {
	return fmt.Appendf(nil, "O %s %d %d\n", key, at.Millis, at.Ordinal)
}

func mustParse(t *testing.T, p *pipe) *transcript {
	t.Helper()
	p.verify(t)
	tr, err := parse(p.text(), true)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func entries(text string) int { return strings.Count("\n"+text, "\nE ") }

func TestLoneEventAtOnceThenOneWriteAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{FlushInterval: 100 * time.Millisecond}, src)
		defer closeHub(t, h)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, nil)
		time.Sleep(time.Second)
		began := time.Now()
		for range 100 {
			src.append("k", 1, 10, false)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := entries(p.text()); n != 100 {
			t.Fatalf("%d entries", n)
		}
		if d := p.times[0].Sub(began); d != 0 {
			t.Errorf("the first entry waited %v", d)
		}
		if n := len(p.times); n < 9 || n > 12 {
			t.Errorf("%d writes in a second, with 100ms between them", n)
		}
		for i := 1; i < len(p.times); i++ {
			if d := p.times[i].Sub(p.times[i-1]); d < 100*time.Millisecond || d > 125*time.Millisecond {
				t.Errorf("write %d came after %v", i, d)
			}
		}
	})
}

func TestNegativeFlushIntervalWritesAlwaysAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{FlushInterval: -1}, src)
		defer closeHub(t, h)
		p := attach(h, -1, OutletConfig{})
		p.out.Follow("k", ID{}, nil)
		for i := range 10 {
			src.append("k", 1, 10, false)
			synctest.Wait()
			if n := entries(p.text()); n != i+1 {
				t.Fatalf("after %d entries %d are written", i+1, n)
			}
		}
	})
}

func TestManyKeysOneWriteAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{FlushInterval: 100 * time.Millisecond}, src)
		defer closeHub(t, h)
		p := attach(h, -1, OutletConfig{})
		for i := range 64 {
			key := fmt.Sprint("k", i)
			p.out.Follow(key, ID{}, opening(key, ID{}))
		}
		time.Sleep(time.Second)
		p.mu.Lock()
		p.times = nil
		p.mu.Unlock()
		for range 100 {
			for i := range 64 {
				src.append(fmt.Sprint("k", i), 1, 10, false)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := entries(p.text()); n != 6400 {
			t.Fatalf("%d entries", n)
		}
		mustParse(t, p)
		if p.largest > 64<<10 {
			t.Errorf("a write of %d bytes", p.largest)
		}
		// Each interval's 640 entries fit one write.
		if n := len(p.times); n > 14 {
			t.Errorf("%d writes in a second, with 100ms between them", n)
		}
	})
}

func TestKeysOfOneOutletTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.append("big", 500, 100, false)
		src.append("small", 10, 10, false)
		h := mustHub(t, Config{FlushBytes: 512, PageEntries: 10, Loops: 1}, src)
		defer closeHub(t, h)
		p := attach(h, 0, OutletConfig{})
		p.out.Follow("big", ID{}, opening("big", ID{}))
		p.out.Follow("small", ID{}, opening("small", ID{}))
		for !strings.Contains(p.text(), " 10 0 ") {
			p.open(512)
			time.Sleep(time.Millisecond)
			if len(p.text()) > 20_000 {
				t.Fatal("the small log waits for the big one")
			}
		}
		p.open(-1)
		time.Sleep(time.Second)
		if n := entries(p.text()); n != 510 {
			t.Errorf("%d entries", n)
		}
		if p.largest > 512 {
			t.Errorf("a write of %d bytes", p.largest)
		}
		mustParse(t, p)
	})
}

func TestBufferIsSharedAndNeverChanged(t *testing.T) {
	src := newSource()
	h := mustHub(t, Config{Loops: 1}, src)
	defer closeHub(t, h)
	var sinks []*holdingSink
	for range 50 {
		s := &holdingSink{pipe: newPipe(-1)}
		s.out = h.Open(s, OutletConfig{Framing: textFraming{}})
		s.out.Follow("k", ID{}, nil)
		sinks = append(sinks, s)
	}
	for range 5 {
		src.append("k", 3, 100, false)
	}
	buffers := map[*byte]int{}
	for _, s := range sinks {
		s.until(t, "15 entries", func() bool { return entries(s.text()) == 15 })
		s.mu.Lock()
		for i, b := range s.held {
			buffers[unsafe.SliceData(b)]++
			if string(b) != s.copies[i] {
				t.Error("a shared buffer was changed")
			}
		}
		s.mu.Unlock()
	}
	if len(buffers) > 10 {
		t.Errorf("50 outlets at one cursor got %d buffers", len(buffers))
	}
}

// holdingSink keeps the slices that it was given.
type holdingSink struct {
	*pipe
	held   [][]byte
	copies []string
}

func (s *holdingSink) TryWrite(b []byte) (int, error) {
	s.mu.Lock()
	s.held = append(s.held, b)
	s.copies = append(s.copies, string(b))
	s.mu.Unlock()
	return s.pipe.TryWrite(b)
}

func TestControlBytesNeverLandInsideAnEntry(t *testing.T) {
	for window := range 120 {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			h := mustHub(t, Config{FlushInterval: -1}, src)
			defer closeHub(t, h)
			p := attach(h, window, OutletConfig{})
			p.out.Follow("k", ID{}, opening("k", ID{}))
			src.append("k", 3, 20, false)
			synctest.Wait()
			p.out.Send([]byte("C 1\n"))
			p.out.Follow("other", ID{}, opening("other", ID{}))
			src.append("other", 2, 20, false)
			p.out.Send([]byte("C 2\n"))
			p.out.Unfollow("k", []byte("U k\n"))
			p.out.Unfollow("k", []byte("U never\n"))
			src.append("k", 3, 20, false)
			synctest.Wait()
			for range 400 {
				p.open(1)
				synctest.Wait()
			}
			p.out.End([]byte("C end\n"))
			p.open(-1)
			synctest.Wait()
			tr := mustParse(t, p)
			if got := strings.Join(tr.order, ","); got != "C 1,C 2,C end" {
				t.Errorf("window %d: control bytes %q", window, got)
			}
			if r := tr.keys["other"]; r == nil || len(r.had) != 2 {
				t.Errorf("window %d: %q", window, p.text())
			}
			if r, ok := p.end(); !ok || r != EndAsked {
				t.Errorf("window %d: ended %v %v", window, r, ok)
			}
		})
	}
}

func TestPendingControlBytesAreBounded(t *testing.T) {
	h := mustHub(t, Config{}, newSource())
	defer closeHub(t, h)
	p := attach(h, 1, OutletConfig{})
	for range 1100 {
		p.out.Send(make([]byte, 64))
	}
	p.untilEnded(t, EndSlow)
	q := attach(h, 1, OutletConfig{})
	for range 1000 {
		q.out.Send(make([]byte, 64))
	}
	q.open(-1)
	q.until(t, "all bytes", func() bool { return len(q.text()) == 64_000 })
}

func TestFinishedThenEnd(t *testing.T) {
	for _, window := range []int{-1, 30} {
		synctest.Test(t, func(t *testing.T) {
			src := newSource()
			h := mustHub(t, Config{}, src)
			defer closeHub(t, h)
			p := attach(h, window, OutletConfig{})
			p.onFinished = func(string) { p.out.End([]byte("C end\n")) }
			p.out.Follow("k", ID{}, opening("k", ID{}))
			src.append("k", 5, 10, true)
			synctest.Wait()
			p.open(-1)
			p.untilEnded(t, EndAsked)
			tr := mustParse(t, p)
			if !strings.HasSuffix(p.text(), "C end\n") || !tr.keys["k"].over || len(p.finished) != 1 {
				t.Errorf("%q, finished %v", p.text(), p.finished)
			}
			// At the end already: the same, without an entry.
			q := attach(h, -1, OutletConfig{})
			q.onFinished = func(string) { q.out.End([]byte("C end\n")) }
			q.out.Follow("k", src.log("k").last(), nil)
			q.untilEnded(t, EndAsked)
			if q.text() != "C end\n" {
				t.Errorf("%q", q.text())
			}
		})
	}
}

func TestCallbacksMayCallTheOutlet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.fault = func(call, key string) error {
			if key == "missing" {
				return fmt.Errorf("no: %w", ErrNotFound)
			}
			return nil
		}
		h := mustHub(t, Config{Loops: 1, Linger: -1}, src)
		defer closeHub(t, h)
		src.append("a", 3, 5, true)
		src.append("b", 3, 5, true)
		p := attach(h, -1, OutletConfig{})
		n := 0
		p.onWrite = func() {
			p.out.Writable()
			if n++; n < 4 {
				p.out.Send([]byte("C w\n"))
			}
		}
		p.onFinished = func(key string) {
			p.out.Unfollow(key, []byte("C never\n"))
			if key == "a" {
				p.out.Follow("missing", ID{}, opening("missing", ID{}))
				return
			}
			p.out.End([]byte("C end\n"))
			p.out.Send([]byte("C never\n"))
			p.out.Follow("a", ID{}, []byte("C never\n"))
		}
		p.onFailed = func(string) { p.out.Follow("b", ID{}, opening("b", ID{})) }
		p.onEnded = func(EndReason) {
			p.out.Gone()
			p.out.Writable()
			p.out.Send([]byte("C never\n"))
			p.out.Follow("a", ID{}, nil)
			p.out.End(nil)
		}
		p.out.Follow("a", ID{}, opening("a", ID{}))
		p.untilEnded(t, EndAsked)
		synctest.Wait()
		tr := mustParse(t, p)
		if strings.Contains(p.text(), "never") || !tr.keys["b"].over {
			t.Errorf("%q", p.text())
		}
		if !errors.Is(p.failed["missing"], ErrNotFound) {
			t.Errorf("failed: %v", p.failed)
		}
		if s := h.Stats(); s.Outlets != 0 || s.Subscriptions != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestGoneEndsAtOnceAndFreesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{Linger: -1}, src)
		defer closeHub(t, h)
		var pipes []*pipe
		for i := range 300 {
			p := attach(h, -1, OutletConfig{Heartbeat: time.Second})
			if i%3 == 1 {
				p.mu.Lock()
				p.window = 4
				p.mu.Unlock()
			}
			p.out.Follow("k", ID{}, opening("k", ID{}))
			p.out.Follow(fmt.Sprint("k", i%7), ID{}, nil)
			pipes = append(pipes, p)
		}
		src.append("k", 5, 10, false)
		synctest.Wait()
		for i, p := range pipes {
			if i%2 == 0 {
				p.mu.Lock()
				p.broken = errBroken
				p.mu.Unlock()
				p.open(1)
			} else {
				go p.out.Gone()
				go p.out.Writable()
				go p.out.Gone()
			}
		}
		src.append("k", 5, 10, false)
		time.Sleep(time.Minute)
		for _, p := range pipes {
			p.untilEnded(t, EndGone)
			p.verify(t)
		}
		if s := h.Stats(); s != (Stats{}) {
			t.Errorf("%+v", s)
		}
	})
}

func TestSinkThatLiesAboutHowMuchItTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		h := mustHub(t, Config{}, src)
		defer closeHub(t, h)
		for _, n := range []int{-5, 1 << 20} {
			p := &lyingSink{pipe: newPipe(-1), n: n}
			p.out = h.Open(p, OutletConfig{Framing: textFraming{}})
			p.out.Follow("k", ID{}, opening("k", ID{}))
			src.append("k", 5, 10, false)
			time.Sleep(time.Second)
			p.out.Writable()
			synctest.Wait()
		}
	})
}

type lyingSink struct {
	*pipe
	n int
}

func (s *lyingSink) TryWrite([]byte) (int, error) { return s.n, nil }

func TestFramingThatCannotBeAKey(t *testing.T) {
	src := newSource()
	h := mustHub(t, Config{}, src)
	defer closeHub(t, h)
	p := newPipe(-1)
	p.out = h.Open(p, OutletConfig{Framing: sliceFraming{[]int{1}, textFraming{}}})
	p.out.Follow("k", ID{}, nil)
	src.append("k", 1, 1, false)
	p.until(t, "an entry", func() bool { return entries(p.text()) == 1 })

	q := newPipe(-1)
	h.Open(q, OutletConfig{})
	q.untilEnded(t, EndHub)
}

type sliceFraming struct {
	_ []int
	textFraming
}
