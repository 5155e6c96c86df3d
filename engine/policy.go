package engine

import (
	"context"
	"maps"
)

// OwnerOnly lets any authenticated subject create, and only the creator do
// anything with what it created.
func OwnerOnly() OwnershipPolicy {
	return settled(func(_ context.Context, auth AuthContext, access Access, task Task) error {
		if auth.Subject != "" && (access == AccessCreate || auth.Subject == task.Owner) {
			return nil
		}
		return errDenied
	})
}

// ScopeBased lets a caller do what its credential has the scope for, with any
// task, whoever created it. An access that required does not name, or names no
// scope for, is denied. It fits operators and services; for people it goes with
// OwnerOnly:
//
//	// Owners, as far as their scopes allow.
//	engine.AllOf(engine.OwnerOnly(), engine.ScopeBased(map[engine.Access]string{
//		engine.AccessCreate: "tasks:create", engine.AccessRead: "tasks:read", ...
//	}))
//	// Owners, and support, which may look at everything.
//	engine.AnyOf(engine.OwnerOnly(), engine.ScopeBased(map[engine.Access]string{
//		engine.AccessRead: "support", engine.AccessSubscribe: "support",
//	}))
func ScopeBased(required map[Access]string) OwnershipPolicy {
	required = maps.Clone(required)
	return settled(func(_ context.Context, auth AuthContext, access Access, _ Task) error {
		if scope := required[access]; scope != "" && auth.Subject != "" && auth.HasScope(scope) {
			return nil
		}
		return errDenied
	})
}

// AllOf allows what every one of the policies allows. They are asked in their
// order until one denies. Of none at all, or with a nil one, it denies.
func AllOf(policies ...OwnershipPolicy) OwnershipPolicy {
	return combine(policies, func(ctx context.Context, auth AuthContext, access Access, task Task) error {
		var unsure error
		for _, p := range policies {
			switch err := ask(ctx, p, auth, access, task); {
			case err == nil:
			case !passing(err):
				return err
			case unsure == nil:
				unsure = err
			}
		}
		if len(policies) == 0 {
			return errDenied
		}
		return unsure
	})
}

// AnyOf allows what at least one of the policies allows. They are asked in their
// order until one does; if none does and one could not tell (STORE_UNAVAILABLE,
// RATE_LIMITED), neither can AnyOf. Of none at all it denies.
func AnyOf(policies ...OwnershipPolicy) OwnershipPolicy {
	return combine(policies, func(ctx context.Context, auth AuthContext, access Access, task Task) error {
		verdict := error(errDenied)
		for _, p := range policies {
			err := ask(ctx, p, auth, access, task)
			if err == nil {
				return nil
			}
			if !passing(verdict) {
				verdict = err
			}
		}
		return verdict
	})
}

// ask is p.Allow; nobody is no policy.
func ask(ctx context.Context, p OwnershipPolicy, auth AuthContext, access Access, task Task) error {
	if p == nil {
		return errDenied
	}
	return p.Allow(ctx, auth, access, task)
}

// combine makes a policy of f, settled if all of its parts are.
func combine(policies []OwnershipPolicy, f OwnershipFunc) OwnershipPolicy {
	for _, p := range policies {
		if p != nil && !isSettled(p) {
			return f
		}
	}
	return settled(f)
}

// settled is a policy whose answer about one credential and one task is always
// the same, so that asking it again about an open stream is no use.
type settled OwnershipFunc

// Allow calls f.
func (f settled) Allow(ctx context.Context, auth AuthContext, access Access, task Task) error {
	return f(ctx, auth, access, task)
}

func isSettled(p OwnershipPolicy) bool {
	_, ok := p.(settled)
	return ok
}

// denyAll is the policy of a host that chose none.
func denyAll() OwnershipPolicy {
	return settled(func(context.Context, AuthContext, Access, Task) error { return errDenied })
}

var errDenied = NewError(CodeTaskOwnership, "not allowed")
