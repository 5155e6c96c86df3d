package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Revocation takes access back that credentials and policy would still give. It
// applies to whatever all of its conditions fit; an empty condition fits
// everything, and at least one must be set. It is data and not a function, so
// that it can be stored and means the same on every node.
//
// One with a TaskID closes that task to the callers it fits: the task looks
// missing to them. One without closes the door to their credentials: they get
// AUTHENTICATION_ERROR.
type Revocation struct {
	// ID names the revocation. Left empty, Revoke derives one from the
	// conditions, so that revoking the same again only makes it last longer.
	// At most 255 characters.
	ID string `json:"id"`

	// Subject, TaskID and AppID fit what is equal.
	Subject string `json:"subject,omitempty"`
	TaskID  string `json:"taskId,omitempty"`
	AppID   string `json:"appId,omitempty"`
	// Scope fits credentials that carry it, among others.
	Scope string `json:"scope,omitempty"`
	// Attributes fit credentials that have every one of them with this value: a
	// session id, a token id, a tenant.
	Attributes map[string]string `json:"attributes,omitempty"`
	// IssuedBefore fits credentials that were issued earlier
	// (AuthContext.IssuedAt), and those that do not say when; a caller who
	// signs in anew is let in. Tokens tell whole seconds: one of the same
	// second counts as earlier.
	IssuedBefore time.Time `json:"issuedBefore,omitzero"`

	// Operator says that an operator made the revocation, and not a user for
	// themselves. Only such revocations may use RevocationConfig.Reserve, and they do
	// not count against MaxPerSubject.
	Operator bool `json:"operator,omitempty"`
	// Reason is for those who read Revocations. No client sees it.
	Reason string `json:"reason,omitempty"`
	// CreatedAt is when it was made; Revoke sets it.
	CreatedAt time.Time `json:"createdAt"`
	// ExpiresAt is when it lapses. It should not be earlier than the end of the
	// credentials that it is about. Zero: after RevocationConfig.TTL.
	ExpiresAt time.Time `json:"expiresAt"`
}

// Fits reports whether the revocation applies to what auth wants with a task;
// no taskID is a request that is about none. It does not ask whether the
// revocation has lapsed. Without any condition it fits nothing.
func (r *Revocation) Fits(auth *AuthContext, taskID string) bool {
	if r.unconditional() {
		return false
	}
	switch {
	case r.Subject != "" && r.Subject != auth.Subject,
		r.TaskID != "" && r.TaskID != taskID,
		r.AppID != "" && r.AppID != auth.AppID,
		r.Scope != "" && !auth.HasScope(r.Scope),
		!r.IssuedBefore.IsZero() && !auth.IssuedAt.Before(r.IssuedBefore):
		return false
	}
	for name, value := range r.Attributes {
		if got, ok := auth.Attributes[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// Revocations is the power of a store to keep revocations: state that every
// node reads, and a wake-up when it changes, so that a process which was cut off
// finds out what it missed. New looks for it once; without it Revoke fails.
//
// A revocation is gone when its ExpiresAt has passed, by the store's clock or
// up to a second of the process's. Every method may be called concurrently;
// errors are those of [Store].
type Revocations interface {
	// PutRevocation stores r, in place of one with the same ID. In the same step it
	// removes the revocations in needless, at most 100, that are still stored exactly
	// as given. It fails with RATE_LIMITED, and removes nothing, if the store holds
	// limit others that have not lapsed; those that it would remove do not count.
	PutRevocation(ctx context.Context, r Revocation, limit int, needless ...Revocation) error

	// LiftRevocation removes the one with this ID; removing what is not there is
	// no error.
	LiftRevocation(ctx context.Context, id string) error

	// ListRevocations gives all that have not lapsed, in no order, never from a
	// cache. They are the caller's.
	ListRevocations(ctx context.Context) ([]Revocation, error)

	// WatchRevocations calls fn within a second of every change on whatever
	// node, and when there may have been one that could not be seen, until stop
	// is called. What ListRevocations gives after that call has the change.
	// Several changes may be one call; a lapse is none. fn returns at once and
	// does not call the store; it may be called concurrently, and once more
	// after stop has returned.
	WatchRevocations(fn func()) (stop func(), err error)
}

func (r *Revocation) unconditional() bool {
	return r.Subject == "" && r.TaskID == "" && r.AppID == "" && r.Scope == "" && len(r.Attributes) == 0 && r.IssuedBefore.IsZero()
}

// RevocationConfig bounds revocations.
type RevocationConfig struct {
	// TTL is how long a revocation holds that does not say. It should be at
	// least as long as credentials live. Defaults to 24h.
	TTL time.Duration
	// Max is how many may be in force at once; every process holds them all in
	// memory. Beyond it Revoke fails with RATE_LIMITED. Defaults to 10,000.
	Max int
	// Reserve is how many of Max are reserved for revocations of operators
	// (Revocation.Operator). Defaults to a tenth of Max; negative is none.
	Reserve int
	// MaxPerSubject is how many revocations that name one subject, and are not made
	// by operators, may be in force at once, so that the sign-outs of one user do not
	// use up Max. Each process counts the revocations that it knows, so a few more
	// are possible if several processes revoke at once. Defaults to 100; negative is
	// no bound.
	MaxPerSubject int
}

// maxRevocationBytes bounds one revocation.
const maxRevocationBytes = 4 << 10

// check returns r as it is to be stored.
func (r Revocation) check(now time.Time, ttl time.Duration) (Revocation, error) {
	r.Attributes = maps.Clone(r.Attributes)
	r.IssuedBefore, r.ExpiresAt = utc(r.IssuedBefore), utc(r.ExpiresAt)
	var wrong []FieldError
	if r.unconditional() {
		wrong = append(wrong, FieldError{"", "a revocation of everything: at least one condition must be set"})
	}
	if r.TaskID != "" && !validTaskID(r.TaskID) {
		wrong = append(wrong, FieldError{"taskId", "is not the id of a task"})
	}
	if r.ID == "" {
		r.ID = r.derivedID()
	} else if message := checkName(r.ID); message != "" {
		wrong = append(wrong, FieldError{"id", message})
	}
	r.CreatedAt = utc(now)
	if r.ExpiresAt.IsZero() {
		r.ExpiresAt = r.CreatedAt.Add(ttl)
	} else if !r.ExpiresAt.After(now) {
		wrong = append(wrong, FieldError{"expiresAt", "is in the past"})
	}
	if text, err := json.Marshal(r); err != nil || len(text) > maxRevocationBytes {
		wrong = append(wrong, FieldError{"", fmt.Sprintf("is larger than %d bytes", maxRevocationBytes)})
	}
	return r, invalid(wrong)
}

// derivedID names the conditions.
func (r Revocation) derivedID() string {
	digest := sha256.New()
	put := func(s string) { _, _ = fmt.Fprintf(digest, "%d:%s", len(s), s) } // a hash takes everything
	for _, s := range []string{r.Subject, r.TaskID, r.AppID, r.Scope, r.IssuedBefore.Format(time.RFC3339Nano)} {
		put(s)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
		put(name)
		put(r.Attributes[name])
	}
	return hex.EncodeToString(digest.Sum(nil)[:16])
}

// utc is t as it comes back from a store.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}
