package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

type memConfig = memstore.Config

func TestRevocationFits(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	auth := engine.AuthContext{
		Subject: "ann", AppID: "app", Scopes: []string{"a", "b"}, IssuedAt: noon,
		Attributes: map[string]string{"session": "1", "tenant": "t"},
	}
	const task = "0123456789abcdef"
	for name, c := range map[string]struct {
		r       engine.Revocation
		onTask  bool // fits with the task
		without bool // fits a request that is about none
	}{
		"nothing":               {engine.Revocation{}, false, false},
		"subject":               {engine.Revocation{Subject: "ann"}, true, true},
		"another subject":       {engine.Revocation{Subject: "an"}, false, false},
		"task":                  {engine.Revocation{TaskID: task}, true, false},
		"another task":          {engine.Revocation{TaskID: task + "0"}, false, false},
		"app":                   {engine.Revocation{AppID: "app"}, true, true},
		"another app":           {engine.Revocation{AppID: "apps"}, false, false},
		"scope":                 {engine.Revocation{Scope: "b"}, true, true},
		"another scope":         {engine.Revocation{Scope: "c"}, false, false},
		"attribute":             {engine.Revocation{Attributes: map[string]string{"session": "1"}}, true, true},
		"attributes, all":       {engine.Revocation{Attributes: map[string]string{"session": "1", "tenant": "t"}}, true, true},
		"attributes, one of":    {engine.Revocation{Attributes: map[string]string{"session": "1", "tenant": "u"}}, false, false},
		"attribute not there":   {engine.Revocation{Attributes: map[string]string{"other": ""}}, false, false},
		"issued earlier":        {engine.Revocation{IssuedBefore: noon.Add(1)}, true, true},
		"issued then":           {engine.Revocation{IssuedBefore: noon}, false, false},
		"subject and task":      {engine.Revocation{Subject: "ann", TaskID: task}, true, false},
		"subject, another task": {engine.Revocation{Subject: "ann", TaskID: task + "0"}, false, false},
		"subject and scope":     {engine.Revocation{Subject: "ann", Scope: "c"}, false, false},
		"subject, issued later": {engine.Revocation{Subject: "ann", IssuedBefore: noon.Add(-1)}, false, false},
	} {
		if got := c.r.Fits(&auth, task); got != c.onTask {
			t.Errorf("%s: %v for the task", name, got)
		}
		if got := c.r.Fits(&auth, ""); got != c.without {
			t.Errorf("%s: %v without a task", name, got)
		}
	}
	silent := auth
	silent.IssuedAt = time.Time{}
	if r := (engine.Revocation{IssuedBefore: noon}); !r.Fits(&silent, task) {
		t.Error("credentials that do not say when they were issued are let through")
	}
}

func TestRevokeRefused(t *testing.T) {
	w := newWorld(t)
	for name, r := range map[string]engine.Revocation{
		"everything":  {},
		"a past end":  {Subject: "ann", ExpiresAt: time.Now().Add(-time.Minute)},
		"a task's id": {TaskID: "short"},
		"a long id":   {Subject: "ann", ID: strings.Repeat("x", 256)},
		"a bad id":    {Subject: "ann", ID: "a\nb"},
		"large":       {Subject: "ann", Reason: strings.Repeat("x", 5000)},
	} {
		if _, err := w.Revoke(t.Context(), r); engine.CodeOf(err) != engine.CodeRequestValidation {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := w.Revocations(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// By credential: at every door, and a fresh credential is let in.
func TestRevokeCredentials(t *testing.T) {
	w := newWorld(t)
	task := w.task(t)
	old := engine.AuthContext{Subject: "alice", IssuedAt: time.Now().Add(-time.Minute)}
	fresh := engine.AuthContext{Subject: "alice", IssuedAt: time.Now().Add(time.Minute)}
	r, err := w.Revoke(t.Context(), engine.Revocation{Subject: "alice", IssuedBefore: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(r.ExpiresAt); left < 23*time.Hour || left > 25*time.Hour {
		t.Errorf("it holds for %v", left)
	}
	doors := func(auth engine.AuthContext) map[string]error {
		errs := map[string]error{}
		for access, calls := range services(w) {
			for i, call := range calls {
				errs[fmt.Sprint(access, i)] = call(auth, task.ID)
			}
		}
		_, errs["create"] = w.Create(t.Context(), auth, request(fmt.Sprintf("r-%d", requests.Add(1))))
		return errs
	}
	for door, err := range doors(old) {
		if engine.CodeOf(err) != engine.CodeAuthentication {
			t.Errorf("%s: %v", door, err)
		}
	}
	for door, err := range doors(fresh) {
		if err != nil {
			t.Errorf("%s with a fresh credential: %v", door, err)
		}
	}
	if err := w.LiftRevocation(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	for door, err := range doors(old) {
		if err != nil {
			t.Errorf("%s after it was lifted: %v", door, err)
		}
	}
}

// By task: it looks missing, and nothing else is touched.
func TestRevokeTask(t *testing.T) {
	w := newWorld(t)
	closed, other := w.task(t), w.task(t)
	if _, err := w.Revoke(t.Context(), engine.Revocation{TaskID: closed.ID}); err != nil {
		t.Fatal(err)
	}
	for access, calls := range services(w) {
		for _, call := range calls {
			if err := call(alice, closed.ID); engine.CodeOf(err) != engine.CodeTaskNotFound {
				t.Errorf("%s: %v", access, err)
			}
			if err := call(alice, other.ID); err != nil {
				t.Errorf("%s of another task: %v", access, err)
			}
		}
	}
	if _, err := w.Create(t.Context(), alice, request("another")); err != nil {
		t.Error(err)
	}
}

func TestRevocationLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config, _ *memConfig) { c.Revocations.TTL = time.Minute })
		defer w.stop(t)()
		for range 3 { // the same again holds for longer, and is one
			if _, err := w.Revoke(t.Context(), engine.Revocation{Subject: "alice"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
		}
		if all, err := w.Revocations(t.Context()); err != nil || len(all) != 1 {
			t.Errorf("%v, %v", all, err)
		}
		if s := w.Revoked(&alice, ""); s != engine.StandingRevoked {
			t.Error("it does not hold any more")
		}
		time.Sleep(31 * time.Second)
		if s := w.Revoked(&alice, ""); s != engine.StandingGood {
			t.Error("it still holds")
		}
		if _, err := w.Create(t.Context(), alice, request("later")); err != nil {
			t.Error(err)
		}
	})
}

func TestRevocationsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *engine.Config, _ *memConfig) { c.Revocations.Max = 2 })
	for i := range 2 {
		if _, err := w.Revoke(t.Context(), engine.Revocation{Subject: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Revoke(t.Context(), engine.Revocation{Subject: "2"}); engine.CodeOf(err) != engine.CodeRateLimited {
		t.Error(err)
	}
}

// A tenth is for operators, and one subject has no more than its share.
func TestRevocationsOfUsersLeaveRoom(t *testing.T) {
	w := newWorld(t, func(c *engine.Config, _ *memConfig) {
		c.Revocations.Max, c.Revocations.MaxPerSubject = 20, 5
	})
	signOut := func(subject string, session int) engine.Revocation {
		return engine.Revocation{Subject: subject, Attributes: map[string]string{"session": fmt.Sprint(subject, session)}}
	}
	for i := range 18 { // 20 without the reserve
		if _, err := w.Revoke(t.Context(), signOut(fmt.Sprint("user", i/5), i)); err != nil {
			t.Fatalf("sign-out %d: %v", i, err)
		}
	}
	if _, err := w.Revoke(t.Context(), signOut("user0", 0)); err != nil {
		t.Errorf("the same again: %v", err)
	}
	for name, r := range map[string]engine.Revocation{
		"one more of a subject with five": signOut("user0", 100), "one more of another": signOut("bob", 1),
	} {
		if _, err := w.Revoke(t.Context(), r); engine.CodeOf(err) != engine.CodeRateLimited {
			t.Errorf("%s: got %v, want RATE_LIMITED", name, err)
		}
	}
	for i := range 2 {
		r := engine.Revocation{Subject: fmt.Sprint("banned", i), Operator: true}
		if _, err := w.Revoke(t.Context(), r); err != nil {
			t.Errorf("an operator's: %v", err)
		}
	}
	if _, err := w.Revoke(t.Context(), engine.Revocation{Subject: "bob", Operator: true}); engine.CodeOf(err) != engine.CodeRateLimited {
		t.Errorf("an operator's beyond all: got %v, want RATE_LIMITED", err)
	}
}

// What cannot be stored holds here, says so, and is listed.
func TestRevocationThatIsNotStoredHoldsHere(t *testing.T) {
	w := newWorld(t, func(c *engine.Config, _ *memConfig) { c.Revocations.Max = 1 })
	if _, err := w.Revoke(t.Context(), engine.Revocation{Subject: "bob"}); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{}, 16)
	defer w.OnRevocation(func() { told <- struct{}{} })()
	r, err := w.Revoke(t.Context(), engine.Revocation{Subject: "alice"})
	if engine.CodeOf(err) != engine.CodeRateLimited || !strings.Contains(err.Error(), "in this process only") {
		t.Fatalf("got %v, want RATE_LIMITED that says where it holds", err)
	}
	<-told // open streams are looked at
	if w.Revoked(&alice, "") != engine.StandingRevoked {
		t.Error("it does not hold here")
	}
	if err := w.LiftRevocation(t.Context(), "something else"); err != nil { // everything is read again
		t.Fatal(err)
	}
	if w.Revoked(&alice, "") != engine.StandingRevoked {
		t.Error("it does not hold any more after the next read")
	}
	if all, err := w.Revocations(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("listed are %v, %v, want both", all, err)
	}
	if err := w.LiftRevocation(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	if w.Revoked(&alice, "") != engine.StandingGood {
		t.Error("it holds though it was lifted")
	}
}

// Signing out everywhere again and again keeps one revocation.
func TestNeedlessRevocationsGo(t *testing.T) {
	w := newWorld(t)
	began := time.Now().Add(-time.Hour)
	ends := began.Add(24 * time.Hour)
	revoke := func(r engine.Revocation) {
		t.Helper()
		r.ExpiresAt = ends
		if _, err := w.Revoke(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	revoke(engine.Revocation{Subject: "alice", Attributes: map[string]string{"session": "1"}})
	revoke(engine.Revocation{Subject: "bob", IssuedBefore: began})
	for i := range 10 {
		revoke(engine.Revocation{Subject: "alice", IssuedBefore: began.Add(time.Duration(i) * time.Minute)})
	}
	all, err := w.Revocations(t.Context())
	if err != nil || len(all) != 3 {
		t.Errorf("in force are %+v, %v, want bob's, the session's and the last of alice's", all, err)
	}
	revoke(engine.Revocation{Subject: "alice"}) // a ban: lifted, what was before must hold
	if all, err := w.Revocations(t.Context()); err != nil || len(all) != 4 {
		t.Errorf("with a ban %+v, %v are in force, want 4", all, err)
	}
}

// A waiting poll ends with the revocation, and is told what the next one is.
func TestRevokeWaitingPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop(t)()
		task, other := w.task(t), w.task(t)
		poll := func(id string) chan error {
			done := make(chan error, 1)
			go func() {
				_, err := w.Poll(t.Context(), alice, engine.PollRequest{TaskID: id, Wait: time.Minute})
				done <- err
			}()
			synctest.Wait()
			return done
		}
		first, second := poll(task.ID), poll(other.ID)
		if _, err := w.Revoke(t.Context(), engine.Revocation{TaskID: task.ID}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := <-first; engine.CodeOf(err) != engine.CodeTaskNotFound {
			t.Errorf("the task's: %v", err)
		}
		if _, err := w.Revoke(t.Context(), engine.Revocation{Subject: "alice"}); err != nil {
			t.Fatal(err)
		}
		if err := <-second; engine.CodeOf(err) != engine.CodeAuthentication {
			t.Errorf("the caller's: %v", err)
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// A policy that changed its mind while a poll waited.
func TestPollAsksAgainAfterAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var says atomic.Pointer[error]
		says.Store(new(error))
		w := newWorld(t, func(c *engine.Config, _ *memConfig) {
			c.Ownership = engine.OwnershipFunc(func(context.Context, engine.AuthContext, engine.Access, engine.Task) error {
				return *says.Load()
			})
		})
		defer w.stop(t)()
		for _, c := range []struct {
			says error
			want engine.Code
		}{
			{errors.New("no longer"), engine.CodeTaskNotFound},
			{engine.NewError(engine.CodeStoreUnavailable, "cannot tell"), ""},
			{nil, ""},
		} {
			says.Store(new(error))
			task := w.task(t)
			done := make(chan error, 1)
			go func() {
				_, err := w.Poll(t.Context(), alice, engine.PollRequest{TaskID: task.ID, Wait: time.Minute})
				done <- err
			}()
			synctest.Wait()
			said := c.says
			says.Store(&said)
			w.emit(t, task, engine.Message{Text: "m"})
			if err := <-done; engine.CodeOf(err) != c.want {
				t.Errorf("the policy says %v: %v", c.says, err)
			}
		}
	})
}

// forgetful is a store that cannot list its revocations for a while.
type forgetful struct {
	*memstore.Store
	down atomic.Bool
}

func (f *forgetful) ListRevocations(ctx context.Context) ([]engine.Revocation, error) {
	if f.down.Load() {
		return nil, unavailable
	}
	return f.Store.ListRevocations(ctx)
}

// What is known holds while the store is away; what is not known lets nobody in.
func TestRevocationsWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, err := memstore.New(memstore.Config{})
		if err != nil {
			t.Fatal(err)
		}
		node := func(s engine.Store) *engine.Engine {
			e, err := engine.New(engine.Config{Store: s, Ownership: engine.OwnerOnly()})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		here := &forgetful{Store: mem}
		a := node(here)
		if _, err := a.Revoke(t.Context(), engine.Revocation{Subject: "alice"}); err != nil {
			t.Fatal(err)
		}
		here.down.Store(true)
		synctest.Wait()
		if a.Revoked(&alice, "") != engine.StandingRevoked {
			t.Error("it is forgotten while the store is away")
		}
		there := &forgetful{Store: mem}
		there.down.Store(true)
		b := node(there)
		synctest.Wait()
		if _, err := b.Snapshot(t.Context(), alice, unknown); engine.CodeOf(err) != engine.CodeStoreUnavailable {
			t.Errorf("a node that knows nothing yet says %v", err)
		}
		there.down.Store(false)
		time.Sleep(time.Second)
		if _, err := b.Snapshot(t.Context(), alice, unknown); engine.CodeOf(err) != engine.CodeAuthentication {
			t.Errorf("and when it can know: %v", err)
		}
		for _, e := range []*engine.Engine{a, b} {
			if err := e.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// bare has no power but that of a store.
type bare struct{ engine.Store }

func TestRevokeWithoutAStoreForIt(t *testing.T) {
	mem, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	e, err := engine.New(engine.Config{Store: bare{mem}, Ownership: engine.OwnerOnly()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Revoke(t.Context(), engine.Revocation{Subject: "alice"}); engine.CodeOf(err) != engine.CodeInternal {
		t.Error(err)
	}
	if err := e.LiftRevocation(t.Context(), "x"); engine.CodeOf(err) != engine.CodeInternal {
		t.Error(err)
	}
	if all, err := e.Revocations(t.Context()); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
