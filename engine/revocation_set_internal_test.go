package engine

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var setNoon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func randomRevocation(rng *rand.Rand, id int) Revocation {
	few := func(prefix string) string {
		if n := rng.IntN(5); n < 3 {
			return fmt.Sprint(prefix, n)
		}
		return ""
	}
	r := Revocation{
		ID: fmt.Sprint(id), Subject: few("s"), TaskID: few("t"), AppID: few("a"), Scope: few("c"),
		ExpiresAt: setNoon.Add(time.Duration(rng.IntN(3)-1) * time.Hour),
	}
	for _, name := range []string{"x", "y"} {
		if v := few("v"); v != "" {
			if r.Attributes == nil {
				r.Attributes = map[string]string{}
			}
			r.Attributes[name] = v
		}
	}
	if rng.IntN(3) == 0 {
		r.IssuedBefore = setNoon.Add(time.Duration(rng.IntN(3)-1) * time.Minute)
	}
	return r
}

func randomCaller(rng *rand.Rand) (AuthContext, string) {
	value := func(prefix string) string { return fmt.Sprint(prefix, rng.IntN(3)) }
	auth := AuthContext{
		Subject: value("s"), AppID: value("a"), Scopes: []string{value("c"), value("c")},
		Attributes: map[string]string{"x": value("v"), "y": value("v"), "z": value("v")},
		IssuedAt:   setNoon.Add(time.Duration(rng.IntN(3)-1) * time.Minute),
	}
	if rng.IntN(2) == 0 {
		return auth, ""
	}
	return auth, value("t")
}

// TestRevocationSetFindsWhatFits compares the index with a look at each
// revocation.
func TestRevocationSetFindsWhatFits(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		all := make([]Revocation, rng.IntN(12))
		for i := range all {
			all[i] = randomRevocation(rng, i)
		}
		set := newRevocationSet(all)
		for range 50 {
			auth, taskID := randomCaller(rng)
			var byCredentials, byTask bool
			for i := range all {
				if setNoon.Before(all[i].ExpiresAt) && all[i].Fits(&auth, taskID) {
					byCredentials = byCredentials || all[i].TaskID == ""
					byTask = byTask || all[i].TaskID != ""
				}
			}
			found := set.find(&auth, taskID, setNoon)
			switch {
			case found == nil:
				if byCredentials || byTask {
					t.Fatalf("seed %d: nothing found for %+v on %q in %+v", seed, auth, taskID, all)
				}
			case !found.Fits(&auth, taskID) || !setNoon.Before(found.ExpiresAt):
				t.Fatalf("seed %d: found %+v, which does not apply to %+v", seed, found, auth)
			case byCredentials && found.TaskID != "":
				t.Fatalf("seed %d: found one about the task, want one about the credentials", seed)
			}
		}
	}
}

// TestCoveredFitsNothingMore looks that whatever a needless revocation fits, the
// one that makes it so fits too, and for as long.
func TestCoveredFitsNothingMore(t *testing.T) {
	covered := 0
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 3))
		all := make([]Revocation, 12)
		for i := range all {
			all[i] = randomRevocation(rng, i)
		}
		made := randomRevocation(rng, 100)
		made.IssuedBefore, made.ExpiresAt = setNoon, setNoon.Add(time.Hour)
		for i := range 6 { // narrower ones, some of which hold for longer or apply to later credentials
			narrow := randomRevocation(rng, i)
			narrow.Subject, narrow.AppID = cmp.Or(made.Subject, narrow.Subject), cmp.Or(made.AppID, narrow.AppID)
			narrow.Scope, narrow.TaskID = cmp.Or(made.Scope, narrow.Scope), made.TaskID
			if narrow.Attributes == nil || rng.IntN(4) > 0 {
				narrow.Attributes = made.Attributes
			}
			all[i] = narrow
		}
		for _, old := range newRevocationSet(all).coveredBy(&made, 100) {
			covered++
			if old.ExpiresAt.After(made.ExpiresAt) {
				t.Fatalf("seed %d: %+v makes %+v needless", seed, made, old)
			}
			for range 100 {
				if auth, taskID := randomCaller(rng); old.Fits(&auth, taskID) && !made.Fits(&auth, taskID) {
					t.Fatalf("seed %d: %+v makes %+v needless, which fits %+v on %q", seed, made, old, auth, taskID)
				}
			}
		}
	}
	if covered < 100 {
		t.Errorf("only %d were covered; the test is too weak", covered)
	}
}

func manyRevocations(n int) []Revocation {
	all := make([]Revocation, n)
	for i := range all {
		all[i] = Revocation{
			ID: fmt.Sprint(i), ExpiresAt: setNoon.Add(time.Hour),
			Attributes: map[string]string{"app": "one for all", "session": fmt.Sprint(i)},
		}
	}
	return all
}

// TestRevocationLookIsCheap holds a look among 10,000 revocations by attribute
// to no allocation and to a handful of comparisons.
func TestRevocationLookIsCheap(t *testing.T) {
	set := newRevocationSet(manyRevocations(10_000))
	auth := AuthContext{Subject: "ann", Attributes: map[string]string{"app": "one for all", "session": "none"}}
	if n := testing.AllocsPerRun(100, func() { set.find(&auth, "", setNoon) }); n != 0 {
		t.Errorf("a look allocates %v times, want 0", n)
	}
	if n := len(set.byCondition[condition{ofAttribute, "app", "one for all"}]); n > 0 {
		t.Errorf("%d revocations are indexed under the value that all share, want 0", n)
	}
}

func BenchmarkRevocationLook(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set := newRevocationSet(manyRevocations(n))
			auth := AuthContext{Subject: "ann", Attributes: map[string]string{"app": "one for all", "session": "none"}}
			for b.Loop() {
				set.find(&auth, "", setNoon)
			}
		})
	}
}
