package memstore

import (
	"slices"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// acts are the suspensions of one task and the answers to them. The zero value
// is ready; entry.mu guards it.
type acts struct {
	byID     map[string]*suspension
	receipts map[string]*resolved // by ClientActionID
	// history is what was resolved, the first first, for pruning.
	history []*resolved
	size    int64
	// expired says that there were some, and that their time after the end of
	// the task is over.
	expired bool
}

// suspension is one suspension of a task.
type suspension struct {
	engine.Suspension
	task *entry
	// due is where the store's index has it; tries counts the hand-offs that
	// were offered.
	due   due
	tries int
}

// resolved is a suspension that is not open any more, with the receipt of the
// answer, if an answer did it.
type resolved struct {
	s           *suspension
	receipt     string // "": none
	fingerprint string
}

// pending reports whether somebody has yet to get the answer.
func (s *suspension) pending() bool { return s.Answer != nil && !s.HandedOver }

// overdue reports whether the time of s is over.
func (s *suspension) overdue(now time.Time) bool {
	return s.ExpiresAt != nil && !now.Before(*s.ExpiresAt)
}

const actOverhead = 512

func (s *suspension) bytes() int64 {
	n := actOverhead + suspensionBytes(&s.Suspended)
	if d := s.Default; d != nil {
		n += len(d.ActionType) + len(d.Payload)
	}
	if a := s.Answer; a != nil {
		n += 2*len(a.ClientActionID) + len(a.ActionType) + len(a.Payload) + len(a.Metadata) + len(a.Actor)
	}
	return int64(n)
}

// begin notes what TASK_SUSPENDED opened. An id that was used before names the
// new one from now on; what answered the old one stays answered.
func (a *acts) begin(e *entry, opened engine.Suspended, d *engine.DefaultAction) *suspension {
	if a.byID == nil {
		a.byID, a.receipts = map[string]*suspension{}, map[string]*resolved{}
	}
	s := &suspension{task: e, Suspension: engine.Suspension{Suspended: opened, Open: true}}
	if d != nil {
		s.Default = &engine.DefaultAction{ActionType: strings.Clone(d.ActionType), Payload: slices.Clone(d.Payload)}
	}
	if old := a.byID[opened.SuspendID]; old != nil {
		a.size -= old.bytes()
	}
	a.byID[opened.SuspendID] = s
	a.size += s.bytes()
	return s
}

// close notes that s waits no more, and forgets what is beyond keep.
func (a *acts) close(s *suspension, answer *engine.Action, fingerprint string, keep int) (forgotten []*suspension) {
	a.size -= s.bytes()
	s.Open, s.Answer = false, answer
	a.size += s.bytes()
	done := &resolved{s: s}
	if answer != nil && !s.Expired {
		done.receipt, done.fingerprint = answer.ClientActionID, fingerprint
		a.receipts[done.receipt] = done
	}
	a.history = append(a.history, done)
	return a.prune(keep)
}

// prune forgets what was resolved first, but nothing that nobody has yet.
func (a *acts) prune(keep int) (forgotten []*suspension) {
	excess := len(a.history) - keep
	a.history = slices.DeleteFunc(a.history, func(r *resolved) bool {
		if excess <= 0 || r.s.pending() {
			return false
		}
		excess--
		if a.receipts[r.receipt] == r {
			delete(a.receipts, r.receipt)
		}
		if a.byID[r.s.SuspendID] == r.s {
			delete(a.byID, r.s.SuspendID)
			a.size -= r.s.bytes()
		}
		forgotten = append(forgotten, r.s)
		return true
	})
	return forgotten
}

// verdict is what becomes of r, with the suspension that it names.
func (a *acts) verdict(r engine.Resolution, t *engine.Task, now time.Time) (engine.Verdict, *suspension) {
	s := a.byID[r.SuspendID]
	switch {
	case s == nil && a.expired: // whichever it is, it is over with its task
		return engine.VerdictResolved, nil
	case s == nil:
		return engine.VerdictUnknown, nil
	}
	if r.Action != nil && !slices.Contains(s.AllowedActions, r.Action.ActionType) {
		return engine.VerdictNotAllowed, s
	}
	if r.Action != nil && !r.Expiry {
		if had := a.receipts[r.Action.ClientActionID]; had != nil {
			if had.fingerprint == r.Fingerprint {
				return engine.VerdictDeduplicated, s
			}
			return engine.VerdictConflict, s
		}
	}
	switch {
	case over(t):
		return engine.VerdictResolved, s
	case s.Expired:
		return engine.VerdictExpired, s
	case !s.Open:
		return engine.VerdictResolved, s
	case s.overdue(now) != r.Expiry:
		return engine.VerdictExpired, s
	case r.Unfit:
		return engine.VerdictUnfit, s
	}
	return engine.VerdictAccepted, s
}
