package engine

import (
	"context"
	"time"
)

// AuditAction says what an AuditEvent is about.
type AuditAction string

// What is audited.
const (
	// AuditAuthenticationDenied: a request brought no credentials, or some that
	// are wrong, expired or revoked.
	AuditAuthenticationDenied AuditAction = "authentication.denied"
	// AuditAccessDenied: the policy or a revocation denied access to a task, or
	// there is no such task; clients cannot tell these apart, and Reason can.
	AuditAccessDenied AuditAction = "access.denied"
	// AuditOriginDenied: a browser's page of another origin was refused.
	AuditOriginDenied AuditAction = "origin.denied"
	// AuditRevoked, AuditRevocationFailed and AuditRevocationLifted: Revoke, a
	// Revoke that could not be stored, and LiftRevocation.
	AuditRevoked          AuditAction = "revocation.made"
	AuditRevocationFailed AuditAction = "revocation.failed"
	AuditRevocationLifted AuditAction = "revocation.lifted"
)

// AuditEvent is one denial or one change of what is denied. It holds no
// credential and no payload. Fields that do not apply are empty.
type AuditEvent struct {
	Action AuditAction
	Time   time.Time
	// Subject is who was denied, or whom a revocation names.
	Subject string
	Access  Access
	TaskID  string
	// RevocationID names the revocation.
	RevocationID string
	// Reason is for operators: the policy's error, or the revocation's reason.
	Reason string
}

// AuditSink receives audit events. Audit is called on the goroutine of the
// request, concurrently, with the request's context, and should return at once:
// a sink that writes to a slow place keeps a queue of its own. It is a record
// and no veto; what it cannot write it has to report itself.
type AuditSink interface {
	Audit(ctx context.Context, event AuditEvent)
}

// Audit gives an event to the sink of the Config. Transports use it for what
// they deny themselves. Time is set here.
func (e *Engine) Audit(ctx context.Context, event AuditEvent) {
	if e.cfg.Audit == nil {
		return
	}
	event.Time = time.Now()
	e.cfg.Audit.Audit(ctx, event)
}
