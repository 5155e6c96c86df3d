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

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// pollPath is a poll that waits.
func pollPath(task string) string { return "/api/v1/tasks/" + task + "/events?waitTimeoutMs=30000" }

// waiting sends a poll and returns when it waits.
func (h *streamHost) waiting(t *testing.T, task, token string) <-chan *sseClient {
	t.Helper()
	before := h.pollsWaiting()
	done := make(chan *sseClient, 1)
	go func() { done <- h.get(t, pollPath(task), bearer(token)) }()
	await(t, "the poll waits", func() bool { return h.pollsWaiting() > before })
	return done
}

func (h *streamHost) pollsWaiting() int {
	h.bridge.streams.mu.Lock()
	defer h.bridge.streams.mu.Unlock()
	return h.bridge.streams.polls
}

func answer(t *testing.T, done <-chan *sseClient) *sseClient {
	t.Helper()
	select {
	case c := <-done:
		return c
	case <-time.After(patience):
		t.Fatal("the poll still waits")
		return nil
	}
}

// By subject: everything that it has open ends, on the other node, and nothing
// of others; then it is refused at every door, until the revocation is lifted.
func TestRevokeSubject(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{owners: engine.OwnershipFunc(
			func(context.Context, engine.AuthContext, engine.Access, engine.Task) error { return nil })})
		h := n.there
		a, b := n.here.task(t), n.here.task(t)
		task, other := a.Task().ID, b.Task().ID
		const mallory = "sub=mallory&sid=1"

		sse := h.get(t, ssePath(task), bearer(mallory))
		sse.next(t)
		one := h.ws(t, bearer(mallory))
		one.subscribe(t, task)
		one.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		two := h.ws(t, bearer(mallory))
		for _, id := range []string{task, other} {
			two.subscribe(t, id)
			two.expect(t, "SUBSCRIPTION_CONFIRMED", id)
		}
		silent := h.ws(t, bearer(mallory))
		poll := h.waiting(t, task, mallory)
		bobs := h.get(t, ssePath(task), bearer("bob"))
		bobs.next(t)
		await(t, "all are there", func() bool { return h.streams() == 5 })

		r := n.revoke(t, engine.Revocation{Subject: "mallory"})
		began := time.Now()
		sse.wantClosing(t, "auth_revoked")
		one.closed(t, 3003)
		two.closed(t, 3003)
		silent.closed(t, 3003)
		if c := answer(t, poll); c.status != 401 || !strings.Contains(c.all(t), "AUTHENTICATION_ERROR") {
			t.Errorf("the poll got %d", c.status)
		}
		soon(t, began)
		emit(t, a, 1)
		if bobs.event(t).id == "" {
			t.Error("bob gets nothing")
		}

		for _, path := range []string{"", "/events", "/events/stream"} {
			if c := h.get(t, "/api/v1/tasks/"+task+path, bearer(mallory)); c.status != 401 {
				t.Errorf("GET %q: %d", path, c.status)
			}
		}
		if c := h.do(t, "POST", "/api/v1/tasks/"+task+"/cancel", "HTTP/1.1", bearer(mallory), "Content-Length: 0"); c.status != 401 {
			t.Errorf("cancel: %d", c.status)
		}
		h.ws(t, bearer(mallory), "Origin: http://"+h.addr).closed(t, 1008)
		if c := h.get(t, wsPath, append([]string{bearer(mallory)}, wsUpgrade...)...); c.status != 401 {
			t.Errorf("WebSocket: %d", c.status)
		}

		if err := n.here.eng.LiftRevocation(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		await(t, "mallory is let in again", func() bool {
			return h.get(t, "/api/v1/tasks/"+task, bearer(mallory)).status == 200
		})
		soon(t, began.Add(time.Since(began)))
	})
}

// By task: its subscriptions end, those of the same socket to others do not.
func TestRevokeTask(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{})
		h := n.there
		a, b := n.here.task(t), n.here.task(t)
		task, other := a.Task().ID, b.Task().ID
		sse := h.get(t, ssePath(task))
		sse.next(t)
		one := h.ws(t)
		one.subscribe(t, task)
		one.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		two := h.ws(t)
		for _, id := range []string{task, other} {
			two.subscribe(t, id)
			two.expect(t, "SUBSCRIPTION_CONFIRMED", id)
		}
		poll := h.waiting(t, task, "alice")

		r := n.revoke(t, engine.Revocation{TaskID: task})
		began := time.Now()
		sse.wantClosing(t, "auth_revoked")
		one.closed(t, 3003)
		if m := two.expect(t, "SUBSCRIPTION_ENDED", task); m.Reason != "auth_revoked" {
			t.Errorf("%s", m)
		}
		if c := answer(t, poll); c.status != 404 {
			t.Errorf("the poll got %d", c.status)
		}
		soon(t, began)

		emit(t, a, 1)
		emit(t, b, 1)
		if m := two.next(t); m.TaskID != other {
			t.Errorf("after the end: %s", m)
		}
		two.subscribe(t, task)
		if m := two.expect(t, "SUBSCRIPTION_REJECTED", task); m.Code != "TASK_NOT_FOUND" {
			t.Errorf("%s", m)
		}
		h.ws(t).mustRefuse(t, task)
		// The very bytes of a task that does not exist, but for the time.
		const unknown = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		for _, path := range []string{"", "/events", "/events/stream"} {
			gone, missing := h.get(t, "/api/v1/tasks/"+task+path), h.get(t, "/api/v1/tasks/"+unknown+path)
			x, _, _ := strings.Cut(gone.all(t), "timestamp")
			y, _, _ := strings.Cut(missing.all(t), "timestamp")
			if gone.status != 404 || gone.status != missing.status || x != y {
				t.Errorf("%q: %d %s, want %d %s", path, gone.status, x, missing.status, y)
			}
		}
		if err := n.here.eng.LiftRevocation(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		await(t, "the task is open again", func() bool { return h.get(t, "/api/v1/tasks/"+task).status == 200 })
		two.subscribe(t, task)
		two.expect(t, "SUBSCRIPTION_CONFIRMED", task)
	})
}

// mustRefuse is a first subscribe that is answered with 1008.
func (c *wsClient) mustRefuse(t *testing.T, task string) {
	t.Helper()
	c.subscribe(t, task)
	c.closed(t, 1008)
}

// By what the credential says: a session, its age, an app, a scope.
func TestRevokeByPredicate(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{})
		h := n.there
		task := n.here.task(t).Task().ID
		ago := time.Now().Add(-time.Hour).UnixMilli()
		for name, c := range map[string]struct {
			r          engine.Revocation
			hit, spare string
		}{
			"session": {engine.Revocation{Attributes: map[string]string{"sid": "1"}}, "sub=alice&sid=1", "sub=alice&sid=2"},
			"age": {engine.Revocation{Subject: "alice", IssuedBefore: time.Now()},
				fmt.Sprint("sub=alice&iat=", ago), fmt.Sprint("sub=alice&iat=", time.Now().Add(time.Minute).UnixMilli())},
			"app":   {engine.Revocation{AppID: "old"}, "sub=alice&app=old", "sub=alice&app=new"},
			"scope": {engine.Revocation{Scope: "beta"}, "sub=alice&scope=a+beta", "sub=alice&scope=a"},
		} {
			t.Run(name, func(t *testing.T) {
				hit, spare := h.get(t, ssePath(task), bearer(c.hit)), h.ws(t, bearer(c.spare))
				hit.next(t)
				spare.subscribe(t, task)
				spare.expect(t, "SUBSCRIPTION_CONFIRMED", task)
				r := n.revoke(t, c.r)
				began := time.Now()
				hit.wantClosing(t, "auth_revoked")
				soon(t, began)
				spare.subscribe(t, task)
				spare.expect(t, "SUBSCRIPTION_CONFIRMED", task)
				if err := n.here.eng.LiftRevocation(t.Context(), r.ID); err != nil {
					t.Fatal(err)
				}
				await(t, "it is lifted", func() bool { return h.get(t, "/api/v1/tasks/"+task, bearer(c.hit)).status == 200 })
			})
		}
	})
}

// Streams that begin in the instant of the revocation do not slip through. Those
// of one round still wait for their peers' close frames when the next begins.
func TestRevokeRace(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{})
		h := n.there
		task := n.here.task(t).Task().ID
		var wg sync.WaitGroup
		defer wg.Wait()
		for round := range 5 {
			token := fmt.Sprint("sub=alice&sid=", round)
			var began atomic.Int64
			for i := range 8 {
				wg.Go(func() {
					conn, err := h.dial()
					if err != nil {
						return
					}
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(patience))
					lines := bearer(token) + "\r\n"
					path := ssePath(task)
					if i%2 == 1 {
						lines += "Connection: close\r\n" // also of a refusal
					} else {
						path, lines = wsPath, lines+strings.Join(wsUpgrade, "\r\n")+"\r\n"
					}
					_, _ = conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: " + h.addr + "\r\n" + lines + "\r\n"))
					if i%2 == 0 {
						_, _ = conn.Write(maskedText(`{"action":"subscribe","taskId":"` + task + `"}`))
					}
					began.Add(1)
					buf := make([]byte, 4096)
					for { // to the end, whatever it is
						if _, err := conn.Read(buf); err != nil {
							var timeout interface{ Timeout() bool }
							if errors.As(err, &timeout) && timeout.Timeout() {
								t.Error("a stream goes on")
							}
							return
						}
					}
				})
			}
			await(t, "some have begun", func() bool { return began.Load() >= int64(round) })
			n.revoke(t, engine.Revocation{Attributes: map[string]string{"sid": fmt.Sprint(round)}})
			await(t, "all have begun", func() bool { return began.Load() == 8 })
		}
		wg.Wait() // before a look at the places: what comes late takes one, and is refused
		await(t, "none is left", func() bool { return h.streams() == 0 })
	})
}

// changeable is a policy that tests change while streams are open.
type changeable struct {
	says   atomic.Pointer[error]
	denied atomic.Pointer[string] // the task that says is about; all if nil
	asked  atomic.Int64
}

func (p *changeable) Allow(_ context.Context, auth engine.AuthContext, access engine.Access, task engine.Task) error {
	p.asked.Add(1)
	if auth.Subject != "alice" {
		return errors.New("a stranger")
	}
	if only := p.denied.Load(); only != nil && task.ID != *only {
		return nil
	}
	if err := p.says.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *changeable) say(err error) { p.says.Store(&err) }

// Now and then the policy is asked again; a no ends the subscription, a
// doubt does not.
func TestPolicyRecheck(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		policy := &changeable{}
		n := start(hostSetup{owners: policy, bridge: func(c *Config) {
			c.Streams.Recheck = 200 * time.Millisecond
		}})
		h := n.there
		a, b := n.here.task(t), n.here.task(t)
		task, other := a.Task().ID, b.Task().ID
		open := func() (*sseClient, *wsClient, *wsClient) {
			sse := h.get(t, ssePath(task))
			sse.next(t)
			one, two := h.ws(t), h.ws(t)
			one.subscribe(t, task)
			one.expect(t, "SUBSCRIPTION_CONFIRMED", task)
			for _, id := range []string{task, other} {
				two.subscribe(t, id)
				two.expect(t, "SUBSCRIPTION_CONFIRMED", id)
			}
			return sse, one, two
		}
		sse, one, two := open()

		// A policy that cannot tell.
		policy.say(engine.NewError(engine.CodeStoreUnavailable, "the directory is down"))
		before := policy.asked.Load()
		await(t, "all were asked about", func() bool { return policy.asked.Load() >= before+12 })
		policy.say(nil)
		emit(t, a, 1)
		sse.event(t)
		one.past(t, "HEARTBEAT", "TASK_MESSAGE", task)

		// One task is taken away.
		policy.denied.Store(&task)
		policy.say(errors.New("moved to another team"))
		began := time.Now()
		sse.wantClosing(t, "auth_revoked")
		one.untilClosed(t, 3003)
		for {
			m := two.next(t)
			if m.Type == "SUBSCRIPTION_ENDED" {
				if m.TaskID != task || m.Reason != "auth_revoked" {
					t.Errorf("%s", m)
				}
				break
			}
		}
		soon(t, began)
		emit(t, b, 1)
		two.past(t, "HEARTBEAT", "TASK_MESSAGE", other)
	})
}

// past reads over messages of one type to one of another.
func (c *wsClient) past(t *testing.T, over, typ, task string) {
	t.Helper()
	for {
		if m := c.next(t); m.Type == typ && m.TaskID == task {
			return
		} else if m.Type != over {
			t.Fatalf("got %s, want %s of %s", m, typ, task)
		}
	}
}

// untilClosed reads over heartbeats to the end.
func (c *wsClient) untilClosed(t *testing.T, want int) {
	t.Helper()
	if _, _, code := c.events(t); code != want {
		t.Errorf("closed with %d, want %d", code, want)
	}
}

// A policy whose answers cannot change is not asked again.
func TestNoRecheckOfOwners(t *testing.T) {
	h := startHost(t, hostSetup{bridge: func(c *Config) { c.Streams.Recheck = time.Millisecond }})
	run := h.task(t)
	h.get(t, ssePath(run.Task().ID)).next(t)
	await(t, "entered", func() bool { return h.streams() == 1 })
	h.bridge.streams.mu.Lock()
	at := h.bridge.streams.subscribers[0].base().recheckAt
	h.bridge.streams.mu.Unlock()
	if at != 0 {
		t.Error("a stream of an owner is looked after for nothing")
	}
}

// While the store hangs, each stream is asked about once at most, and none ends.
func TestRecheckWhileTheStoreHangs(t *testing.T) {
	policy := &changeable{}
	release := make(chan struct{})
	var hang atomic.Bool
	h := startHost(t, hostSetup{owners: policy,
		bridge: func(c *Config) { c.Streams.Recheck = 5 * time.Millisecond },
		wrap: func(s engine.Store) engine.Store {
			return &gatedStore{Store: s, hang: &hang, release: release}
		}})
	run := h.task(t)
	const streams = 40
	var clients []*sseClient
	for range streams {
		c := h.get(t, ssePath(run.Task().ID))
		c.next(t)
		clients = append(clients, c)
	}
	await(t, "all are there", func() bool { return h.streams() == streams })
	hang.Store(true)
	queued := func() int {
		p := h.bridge.streams.recheck.asking
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.queue)
	}
	await(t, "questions wait", func() bool { return queued() >= streams-recheckWorkers })
	deadline := time.Now().Add(100 * time.Millisecond)
	for time.Now().Before(deadline) {
		if n := queued(); n > streams {
			t.Fatalf("%d questions wait for %d streams", n, streams)
		}
	}
	hang.Store(false)
	close(release)
	await(t, "all were asked", func() bool { return queued() == 0 })
	emit(t, run, 1)
	for _, c := range clients {
		c.event(t)
	}
}

// gatedStore lets nobody read a record while it hangs.
type gatedStore struct {
	engine.Store
	hang    *atomic.Bool
	release chan struct{}
}

func (s *gatedStore) Close() error { return s.Store.(io.Closer).Close() }

func (s *gatedStore) Get(ctx context.Context, id string, f engine.Freshness) (engine.Task, error) {
	if s.hang.Load() {
		select {
		case <-s.release:
		case <-ctx.Done():
			return engine.Task{}, ctx.Err()
		}
	}
	return s.Store.Get(ctx, id, f)
}

// A panic in the host's policy is one question without an answer.
func TestRecheckPanic(t *testing.T) {
	var boom atomic.Bool
	var asked atomic.Int64
	h := startHost(t, hostSetup{
		owners: engine.OwnershipFunc(func(context.Context, engine.AuthContext, engine.Access, engine.Task) error {
			asked.Add(1)
			if boom.Load() {
				panic("boom")
			}
			return nil
		}),
		bridge: func(c *Config) { c.Streams.Recheck = 5 * time.Millisecond },
	})
	h.log.allowed.Store(true)
	run := h.task(t)
	c := h.get(t, ssePath(run.Task().ID))
	c.next(t)
	boom.Store(true)
	before := asked.Load()
	await(t, "it was asked", func() bool { return asked.Load() > before+3 })
	boom.Store(false)
	complete(t, run)
	if _, clean := c.rest(t); !clean {
		t.Error("the stream did not live on")
	}
}

// A jump of the wall clock past the end of credentials is felt within a second.
func TestExpiryByAClockJump(t *testing.T) {
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{})
		h := n.there
		task := n.here.task(t).Task().ID
		token := fmt.Sprint("sub=alice&exp=", time.Now().Add(time.Hour).UnixMilli())
		sse := h.get(t, ssePath(task), bearer(token))
		sse.next(t)
		ws := h.ws(t, bearer(token))
		ws.subscribe(t, task)
		ws.expect(t, "SUBSCRIPTION_CONFIRMED", task)
		poll := h.waiting(t, task, token)
		for _, back := range []time.Duration{-24 * time.Hour, 0} { // changes nothing
			h.bridge.streams.deadlines.ahead.Store(int64(back))
		}
		h.bridge.streams.deadlines.ahead.Store(int64(2 * time.Hour))
		began := time.Now()
		sse.wantClosing(t, "auth_expired")
		ws.closed(t, 3000)
		if c := answer(t, poll); c.status != 200 || !strings.Contains(c.all(t), `"events":[]`) {
			t.Errorf("the poll got %d", c.status)
		}
		soon(t, began)
		if c := h.get(t, ssePath(task), bearer(token)); c.status != 401 {
			t.Errorf("afterwards: %d", c.status)
		}
	})
}

// By default a stream is asked about between any two heartbeats, so that nobody
// is told of being alive on what was allowed long ago.
func TestRecheckBeforeTheHeartbeat(t *testing.T) {
	policy := &changeable{}
	h := startHost(t, hostSetup{owners: policy, bridge: func(c *Config) { c.SSE.Heartbeat = 400 * time.Millisecond }})
	run := h.task(t)
	c := h.get(t, ssePath(run.Task().ID))
	c.next(t)
	await(t, "entered", func() bool { return h.streams() == 1 })
	for range 3 {
		before := policy.asked.Load()
		for !strings.Contains(c.next(t).data, "HEARTBEAT") {
		}
		if policy.asked.Load() == before {
			t.Error("a heartbeat without a question before it")
		}
	}
	policy.say(errors.New("no longer"))
	beats := 0
	for {
		b := c.next(t)
		if b.event == "closing" {
			break
		}
		if strings.Contains(b.data, "HEARTBEAT") {
			beats++
		}
	}
	if beats > 1 {
		t.Errorf("%d heartbeats after access was gone", beats)
	}
}
