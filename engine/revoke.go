package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

var (
	errRevoked        = NewError(CodeAuthentication, "the credentials have been revoked")
	errNoRevocations  = NewError(CodeInternal, "the store keeps no revocations")
	errAccessRevoked  = errors.New("a revocation applies")
	errRevocationsOff = errors.New("engine: the store does not implement Revocations")

	errSubjectRevocations = NewError(CodeRateLimited, "too many revocations name this subject; this one holds in this process only")
)

// Revoke takes access back, on every node: what follows is refused from now on,
// and streams and waiting polls that are open end within a second. It returns
// the revocation as it was stored. It holds until it lapses or is lifted. With
// IssuedBefore it replaces older ones that it makes unnecessary.
//
// Errors: REQUEST_VALIDATION_ERROR, and INTERNAL_ERROR if the store keeps no
// revocations. With RATE_LIMITED, when RevocationConfig allows no more, and with
// STORE_UNAVAILABLE and other errors of the store, after which it may or may not
// have been stored, the revocation is returned too: it holds in this process, and
// in this process only until Revoke is repeated.
func (e *Engine) Revoke(ctx context.Context, r Revocation) (Revocation, error) {
	if e.revoked.store == nil {
		return Revocation{}, errNoRevocations.WithCause(errRevocationsOff)
	}
	r, err := r.check(time.Now(), e.cfg.Revocations.TTL)
	if err != nil {
		return Revocation{}, err
	}
	err = e.keepRevocation(ctx, r)
	e.revoked.apply(r, err == nil)
	if e.revoked.view.Load() == nil { // nothing has been read yet, so nothing holds yet
		e.refreshRevocations(ctx)
	}
	audit := AuditEvent{Action: AuditRevoked, Subject: r.Subject, TaskID: r.TaskID, RevocationID: r.ID, Reason: r.Reason}
	if err != nil {
		audit.Action = AuditRevocationFailed
	}
	e.Audit(ctx, audit)
	if err != nil {
		e.cfg.Logger.WarnContext(ctx, "a revocation could not be stored; it holds in this process only", "id", r.ID, "error", err)
	}
	return r, err
}

// keepRevocation stores r, if there is room.
func (e *Engine) keepRevocation(ctx context.Context, r Revocation) error {
	cfg := e.cfg.Revocations
	limit := cfg.Max
	if !r.Operator {
		limit -= cfg.Reserve
		if r.Subject != "" && cfg.MaxPerSubject > 0 && !e.revoked.holds(r.ID) && e.revoked.ofSubject(r.Subject) >= cfg.MaxPerSubject {
			return errSubjectRevocations
		}
	}
	err := e.revoked.store.PutRevocation(ctx, r, limit, e.revoked.needless(&r)...)
	if err == nil {
		return nil
	}
	err = storeError("store the revocation", err)
	var known *Error
	if !errors.As(err, &known) {
		return err
	}
	told := *known
	told.Message += "; it holds in this process only"
	return &told
}

// LiftRevocation gives back what the revocation with this ID took. Lifting what
// is not there is no error.
func (e *Engine) LiftRevocation(ctx context.Context, id string) error {
	if e.revoked.store == nil {
		return errNoRevocations.WithCause(errRevocationsOff)
	}
	if err := e.revoked.store.LiftRevocation(ctx, id); err != nil {
		return storeError("lift the revocation", err)
	}
	e.revoked.forget(id)
	e.Audit(ctx, AuditEvent{Action: AuditRevocationLifted, RevocationID: id})
	e.refreshRevocations(ctx)
	return nil
}

// Revocations lists what is in force, the newest first, with what holds in this
// process only.
func (e *Engine) Revocations(ctx context.Context) ([]Revocation, error) {
	if e.revoked.store == nil {
		return nil, nil
	}
	all, err := e.revoked.store.ListRevocations(ctx)
	if err != nil {
		return nil, storeError("list the revocations", err)
	}
	stored := len(all)
	for _, own := range e.revoked.unkept() {
		if !slices.ContainsFunc(all[:stored], func(r Revocation) bool { return r.ID == own.ID }) {
			all = append(all, own)
		}
	}
	slices.SortFunc(all, func(a, b Revocation) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// refreshRevocations lets this process know at once what it has just changed. It
// hears of it from the store anyway.
func (e *Engine) refreshRevocations(ctx context.Context) {
	if err := e.revoked.refresh(ctx); err != nil {
		e.cfg.Logger.WarnContext(ctx, "revocations could not be read again; the store will tell", "error", err)
	}
}

// Standing is what is left of access that was given once.
type Standing int

// What StandingOf and Revoked find.
const (
	// StandingGood: nothing speaks against it, or nobody can tell just now.
	StandingGood Standing = iota
	// StandingTaskDenied: this task is closed to the caller.
	StandingTaskDenied
	// StandingRevoked: the caller's credentials have been revoked.
	StandingRevoked
)

// Revoked looks whether a revocation applies to a caller who follows a task. It
// asks memory only and may be called from anywhere. Without a task it looks at
// the credentials alone.
func (e *Engine) Revoked(auth *AuthContext, taskID string) Standing {
	switch r := e.revoked.find(auth, taskID); {
	case r == nil:
		return StandingGood
	case r.TaskID == "":
		return StandingRevoked
	}
	return StandingTaskDenied
}

// OnRevocation has fn called whenever revocations have changed, on whatever
// node, so that a transport asks Revoked about its open streams. fn must return
// at once, and may still be called once when stop has returned.
func (e *Engine) OnRevocation(fn func()) (stop func()) { return e.revoked.watch(fn) }

// PolicyMayChange reports whether it is any use to ask StandingOf now and then:
// the answers of OwnerOnly and ScopeBased about an open stream never change.
func (e *Engine) PolicyMayChange() bool { return !isSettled(e.cfg.Ownership) }

// StandingOf asks the policy again about a caller who reads or follows a task:
// first with what is cached of the task, and before it says no, with what is
// stored. An error of the store or a passing one of the policy's, and a task
// that is no longer known, leave the standing as it was: good.
func (e *Engine) StandingOf(ctx context.Context, auth *AuthContext, access Access, taskID string) Standing {
	if s := e.Revoked(auth, taskID); s != StandingGood || !e.PolicyMayChange() {
		return s
	}
	for _, freshness := range []Freshness{Cached, Fresh} {
		task, err := e.cfg.Store.Get(ctx, taskID, freshness)
		if err != nil {
			return StandingGood
		}
		if err = e.cfg.Ownership.Allow(ctx, *auth, access, task); err == nil || passing(err) || ctx.Err() != nil {
			return StandingGood
		}
	}
	return StandingTaskDenied
}
