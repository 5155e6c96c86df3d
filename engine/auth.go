package engine

import (
	"context"
	"slices"
	"time"
)

// AuthContext is who a request comes from, as the host's own authentication
// established it. The library never sees a credential.
type AuthContext struct {
	// Subject owns what it creates. An empty one is nobody and is refused.
	Subject    string
	Scopes     []string
	AppID      string
	Attributes map[string]string
	// IssuedAt is when the credential was made out; a Revocation may take back
	// those from before a moment. Zero: not known, which counts as long ago.
	IssuedAt time.Time
	// ExpiresAt ends the caller's streams. Zero: never.
	ExpiresAt time.Time
}

// HasScope reports whether the credential carries scope.
func (a AuthContext) HasScope(scope string) bool { return slices.Contains(a.Scopes, scope) }

// Access is what a caller wants to do with a task.
type Access string

// What can be asked of an OwnershipPolicy.
const (
	AccessCreate    Access = "create"
	AccessRead      Access = "read"      // poll, snapshot
	AccessSubscribe Access = "subscribe" // SSE, WebSocket
	AccessCancel    Access = "cancel"
	AccessAct       Access = "act"
)

// OwnershipPolicy decides who may do what. It may be called concurrently, and
// from outside any request: an open stream is asked about again with the
// credential that opened it, about once every heartbeat, and ends if the answer
// has become no. Package engine has [OwnerOnly] and [ScopeBased], and [AllOf]
// and [AnyOf] to combine policies.
type OwnershipPolicy interface {
	// Allow returns nil to allow. For AccessCreate task has no ID yet. Any
	// error denies: a create is then answered with TASK_OWNERSHIP_ERROR,
	// everything else with TASK_NOT_FOUND, the same as for a task that does
	// not exist. The error goes to the log only, except that an *Error with
	// CodeStoreUnavailable or CodeRateLimited is passed on as it is.
	Allow(ctx context.Context, auth AuthContext, access Access, task Task) error
}

// OwnershipFunc is a function as an OwnershipPolicy.
type OwnershipFunc func(ctx context.Context, auth AuthContext, access Access, task Task) error

// Allow calls f.
func (f OwnershipFunc) Allow(ctx context.Context, auth AuthContext, access Access, task Task) error {
	return f(ctx, auth, access, task)
}
