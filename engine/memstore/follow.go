package memstore

import (
	"context"
	"slices"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// follower is one Follow. Its identity is its address.
type follower struct{ to engine.Follower }

// Follow implements engine.EventStore. What is stored already is pushed before
// it returns.
//
// Following a log that has expired pushes nothing; if the cursor stands before
// the terminal event, Lost is called.
func (s *Store) Follow(_ context.Context, taskID string, after engine.EventID, to engine.Follower) (func(), error) {
	e, err := s.find(taskID)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.load(); err != nil {
		return nil, err
	}
	rest := e.log.after(after)
	// The ordinal of what should come next, and of what does.
	should, does := after.Ordinal+1, e.log.last.Ordinal+1
	if len(rest) > 0 {
		does = rest[0][0].ID.Ordinal
	}
	if should != does {
		to.Lost()
	}
	for _, batch := range rest {
		to.Push(batch)
	}
	f := &follower{to}
	e.followers = append(e.followers, f)
	return func() { e.unfollow(f) }, nil
}

// unfollow takes the lock that every call to a follower is made under.
func (e *entry) unfollow(f *follower) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.followers, f); i >= 0 {
		e.followers = slices.Delete(e.followers, i, i+1)
	}
}
