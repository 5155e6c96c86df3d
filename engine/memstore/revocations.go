package memstore

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var _ engine.Revocations = (*Store)(nil)

// revocations are the store's revocations and who watches them.
type revocations struct {
	mu       sync.Mutex
	byID     map[string]engine.Revocation
	watchers map[*func()]struct{}
}

// PutRevocation implements engine.Revocations.
func (s *Store) PutRevocation(_ context.Context, r engine.Revocation, limit int, needless ...engine.Revocation) error {
	if s.isClosed() {
		return errClosed()
	}
	r.Attributes = maps.Clone(r.Attributes)
	v := &s.revocations
	return v.change(func() error {
		if v.byID == nil {
			v.byID = map[string]engine.Revocation{}
		}
		needless = slices.DeleteFunc(slices.Clone(needless), func(old engine.Revocation) bool {
			return old.ID == r.ID || !reflect.DeepEqual(v.byID[old.ID], old)
		})
		if _, there := v.byID[r.ID]; !there && len(v.byID)-len(needless) >= limit {
			if v.prune(s.now()); len(v.byID)-len(needless) >= limit {
				return engine.NewError(engine.CodeRateLimited, "too many revocations are in force")
			}
		}
		for _, old := range needless {
			delete(v.byID, old.ID)
		}
		v.byID[r.ID] = r
		return nil
	})
}

// LiftRevocation implements engine.Revocations.
func (s *Store) LiftRevocation(_ context.Context, id string) error {
	if s.isClosed() {
		return errClosed()
	}
	v := &s.revocations
	return v.change(func() error {
		delete(v.byID, id)
		return nil
	})
}

// change makes a change and tells who watches, outside the lock.
func (v *revocations) change(do func() error) error {
	v.mu.Lock()
	err := do()
	told := slices.Collect(maps.Keys(v.watchers))
	v.mu.Unlock()
	if err == nil {
		for _, fn := range told {
			(*fn)()
		}
	}
	return err
}

// ListRevocations implements engine.Revocations.
func (s *Store) ListRevocations(context.Context) ([]engine.Revocation, error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	return s.revocations.list(s.now()), nil
}

// WatchRevocations implements engine.Revocations.
func (s *Store) WatchRevocations(fn func()) (func(), error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	w := &fn
	v := &s.revocations
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.watchers == nil {
		v.watchers = map[*func()]struct{}{}
	}
	v.watchers[w] = struct{}{}
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.watchers, w)
	}, nil
}

// list gives copies of what has not lapsed.
func (v *revocations) list(now time.Time) []engine.Revocation {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prune(now)
	all := make([]engine.Revocation, 0, len(v.byID))
	for _, r := range v.byID {
		r.Attributes = maps.Clone(r.Attributes)
		all = append(all, r)
	}
	return all
}

// prune forgets what has lapsed. mu is held.
func (v *revocations) prune(now time.Time) {
	maps.DeleteFunc(v.byID, func(_ string, r engine.Revocation) bool { return !now.Before(r.ExpiresAt) })
}
