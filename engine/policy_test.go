package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func TestScopeBased(t *testing.T) {
	required := map[engine.Access]string{engine.AccessCreate: "tasks:create", engine.AccessRead: "tasks:read", engine.AccessCancel: ""}
	policy := engine.ScopeBased(required)
	required[engine.AccessSubscribe] = "tasks:read" // a copy was taken
	task := engine.Task{Owner: "alice"}
	for _, c := range []struct {
		auth   engine.AuthContext
		access engine.Access
		want   bool
	}{
		{engine.AuthContext{Subject: "bob", Scopes: []string{"x", "tasks:read"}}, engine.AccessRead, true},
		{engine.AuthContext{Subject: "bob", Scopes: []string{"tasks:create"}}, engine.AccessCreate, true},
		{engine.AuthContext{Subject: "bob", Scopes: []string{"tasks:create"}}, engine.AccessRead, false},
		{engine.AuthContext{Subject: "alice"}, engine.AccessRead, false}, // the owner, without the scope
		{engine.AuthContext{Scopes: []string{"tasks:read"}}, engine.AccessRead, false},
		{engine.AuthContext{Subject: "bob", Scopes: []string{"tasks:read", ""}}, engine.AccessSubscribe, false},
		{engine.AuthContext{Subject: "bob", Scopes: []string{"tasks:read", ""}}, engine.AccessCancel, false},
		{engine.AuthContext{Subject: "bob", Scopes: []string{"tasks:READ"}}, engine.AccessRead, false},
	} {
		if got := policy.Allow(t.Context(), c.auth, c.access, task) == nil; got != c.want {
			t.Errorf("%s by %+v: %v", c.access, c.auth, got)
		}
	}
}

func TestCombinedPolicies(t *testing.T) {
	says := func(err error) engine.OwnershipPolicy {
		return engine.OwnershipFunc(func(context.Context, engine.AuthContext, engine.Access, engine.Task) error { return err })
	}
	yes, no, unsure := says(nil), says(errors.New("no")), says(engine.NewError(engine.CodeStoreUnavailable, "down"))
	for _, c := range []struct {
		name     string
		policies []engine.OwnershipPolicy
		all, any engine.Code // "" allows; INTERNAL_ERROR is any other error: denied
	}{
		{"none", nil, engine.CodeTaskOwnership, engine.CodeTaskOwnership},
		{"nil", []engine.OwnershipPolicy{nil}, engine.CodeTaskOwnership, engine.CodeTaskOwnership},
		{"yes", []engine.OwnershipPolicy{yes}, "", ""},
		{"yes, nil", []engine.OwnershipPolicy{yes, nil}, engine.CodeTaskOwnership, ""},
		{"no", []engine.OwnershipPolicy{no}, engine.CodeInternal, engine.CodeInternal},
		{"yes, no", []engine.OwnershipPolicy{yes, no}, engine.CodeInternal, ""},
		{"no, yes", []engine.OwnershipPolicy{no, yes}, engine.CodeInternal, ""},
		{"unsure", []engine.OwnershipPolicy{unsure}, engine.CodeStoreUnavailable, engine.CodeStoreUnavailable},
		{"unsure, yes", []engine.OwnershipPolicy{unsure, yes}, engine.CodeStoreUnavailable, ""},
		// A no is a no, whatever another would have said; and no yes was found.
		{"unsure, no", []engine.OwnershipPolicy{unsure, no}, engine.CodeInternal, engine.CodeStoreUnavailable},
		{"no, unsure", []engine.OwnershipPolicy{no, unsure}, engine.CodeInternal, engine.CodeStoreUnavailable},
	} {
		if err := engine.AllOf(c.policies...).Allow(t.Context(), alice, engine.AccessRead, engine.Task{}); engine.CodeOf(err) != c.all {
			t.Errorf("all of %s: %v", c.name, err)
		}
		if err := engine.AnyOf(c.policies...).Allow(t.Context(), alice, engine.AccessRead, engine.Task{}); engine.CodeOf(err) != c.any {
			t.Errorf("any of %s: %v", c.name, err)
		}
	}
}

// Asking again about open streams is left out only where it is no use.
func TestPolicyMayChange(t *testing.T) {
	hosts := engine.OwnershipFunc(func(context.Context, engine.AuthContext, engine.Access, engine.Task) error { return nil })
	scopes := engine.ScopeBased(nil)
	for _, c := range []struct {
		name   string
		policy engine.OwnershipPolicy
		want   bool
	}{
		{"none", nil, false},
		{"owners", engine.OwnerOnly(), false},
		{"scopes", scopes, false},
		{"the host's", hosts, true},
		{"all of ours", engine.AllOf(engine.OwnerOnly(), scopes), false},
		{"all of ours and the host's", engine.AllOf(engine.OwnerOnly(), hosts), true},
		{"any of ours, nested", engine.AnyOf(engine.AllOf(scopes, nil), engine.OwnerOnly()), false},
		{"any with the host's, nested", engine.AnyOf(engine.OwnerOnly(), engine.AllOf(scopes, hosts)), true},
	} {
		w := newWorld(t, func(cfg *engine.Config, _ *memConfig) { cfg.Ownership = c.policy })
		if got := w.PolicyMayChange(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
