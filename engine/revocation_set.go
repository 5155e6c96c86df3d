package engine

import "time"

// revocationSet is an immutable set of revocations. It is indexed so that the cost of a
// search grows with the scopes and attributes of the caller's credentials and not with
// the number of revocations.
type revocationSet struct {
	// byCondition holds each revocation under one of its conditions: the one that the
	// fewest others have.
	byCondition map[condition][]*Revocation
	// rest are those without a condition, or with the time of issue only.
	rest []*Revocation
	// perSubject counts the revocations that name a subject.
	perSubject map[string]int
	byID       map[string]*Revocation
}

// condition is one value that credentials or a task must have.
type condition struct {
	kind        conditionKind
	name, value string // name is an attribute's
}

type conditionKind uint8

const (
	ofSubject conditionKind = iota
	ofTask
	ofApp
	ofScope
	ofAttribute
)

// conditions lists r's conditions, in no order.
func (r *Revocation) conditions() []condition {
	list := make([]condition, 0, 4+len(r.Attributes))
	for _, c := range []condition{
		{ofSubject, "", r.Subject}, {ofTask, "", r.TaskID}, {ofApp, "", r.AppID}, {ofScope, "", r.Scope},
	} {
		if c.value != "" {
			list = append(list, c)
		}
	}
	for name, value := range r.Attributes {
		list = append(list, condition{ofAttribute, name, value})
	}
	return list
}

// newRevocationSet indexes the revocations in all, and keeps pointers into it.
func newRevocationSet(all []Revocation) *revocationSet {
	s := &revocationSet{
		byCondition: make(map[condition][]*Revocation, len(all)),
		perSubject:  map[string]int{}, byID: make(map[string]*Revocation, len(all)),
	}
	shared := make(map[condition]int, len(all))
	for i := range all {
		for _, c := range all[i].conditions() {
			shared[c]++
		}
	}
	for i := range all {
		r := &all[i]
		s.byID[r.ID] = r
		if r.Subject != "" {
			s.perSubject[r.Subject]++
		}
		list := r.conditions()
		if len(list) == 0 {
			s.rest = append(s.rest, r)
			continue
		}
		rarest := list[0]
		for _, c := range list[1:] {
			if shared[c] < shared[rarest] {
				rarest = c
			}
		}
		s.byCondition[rarest] = append(s.byCondition[rarest], r)
	}
	return s
}

// find returns a revocation that applies, nil if none does. It prefers one that
// is about the credentials to one about the task.
func (s *revocationSet) find(auth *AuthContext, taskID string, now time.Time) (found *Revocation) {
	if s == nil || len(s.byID) == 0 {
		return nil
	}
	l := look{auth: auth, taskID: taskID, now: now}
	if l.in(s.rest) || l.at(s, ofSubject, "", auth.Subject) || l.at(s, ofApp, "", auth.AppID) || l.at(s, ofTask, "", taskID) {
		return l.found
	}
	for _, scope := range auth.Scopes {
		if l.at(s, ofScope, "", scope) {
			return l.found
		}
	}
	for name, value := range auth.Attributes {
		if l.at(s, ofAttribute, name, value) {
			return l.found
		}
	}
	return l.found
}

// look is one search of a set.
type look struct {
	auth   *AuthContext
	taskID string
	now    time.Time
	found  *Revocation
}

// in searches a list. It returns true when the search is over.
func (l *look) in(list []*Revocation) bool {
	for _, r := range list {
		if l.now.Before(r.ExpiresAt) && r.Fits(l.auth, l.taskID) {
			l.found = r
			if r.TaskID == "" {
				return true
			}
		}
	}
	return false
}

func (l *look) at(s *revocationSet, kind conditionKind, name, value string) bool {
	return l.in(s.byCondition[condition{kind, name, value}])
}

// coveredBy returns up to limit revocations that r makes needless: r applies to
// whatever they apply to, and for as long. Only one with IssuedBefore, which
// asks to sign in again, makes others needless: one without is a ban, and when
// it is lifted, what was revoked before must still be.
func (s *revocationSet) coveredBy(r *Revocation, limit int) (needless []Revocation) {
	if s == nil || r.IssuedBefore.IsZero() {
		return nil
	}
	lists := [][]*Revocation{s.rest}
	if c := r.conditions(); len(c) > 0 {
		// What r covers has every condition of r. If it is indexed under a condition
		// that r does not have, it is not found and stays.
		lists = lists[:0]
		for _, one := range c {
			lists = append(lists, s.byCondition[one])
		}
	}
	for _, list := range lists {
		for _, old := range list {
			if len(needless) < limit && old.ID != r.ID && r.covers(old) {
				needless = append(needless, *old)
			}
		}
	}
	return needless
}

// covers reports whether r applies to whatever old applies to, for as long.
func (r *Revocation) covers(old *Revocation) bool {
	switch {
	case r.Subject != "" && r.Subject != old.Subject,
		r.TaskID != old.TaskID,
		r.AppID != "" && r.AppID != old.AppID,
		r.Scope != "" && r.Scope != old.Scope,
		!r.IssuedBefore.IsZero() && (old.IssuedBefore.IsZero() || old.IssuedBefore.After(r.IssuedBefore)),
		old.ExpiresAt.After(r.ExpiresAt):
		return false
	}
	for name, value := range r.Attributes {
		if got, ok := old.Attributes[name]; !ok || got != value {
			return false
		}
	}
	return true
}
