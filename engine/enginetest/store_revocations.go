package enginetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var revocationTests = []storeTest{
	{"what is put is listed, on every node", testRevocationPut, false},
	{"one replaces the one with its id", testRevocationReplace, false},
	{"lifted is gone", testRevocationLift, false},
	{"they lapse", testRevocationLapse, false},
	{"no more than the limit", testRevocationLimit, false},
	{"of many at once, no more than the limit", testRevocationLimitRace, false},
	{"needless ones go with the one that makes them so", testRevocationNeedless, false},
	{"who watches is told of every change", testRevocationWatch, false},
	{"whoever is stopped is told no more", testRevocationStop, false},
	{"watching while others revoke", testRevocationWatchRace, false},
}

const noLimit = 1 << 20

func revocations(node engine.Store) engine.Revocations { return node.(engine.Revocations) }

// draftRevocation has something in every field.
func draftRevocation(id string) engine.Revocation {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return engine.Revocation{
		ID: id, Subject: "ann ü", TaskID: "0123456789abcdef", AppID: "app", Scope: "tasks:read",
		Attributes: map[string]string{"session": "1", "": "empty"}, IssuedBefore: now.Add(-time.Hour),
		Reason: `a "reason"`, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

func (f *fixture) revoke(node engine.Store, r engine.Revocation) {
	f.Helper()
	if err := revocations(node).PutRevocation(f.ctx(), r, noLimit); err != nil {
		f.Fatalf("PutRevocation: %v", err)
	}
}

func (f *fixture) revoked(node engine.Store) map[string]engine.Revocation {
	f.Helper()
	all, err := revocations(node).ListRevocations(f.ctx())
	if err != nil {
		f.Fatalf("ListRevocations: %v", err)
	}
	byID := map[string]engine.Revocation{}
	for _, r := range all {
		if _, twice := byID[r.ID]; twice {
			f.Errorf("%s is listed twice", r.ID)
		}
		byID[r.ID] = r
	}
	return byID
}

func testRevocationPut(f *fixture) {
	if all := f.revoked(f.store); len(all) != 0 {
		f.Fatalf("a new store has %v", all)
	}
	full, bare := draftRevocation("full"), engine.Revocation{
		ID: strings.Repeat("ü", 255), Subject: "ann", CreatedAt: time.Now().UTC(), ExpiresAt: time.Now().UTC().Add(time.Hour),
	}
	bare.CreatedAt, bare.ExpiresAt = bare.CreatedAt.Truncate(time.Microsecond), bare.ExpiresAt.Truncate(time.Microsecond)
	f.revoke(f.store, full)
	f.revoke(f.store, bare)
	for _, node := range []engine.Store{f.store, f.peer} {
		got := f.revoked(node)
		if want := (map[string]engine.Revocation{full.ID: full, bare.ID: bare}); !reflect.DeepEqual(got, want) {
			f.Errorf("listed are\n%+v, want\n%+v", got, want)
		}
		got[full.ID].Attributes["session"] = "changed" // it is the caller's
	}
	if f.revoked(f.store)[full.ID].Attributes["session"] != "1" {
		f.Error("what was listed is shared")
	}
}

func testRevocationReplace(f *fixture) {
	r := draftRevocation("r")
	f.revoke(f.store, r)
	r.Subject, r.ExpiresAt = "bob", r.ExpiresAt.Add(time.Hour)
	if err := revocations(f.peer).PutRevocation(f.ctx(), r, 1); err != nil {
		f.Errorf("a replacement does not count against the limit: %v", err)
	}
	if got := f.revoked(f.store); len(got) != 1 || !reflect.DeepEqual(got["r"], r) {
		f.Errorf("listed are %+v, want %+v", got, r)
	}
}

func testRevocationLift(f *fixture) {
	f.revoke(f.store, draftRevocation("a"))
	f.revoke(f.store, draftRevocation("b"))
	for range 2 {
		if err := revocations(f.peer).LiftRevocation(f.ctx(), "a"); err != nil {
			f.Errorf("LiftRevocation: %v", err)
		}
	}
	if err := revocations(f.peer).LiftRevocation(f.ctx(), ""); err != nil {
		f.Errorf("LiftRevocation of nothing: %v", err)
	}
	if got := f.revoked(f.store); len(got) != 1 || got["b"].ID != "b" {
		f.Errorf("listed are %v", got)
	}
	if err := revocations(f.peer).LiftRevocation(f.ctx(), "b"); err != nil {
		f.Error(err)
	}
	if got := f.revoked(f.store); len(got) != 0 {
		f.Errorf("listed are %v", got)
	}
	f.revoke(f.store, draftRevocation("a"))
	if got := f.revoked(f.peer); len(got) != 1 {
		f.Errorf("listed are %v", got)
	}
}

func testRevocationLapse(f *fixture) {
	short, long := draftRevocation("short"), draftRevocation("long")
	// By the wall clock alone, as a store keeps it.
	short.ExpiresAt = time.Now().UTC().Truncate(time.Microsecond).Add(300 * time.Millisecond)
	f.revoke(f.store, short)
	f.revoke(f.store, long)
	eventually(f.T, "the short one is gone and the long one is not", func() bool {
		got := f.revoked(f.peer)
		if _, ok := got["long"]; !ok {
			f.Fatal("the long one is gone")
		}
		return len(got) == 1
	})
	if early := time.Until(short.ExpiresAt); early > 0 {
		f.Errorf("it was gone %v too early", early)
	}
	if err := revocations(f.store).PutRevocation(f.ctx(), draftRevocation("next"), 2); err != nil {
		f.Errorf("what has lapsed counts: %v", err)
	}
}

func testRevocationLimit(f *fixture) {
	for i := range 3 {
		if err := revocations(f.store).PutRevocation(f.ctx(), draftRevocation(fmt.Sprint(i)), 3); err != nil {
			f.Fatal(err)
		}
	}
	err := revocations(f.peer).PutRevocation(f.ctx(), draftRevocation("3"), 3)
	f.wantCode("one too many", err, engine.CodeRateLimited)
	if got := f.revoked(f.store); len(got) != 3 {
		f.Errorf("%d are in force", len(got))
	}
}

func testRevocationNeedless(f *fixture) {
	a, b, c := draftRevocation("a"), draftRevocation("b"), draftRevocation("c")
	f.revoke(f.store, a)
	f.revoke(f.store, b)
	changed := b
	changed.ExpiresAt = b.ExpiresAt.Add(time.Hour)
	f.revoke(f.peer, changed) // by somebody else, in the meantime
	err := revocations(f.store).PutRevocation(f.ctx(), draftRevocation("d"), 1, a, b)
	f.wantCode("one too many, as one of the needless ones was changed", err, engine.CodeRateLimited)
	if got := f.revoked(f.store); len(got) != 2 {
		f.Errorf("after a refusal %v are in force, want a and b", got)
	}
	if err := revocations(f.store).PutRevocation(f.ctx(), c, 2, a, b, draftRevocation("unknown"), c); err != nil {
		f.Errorf("one that takes the place of another: %v", err)
	}
	if got := f.revoked(f.peer); len(got) != 2 || got["b"].ID != "b" || got["c"].ID != "c" {
		f.Errorf("in force are %v, want b, which has changed, and c", got)
	}
}

func testRevocationLimitRace(f *fixture) {
	const limit, racers = 4, 16
	var kept atomic.Int64
	var start starter
	var group sync.WaitGroup
	for i := range racers {
		node := []engine.Store{f.store, f.peer}[i%2]
		group.Go(func() {
			start.wait()
			err := revocations(node).PutRevocation(f.ctx(), draftRevocation(fmt.Sprint(i)), limit)
			if err == nil {
				kept.Add(1)
			} else if engine.CodeOf(err) != engine.CodeRateLimited {
				f.Error(err)
			}
		})
	}
	start.start()
	group.Wait()
	if n, got := kept.Load(), len(f.revoked(f.store)); n != limit || got != limit {
		f.Errorf("%d were accepted, %d are in force, the limit is %d", n, got, limit)
	}
}

// watchRevocations reads whenever it is told to, as the engine does.
func (f *fixture) watchRevocations(node engine.Store) (latest func() map[string]bool, calls *atomic.Int64, stop func()) {
	f.Helper()
	var (
		mu  sync.Mutex
		set map[string]bool
	)
	calls = new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	told, done := make(chan struct{}, 1), make(chan struct{})
	unwatch, err := revocations(node).WatchRevocations(func() {
		calls.Add(1)
		select {
		case told <- struct{}{}:
		default:
		}
	})
	if err != nil {
		f.Fatalf("WatchRevocations: %v", err)
	}
	go func() {
		defer close(done)
		for {
			select {
			case <-told:
			case <-ctx.Done():
				return
			}
			all, err := revocations(node).ListRevocations(ctx)
			if err != nil {
				if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
					f.Error(err)
				}
				return
			}
			ids := map[string]bool{}
			for _, r := range all {
				ids[r.ID] = true
			}
			mu.Lock()
			set = ids
			mu.Unlock()
		}
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			unwatch()
			cancel()
			<-done
		})
	}
	f.Cleanup(stop)
	return func() map[string]bool {
		mu.Lock()
		defer mu.Unlock()
		return set
	}, calls, stop
}

// felt is how soon a change must be felt. The contract says a second; what a busy
// machine takes for the rest is not the store's.
const felt = 5 * time.Second

func within(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	began := time.Now()
	eventually(t, what, cond)
	if took := time.Since(began); took > limit {
		t.Errorf("%s took %v, want at most %v", what, took, limit)
	}
}

func testRevocationWatch(f *fixture) {
	for _, pair := range [][2]engine.Store{{f.store, f.store}, {f.store, f.peer}} {
		latest, calls, stop := f.watchRevocations(pair[1])
		for i := range 3 {
			id := fmt.Sprint("watched-", i)
			f.revoke(pair[0], draftRevocation(id))
			within(f.T, felt, "a revocation is seen", func() bool { return latest()[id] })
		}
		before := calls.Load()
		r := draftRevocation("watched-0")
		r.Reason = "another"
		f.revoke(pair[0], r)
		within(f.T, felt, "a replacement is told", func() bool { return calls.Load() > before })
		for i := range 3 {
			id := fmt.Sprint("watched-", i)
			if err := revocations(pair[0]).LiftRevocation(f.ctx(), id); err != nil {
				f.Fatal(err)
			}
			within(f.T, felt, "a lift is seen", func() bool { return !latest()[id] })
		}
		stop()
	}
}

func testRevocationStop(f *fixture) {
	_, stopped, stop := f.watchRevocations(f.peer)
	latest, _, _ := f.watchRevocations(f.peer)
	f.revoke(f.store, draftRevocation("a"))
	eventually(f.T, "a change is seen", func() bool { return latest()["a"] })
	stop()
	stop()
	before := stopped.Load()
	for i := range 5 {
		id := fmt.Sprint("after-", i)
		f.revoke(f.store, draftRevocation(id))
		eventually(f.T, "a change is seen", func() bool { return latest()[id] })
	}
	if n := stopped.Load() - before; n > 1 {
		f.Errorf("%d calls after stop", n)
	}
}

func testRevocationWatchRace(f *fixture) {
	const rounds = 20
	for i := range rounds {
		id := fmt.Sprint("race-", i)
		var group sync.WaitGroup
		group.Go(func() { f.revoke(f.store, draftRevocation(id)) })
		latest, _, stop := f.watchRevocations(f.peer)
		group.Wait()
		// Whoever watched too late has to look once, as the engine does.
		eventually(f.T, "it is seen or was there", func() bool {
			_, there := f.revoked(f.peer)[id]
			return latest()[id] || there
		})
		stop()
	}
}
