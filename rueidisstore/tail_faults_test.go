package rueidisstore

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// unbounded keeps everything, and does not count on sweeps.
func unbounded(c *Config) {
	c.MaxStreamLength, c.MaxStreamBytes, c.Tail.SweepInterval = 1<<20, 1<<40, time.Hour
}

func TestTailUnderTraffic(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	a := openAt(t, server, unbounded)
	tr := startTraffic(t, 10, a, openAt(t, server, func(c *Config) { *c = a.cfg }))
	time.Sleep(time.Second) // the load itself
	tr.finish()
}

func TestTailSurvivesCutConnections(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	a := openAt(t, server, unbounded)
	tr := startTraffic(t, 10, a, openAt(t, server, func(c *Config) { *c = a.cfg }))
	for i := range 150 {
		if i%10 == 0 {
			server.CutConnections()
		} else {
			server.CutConnection(rand.IntN(4))
		}
		time.Sleep(time.Duration(rand.IntN(15)) * time.Millisecond)
	}
	tr.finish()
}

func TestTailSurvivesPauses(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	a := openAt(t, server, unbounded)
	tr := startTraffic(t, 10, a, openAt(t, server, func(c *Config) { *c = a.cfg }))
	// Shorter than what a hung server is noticed by, and longer.
	for _, pause := range []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 4 * time.Second} {
		server.Pause()
		time.Sleep(pause)
		server.Resume()
		time.Sleep(100 * time.Millisecond)
	}
	tr.finish()
}

func TestTailSurvivesRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.AppendOnly("always"))
	a := openAt(t, server, unbounded)
	tr := startTraffic(t, 10, a, openAt(t, server, func(c *Config) { *c = a.cfg }))
	for range 3 {
		time.Sleep(200 * time.Millisecond)
		server.Restart()
	}
	time.Sleep(200 * time.Millisecond)
	tr.finish()
}

// A server that comes back without its newest events.
func TestTailLogGoesBack(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	b := openAt(t, server, func(c *Config) { c.Tail.SweepInterval = time.Hour })
	task, other, empty := b.create(), b.create(), b.create()
	b.append(task.ID, message("1"), message("2"))
	kept := b.append(other.ID, message("kept"))[0]
	server.Must("SAVE")
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	same, stopSame := b.follow(other.ID, engine.EventID{})
	defer stopSame()
	begun, stopBegun := b.follow(empty.ID, engine.EventID{})
	defer stopBegun()
	b.append(task.ID, message("3"), message("4"))
	b.append(empty.ID, message("1"))
	eventually(t, "all events", func() bool {
		_, n, _ := w.state()
		_, m, _ := begun.state()
		return n == 4 && m == 1
	})
	server.Restart()
	eventually(t, "Lost", func() bool { return w.losses() == 1 && begun.losses() == 1 })
	if err := b.insist(t.Context(), task.ID, message("other 3")); err != nil {
		t.Fatal(err)
	}
	if err := b.insist(t.Context(), empty.ID, message("other 1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what came after", func() bool {
		_, n, _ := w.state()
		_, m, _ := begun.state()
		return n == 5 && m == 2
	})
	w.wantTail(b, b.read(task.ID, engine.EventID{}, 10).Events[1].ID)
	if at, _, lost := same.state(); at != kept || lost != 0 {
		t.Errorf("a log that did not change: at %s, %d losses", at, lost)
	}
}

// A hole: what was trimmed before it was read.
func TestTailHole(t *testing.T) {
	t.Parallel()
	b := open(t, testConfig(t))
	task := b.create()
	at := b.append(task.ID, message("1"))[0]
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	log := b.keys.log(task.ID)
	next := func(n uint64) engine.EventID { return engine.EventID{Millis: at.Millis + n, Ordinal: at.Ordinal + n} }
	b.atomically(b.entryArgs(task.ID, next(1), message("2")), b.entryArgs(task.ID, next(3), message("3"), message("4")),
		[]string{"XTRIM", log, "MAXLEN", "1"})
	eventually(t, "what is left", func() bool { _, n, lost := w.state(); return n == 3 && lost == 1 })
	w.wantTail(b, next(1))
	// Trimmed to nothing, and trimmed after it was read: the latter is no loss.
	b.atomically(b.entryArgs(task.ID, next(4), message("5")))
	eventually(t, "the next", func() bool { _, n, _ := w.state(); return n == 4 })
	b.do("XTRIM", log, "MAXLEN", "1")
	b.atomically(b.entryArgs(task.ID, next(5), message("6")))
	eventually(t, "one more", func() bool { _, n, _ := w.state(); return n == 5 })
	if w.losses() != 1 {
		t.Errorf("%d losses, want 1", w.losses())
	}
}

// An entry that cannot be read is a hole too.
func TestTailDamagedEntry(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	var log logged
	log.into(&cfg)
	b := open(t, cfg)
	task := b.create()
	at := b.append(task.ID, message("1"))[0]
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	b.do("XADD", b.keys.log(task.ID), engine.EventID{Millis: at.Millis + 1, Ordinal: 2}.String(), "b", "\x07what", "c", "0")
	b.do(b.entryArgs(task.ID, engine.EventID{Millis: at.Millis + 2, Ordinal: 3}, message("3"))...)
	eventually(t, "the entry after it", func() bool { at, _, lost := w.state(); return at.Ordinal == 3 && lost == 1 })
	if log.count("cannot be read") == 0 {
		t.Error("nothing in the log")
	}
}

func TestTailVanishedLog(t *testing.T) {
	t.Parallel()
	b := open(t, testConfig(t))
	task := b.create()
	at := b.append(task.ID, message("1"))[0]
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	// An invalidation without anything new.
	b.do("PEXPIRE", b.keys.log(task.ID), "600000")
	b.do("DEL", b.keys.log(task.ID))
	eventually(t, "Lost", func() bool { return w.losses() == 1 })
	// It is there again.
	next := engine.EventID{Millis: at.Millis + 1, Ordinal: 7}
	b.do(b.entryArgs(task.ID, next, message("x"))...)
	eventually(t, "what came after", func() bool { at, _, lost := w.state(); return at == next && lost == 1 })
}

// Without tracking everything works, by polling, and is said once.
func TestTailWithoutTracking(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.User("poor", "on >secret ~* &* +@all -client +client|setname"))
	var log logged
	b := openAt(t, server, func(c *Config) {
		c.Redis.Username, c.Redis.Password = "poor", "secret"
		log.into(c)
	})
	task, gone := b.create(), b.create()
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	lost, stopLost := b.follow(gone.ID, engine.EventID{})
	defer stopLost()
	reasons := make(chan string, 1)
	stopListening, err := b.Listen(t.Context(), task.ID, func(s engine.Signal) { reasons <- s.CancelReason })
	if err != nil {
		t.Fatal(err)
	}
	defer stopListening()
	for range 5 {
		b.append(task.ID, message("m"))
		want := b.read(task.ID, engine.EventID{}, 1).Last
		eventually(t, "an event", func() bool { at, _, _ := w.state(); return at == want })
	}
	if _, err := b.RequestCancel(t.Context(), task.ID, "why"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a signal", func() bool { return len(reasons) > 0 })
	if got := <-reasons; got != "why" {
		t.Errorf("the reason is %q", got)
	}
	if err := b.Erase(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Lost", func() bool { return lost.losses() == 1 })
	server.CutConnections()
	b.insist(t.Context(), task.ID, message("after a cut"))
	eventually(t, "an event after a cut", func() bool { _, n, _ := w.state(); return n == 6 })
	if n := log.count("cannot track keys; new events"); n != 1 {
		t.Errorf("said %d times that it polls", n)
	}
	// Once it may, it tracks.
	server.Must("ACL", "SETUSER", "poor", "+client|tracking")
	eventually(t, "tracking", func() bool { return log.count("can track keys now") == 1 })
	b.append(task.ID, completed())
	eventually(t, "the end", w.over)
	w.wantTail(b, engine.EventID{})
}

func TestTailPollsIfTold(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	unbounded(&cfg)
	cfg.Redis.DisableCache = true
	b := open(t, cfg)
	tr := startTraffic(t, 5, b)
	time.Sleep(300 * time.Millisecond)
	tr.finish()
}

func TestTailSignalsDuringOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.AppendOnly("always"))
	// Without a sweep: what was lost must come by itself.
	a := openAt(t, server, func(c *Config) { c.Tail.SweepInterval = time.Hour })
	b := openAt(t, server, func(c *Config) { *c = a.cfg })
	tasks := make([]engine.Task, 10)
	for i := range tasks { // while there are connections
		tasks[i] = a.create()
	}
	for _, task := range tasks {
		reasons := make(chan string, 4)
		var stop func()
		eventually(t, "it listens", func() bool {
			var err error
			stop, err = a.Listen(t.Context(), task.ID, func(s engine.Signal) { reasons <- s.CancelReason })
			return err == nil
		})
		server.CutConnections()
		eventually(t, "the request is taken", func() bool {
			_, err := b.RequestCancel(t.Context(), task.ID, "why")
			return err == nil
		})
		eventually(t, "a signal", func() bool { return len(reasons) > 0 })
		if got := <-reasons; got != "why" {
			t.Errorf("the reason is %q", got)
		}
		stop()
	}
}

// Follow and Listen are bounded while Redis does not answer, and leave nothing
// behind.
func TestTailFollowWhileDown(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.AppendOnly("always"))
	b := openAt(t, server, func(c *Config) { c.CommandTimeout = time.Second })
	task := b.create()
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	server.Pause()
	for _, err := range []error{
		func() error { _, _, err := b.tryFollow(task.ID, engine.EventID{}); return err }(),
		func() error { _, err := b.Listen(t.Context(), task.ID, func(engine.Signal) {}); return err }(),
	} {
		if engine.CodeOf(err) != engine.CodeStoreUnavailable {
			t.Errorf("got %v", err)
		}
	}
	server.Kill()
	_, _, err := b.tryFollow(task.ID, engine.EventID{})
	if engine.CodeOf(err) != engine.CodeStoreUnavailable {
		t.Errorf("got %v", err)
	}
	b.tail.mu.Lock()
	if len(b.tail.units) != 1 || len(b.tail.feeds) != 1 || len(b.tail.nodes[""].units) != 1 {
		t.Errorf("%d keys, %d feeds, %d units", len(b.tail.units), len(b.tail.feeds), len(b.tail.nodes[""].units))
	}
	b.tail.mu.Unlock()
	server.Start()
	b.insist(t.Context(), task.ID, completed())
	eventually(t, "the end", w.over)
}

func TestTailUnknown(t *testing.T) {
	t.Parallel()
	b := open(t, testConfig(t))
	task := b.create()
	if err := b.Erase(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{task.ID, "", "x{y}"} {
		if _, _, err := b.tryFollow(id, engine.EventID{}); engine.CodeOf(err) != engine.CodeTaskNotFound {
			t.Errorf("Follow of %q: %v", id, err)
		}
		if _, err := b.Listen(t.Context(), id, func(engine.Signal) {}); engine.CodeOf(err) != engine.CodeTaskNotFound {
			t.Errorf("Listen to %q: %v", id, err)
		}
	}
	b.wantIdle()
}

// wantIdle fails unless nothing is read any more.
func (b *bench) wantIdle() {
	b.Helper()
	b.tail.mu.Lock()
	defer b.tail.mu.Unlock()
	if len(b.tail.units) != 0 || len(b.tail.feeds) != 0 {
		b.Errorf("%d keys and %d feeds are left", len(b.tail.units), len(b.tail.feeds))
	}
	for _, n := range b.tail.nodes {
		if len(n.units) != 0 {
			b.Errorf("%d units are left", len(n.units))
		}
	}
}

func TestTailACL(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.User("poor", "on >secret ~* &* +@all -ping"))
	b := openAt(t, server, func(c *Config) { c.Redis.Username, c.Redis.Password = "poor", "secret" })
	task := b.create()
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	b.append(task.ID, message("1"))
	eventually(t, "an event", func() bool { _, n, _ := w.state(); return n == 1 })
	// A right that is taken away: new followers are told, old ones wait.
	server.Must("ACL", "SETUSER", "poor", "-xrange")
	if _, _, err := b.tryFollow(task.ID, engine.EventID{}); engine.CodeOf(err) != engine.CodeStoreUnavailable || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("Follow without XRANGE: %v", err)
	}
	b.append(task.ID, message("2"))
	server.Must("ACL", "SETUSER", "poor", "+xrange")
	eventually(t, "the event", func() bool { _, n, _ := w.state(); return n == 2 })
}
