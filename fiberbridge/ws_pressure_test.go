package fiberbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
)

// burst sends frames, each about one of the tasks, without reading.
func (c *wsClient) burst(tasks []string) (sent chan error) {
	sent = make(chan error, 1)
	go func() {
		for _, task := range tasks {
			if err := c.Write(c.ctx, 1, []byte(`{"action":"subscribe","taskId":"`+task+`"}`)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	return sent
}

// eachWSPath runs f for a socket on the fast path and on the portable one.
func eachWSPath(t *testing.T, f func(t *testing.T, portable bool)) {
	t.Helper()
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable=%v", portable), func(t *testing.T) { f(t, portable) })
	}
}

// longIDs are some of no task, so long that n of them do not fit into the buffers
// of a connection. No store is asked about them.
func longIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = strings.Repeat("x", 3900) + fmt.Sprint(i)
	}
	return ids
}

// noTasks are ids that a task could have.
func noTasks(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("nosuchtask%010d", i)
	}
	return ids
}

// A thousand subscriptions in one burst: each is answered, in its order, those
// within the limits as if it had come alone, and nothing is harmed.
func TestWSThousandAtOnce(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{bridge: func(c *Config) {
			c.WebSocket.MaxSubscriptions = 100
			c.WebSocket.FramesPerSecond = 1
		}})
		h := n.there
		var runs []*engine.Run
		var tasks []string
		for i := range 1000 {
			if i < 110 {
				runs = append(runs, n.here.task(t))
			}
			tasks = append(tasks, runs[min(i, 109)].Task().ID)
		}
		c := h.ws(t)
		sent := c.burst(tasks)
		counts := map[string]int{}
		for i, task := range tasks {
			m := c.next(t)
			counts[m.Type+" "+m.Code]++
			if m.TaskID != task || (m.Type == "SUBSCRIPTION_CONFIRMED") != (i < 100) {
				t.Fatalf("answer %d: %s", i, m)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		// 164 within the rate, and one for each second that it took.
		over := counts["SUBSCRIPTION_REJECTED RATE_LIMITED"]
		if full := counts["SUBSCRIPTION_REJECTED TOO_MANY_STREAMS"]; full < 64 || over < 500 || full+over != 900 {
			t.Errorf("%v", counts)
		}
		emit(t, runs[99], 1)
		c.expect(t, "TASK_MESSAGE", tasks[99])
	})
}

// queueOf is what the only socket has to remember about frames.
func (h *streamHost) queueOf() *wsQueue {
	var w *wsStream
	h.bridge.streams.mu.Lock()
	for _, m := range h.bridge.streams.subscribers {
		w, _ = m.base().self().(*wsStream)
	}
	h.bridge.streams.mu.Unlock()
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue == nil {
		return nil
	}
	q := *w.queue
	return &q
}

// A client whose answers do not come, for a store that hangs, is held back and
// held little of, and gets every answer in the end.
func TestWSIsNotReadWhileItsFramesWait(t *testing.T) {
	eachWSPath(t, func(t *testing.T, portable bool) {
		h, c, task, release := startMute(t, func(c *Config) {
			c.Streams.DisableFastPath = portable
			c.WebSocket.FramesPerSecond, c.WebSocket.MaxSubscriptions = 100_000, 100_000
		})
		tasks := append(noTasks(1), longIDs(3000)...) // the first asks the store
		sent := c.burst(tasks)
		await(t, "the socket is not read", func() bool { q := h.queueOf(); return q != nil && q.bytes >= maxQueuedBytes })
		q := h.queueOf()
		if q.len() > maxQueued || q.bytes > 3*maxQueuedBytes {
			t.Errorf("%d frames of %d bytes are held", q.len(), q.bytes)
		}
		select {
		case err := <-sent:
			t.Fatalf("the client was not held back: %v", err)
		default:
		}
		release()
		for _, task := range tasks {
			c.expect(t, "SUBSCRIPTION_REJECTED", task)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		c.subscribe(t, task)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		await(t, "nothing is kept", func() bool { return h.queueOf() == nil })
	})
}

// Nobody takes a client for silent whose pongs wait behind its frames.
func TestWSPongsBehindFrames(t *testing.T) {
	eachWSPath(t, func(t *testing.T, portable bool) {
		t.Parallel()
		const heartbeat = 100 * time.Millisecond
		pong := intime.For(t, 200*time.Millisecond, func() { startHost(t, hostSetup{}).followed(t) })
		h, c, task, release := startMute(t, func(c *Config) {
			c.Streams.DisableFastPath = portable
			c.WebSocket.FramesPerSecond, c.WebSocket.MaxSubscriptions = 1000, 1000
			c.WebSocket.Heartbeat, c.WebSocket.PongTimeout = heartbeat, pong
		})
		var wg sync.WaitGroup
		var answers atomic.Int64
		over := make(chan error, 1)
		wg.Go(func() { // whoever reads answers pings
			for {
				m, err := c.read()
				if err != nil {
					over <- err
					return
				}
				if m.Type == "SUBSCRIPTION_REJECTED" {
					answers.Add(1)
				}
			}
		})
		if err := <-c.burst(noTasks(400)); err != nil {
			t.Fatal(err)
		}
		await(t, "the socket is not read", func() bool { return h.queueOf().len() >= maxQueued })
		held := time.Now()
		await(t, "several pongs could be overdue", func() bool {
			select {
			case err := <-over:
				t.Fatalf("after %v: %v", time.Since(held), err)
			default:
			}
			return time.Since(held) > 4*(heartbeat+pong)
		})
		release()
		await(t, "every frame is answered", func() bool { return answers.Load() == 400 })
		if err := c.Ping(c.ctx); err != nil {
			t.Error(err)
		}
		c.send(t, `{"action":"unsubscribe","taskId":"`+task+`"}`)
		c.CloseNow()
		wg.Wait()
	})
}

// startMute starts a host whose store hangs on ids of noTasks until it is
// released, and a socket that follows a task.
func startMute(t *testing.T, change func(*Config)) (h *streamHost, c *wsClient, task string, release func()) {
	var hanging atomic.Bool
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	h = startHost(t, hostSetup{
		bridge: change,
		wrap:   func(s engine.Store) engine.Store { return &muteStore{Store: s, hanging: &hanging, release: gate} },
	})
	task = h.task(t).Task().ID
	c = h.ws(t)
	c.subscribe(t, task)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
	hanging.Store(true)
	return h, c, task, release
}

// muteStore reads no record while it hangs, until it is released.
type muteStore struct {
	engine.Store
	hanging *atomic.Bool
	release chan struct{}
}

func (s *muteStore) Get(ctx context.Context, id string, f engine.Freshness) (engine.Task, error) {
	if s.hanging.Load() && strings.HasPrefix(id, "nosuchtask") {
		select {
		case <-s.release:
		case <-ctx.Done():
			return engine.Task{}, ctx.Err()
		}
		return engine.Task{}, engine.NewError(engine.CodeStoreUnavailable, "gone for a moment")
	}
	return s.Store.Get(ctx, id, f)
}

// Frames behind one that waited in vain for the store get its answer, and do not
// wait one after the other.
func TestWSFramesBehindAHungStore(t *testing.T) {
	var hanging atomic.Bool
	var asked atomic.Int64
	h := startHost(t, hostSetup{wrap: func(s engine.Store) engine.Store { return &hungStore{Store: s, hanging: &hanging, asked: &asked} }})
	run := h.task(t)
	c := h.ws(t)
	c.subscribe(t, run.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
	hanging.Store(true)
	tasks := noTasks(60)
	if err := <-c.burst(tasks); err != nil {
		t.Fatal(err)
	}
	await(t, "all of them are read", func() bool { return h.queueOf().len() >= len(tasks)-1 })
	c.send(t, `{"action":"unsubscribe","taskId":"`+run.Task().ID+`"}`)
	for _, task := range tasks {
		if m := c.expect(t, "SUBSCRIPTION_REJECTED", task); m.Code != "STORE_UNAVAILABLE" {
			t.Errorf("%s", m)
		}
	}
	c.expect(t, "SUBSCRIPTION_ENDED", run.Task().ID) // which needs no store
	if n := asked.Load(); n > 2 {                    // the unsubscribe may have come with the rest or not
		t.Errorf("the store was asked %d times", n)
	}
	hanging.Store(false)
	c.subscribe(t, run.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
}

// hungStore answers after a while that it cannot.
type hungStore struct {
	engine.Store
	hanging *atomic.Bool
	asked   *atomic.Int64
}

func (s *hungStore) Get(ctx context.Context, id string, f engine.Freshness) (engine.Task, error) {
	if !s.hanging.Load() || f != engine.Cached || !strings.HasPrefix(id, "nosuchtask") {
		return s.Store.Get(ctx, id, f)
	}
	s.asked.Add(1)
	hang := time.NewTimer(hungTime + 100*time.Millisecond)
	defer hang.Stop()
	select {
	case <-hang.C:
	case <-ctx.Done():
	}
	return engine.Task{}, engine.NewError(engine.CodeStoreUnavailable, "gone for a moment")
}

// A client that asks very much and reads no answer gets none that its socket does
// not take, and all of them in their order when it reads.
func TestWSAnswersWaitForTheirReader(t *testing.T) {
	eachWSPath(t, func(t *testing.T, portable bool) {
		h := startHost(t, hostSetup{bridge: func(c *Config) {
			c.Streams.DisableFastPath = portable
			c.WebSocket.FramesPerSecond, c.WebSocket.MaxSubscriptions = 100_000, 100_000
		}})
		run := h.task(t)
		c := h.ws(t)
		c.subscribe(t, run.Task().ID)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
		tasks := longIDs(3000)
		sent := c.burst(tasks)
		await(t, "the answers are not taken", func() bool {
			select {
			case <-sent:
				t.Fatal("the client was not held back")
			default:
			}
			return h.parkedSockets() == 1
		})
		for _, task := range tasks {
			c.expect(t, "SUBSCRIPTION_REJECTED", task)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		emit(t, run, 1)
		c.expect(t, "TASK_MESSAGE", run.Task().ID)
	})
}

func (h *streamHost) parkedSockets() (n int) {
	h.bridge.streams.mu.Lock()
	defer h.bridge.streams.mu.Unlock()
	for _, m := range h.bridge.streams.subscribers {
		if m.base().flags.has(parked) {
			n++
		}
	}
	return n
}

// A client that goes away while it is not read gives its place back at once; one
// that says goodbye is answered when its frames are.
func TestWSGoesWhileItIsNotRead(t *testing.T) {
	eachWSPath(t, func(t *testing.T, portable bool) {
		h, c, _, release := startMute(t, func(c *Config) { c.Streams.DisableFastPath = portable })
		if err := <-c.burst(noTasks(400)); err != nil {
			t.Fatal(err)
		}
		await(t, "the socket is not read", func() bool { return h.queueOf().len() >= maxQueued })
		c.CloseNow()
		if portable { // it finds out with the next bytes
			release()
		}
		await(t, "its place is free", func() bool { return h.streams() == 0 })
	})
	eachWSPath(t, func(t *testing.T, portable bool) {
		h := startHost(t, hostSetup{bridge: func(c *Config) { c.Streams.DisableFastPath = portable }})
		run := h.task(t)
		c := h.ws(t)
		c.subscribe(t, run.Task().ID)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
		go func() {
			if err := <-c.burst(noTasks(300)); err != nil {
				t.Error(err)
			}
			_ = c.Close(1000, "")
		}()
		for c.ctx.Err() == nil {
			if _, err := c.read(); err != nil {
				break
			}
		}
		await(t, "its place is free", func() bool { return h.streams() == 0 })
	})
}

// A drain and the end of credentials reach a socket that is not read.
func TestWSIsEndedWhileItIsNotRead(t *testing.T) {
	eachWSPath(t, func(t *testing.T, portable bool) {
		t.Parallel()
		for _, drained := range []bool{true, false} {
			t.Run(fmt.Sprintf("drained=%v", drained), func(t *testing.T) {
				t.Parallel()
				var hanging atomic.Bool
				release := make(chan struct{})
				h := startHost(t, hostSetup{
					bridge: func(c *Config) { c.Streams.DisableFastPath = portable },
					wrap:   func(s engine.Store) engine.Store { return &muteStore{Store: s, hanging: &hanging, release: release} },
					shut:   drained,
				})
				run := h.task(t)
				hanging.Store(true)
				token := "alice"
				if !drained {
					token = fmt.Sprintf("alice;exp=%d", time.Now().Add(time.Hour).UnixMilli())
				}
				c := h.ws(t, bearer(token))
				c.subscribe(t, run.Task().ID)
				c.expect(t, "SUBSCRIPTION_CONFIRMED", run.Task().ID)
				if err := <-c.burst(noTasks(400)); err != nil {
					t.Fatal(err)
				}
				await(t, "the socket is not read", func() bool { return h.queueOf().len() >= maxQueued })
				var wg sync.WaitGroup
				if drained {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					wg.Go(func() { h.shutdown(t, ctx) })
				} else {
					h.bridge.streams.deadlines.ahead.Store(int64(2 * time.Hour))
				}
				for {
					if _, err := c.read(); errors.Is(err, context.DeadlineExceeded) {
						t.Fatal("the socket stayed open")
					} else if err != nil {
						break
					}
				}
				close(release)
				wg.Wait()
				await(t, "its place is free", func() bool { return h.streams() == 0 })
			})
		}
	})
}

// A task that ends just while a client that follows it subscribes to it again:
// its places are counted as often as it is followed.
func TestWSPlaceOfASecondSubscribe(t *testing.T) {
	var hold atomic.Pointer[chan struct{}]
	h := startHost(t, hostSetup{
		bridge: func(c *Config) { c.Streams.MaxPerTask = 1 },
		wrap:   func(s engine.Store) engine.Store { return &heldReads{Store: s, hold: &hold} },
	})
	run, other := h.task(t), h.task(t)
	task := run.Task().ID
	c := h.ws(t)
	c.subscribe(t, other.Task().ID)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", other.Task().ID)
	c.subscribe(t, task)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
	gate := make(chan struct{})
	hold.Store(&gate)
	c.subscribe(t, task) // its read of the log began before the end
	await(t, "the read is under way", func() bool { return hold.Load() == nil })
	complete(t, run)
	if m := c.next(t); m.Type != "TASK_COMPLETED" {
		t.Fatalf("%s", m)
	}
	c.expect(t, "SUBSCRIPTION_ENDED", task)
	if n := h.placesOf(task); n != 0 {
		t.Fatalf("%d places are taken", n)
	}
	close(gate)
	c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
	if m := c.next(t); m.Type != "TASK_COMPLETED" {
		t.Fatalf("%s", m)
	}
	c.expect(t, "SUBSCRIPTION_ENDED", task)
	await(t, "its place is free", func() bool { return h.placesOf(task) == 0 })
	if n := h.placesOf(other.Task().ID); n != 1 {
		t.Errorf("%d places of the other", n)
	}
}

// heldReads gives the answer of the first read from the beginning of a log only
// when it is let go.
type heldReads struct {
	engine.Store
	hold *atomic.Pointer[chan struct{}]
}

func (s *heldReads) Read(ctx context.Context, id string, after engine.EventID, limit int) (engine.Page, error) {
	page, err := s.Store.Read(ctx, id, after, limit)
	if gate := s.hold.Swap(nil); gate != nil {
		<-*gate
	}
	return page, err
}

func (s *muteStore) Close() error { return s.Store.(io.Closer).Close() }

func (s *hungStore) Close() error { return s.Store.(io.Closer).Close() }

func (s *heldReads) Close() error { return s.Store.(io.Closer).Close() }

// A task ends at the very moment at which its only follower moves its cursor back:
// what was confirmed is delivered to the end.
func TestWSMovesItsCursorAtTheEnd(t *testing.T) {
	h := startHost(t, hostSetup{})
	for range 100 {
		run := h.task(t)
		task := run.Task().ID
		emit(t, run, 3)
		c := h.ws(t)
		c.subscribe(t, task)
		c.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		for range 3 {
			c.expect(t, "TASK_MESSAGE", task)
		}
		var wg sync.WaitGroup
		wg.Go(func() { complete(t, run) })
		_ = c.Write(c.ctx, 1, []byte(`{"action":"subscribe","taskId":"`+task+`"}`))
		var since []string // the last confirmation
		confirmed := false
		for {
			m, err := c.read()
			if err != nil {
				if websocket.CloseStatus(err) != 1000 {
					t.Fatalf("after %v: %v", since, err)
				}
				break
			}
			if m.Type == "SUBSCRIPTION_CONFIRMED" {
				since, confirmed = nil, true
				continue
			}
			since = append(since, m.Type)
		}
		if want := 4; confirmed && len(since) != want {
			t.Errorf("confirmed, and then %v", since)
		}
		wg.Wait()
	}
}
