package rueidisstore

import (
	"context"
	"errors"
	"sync"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var errLogMissing = errors.New("rueidisstore: the log is not there")

// Follow implements engine.EventStore. The first events that are stored have
// been pushed when it returns. Following a log that has expired pushes nothing;
// if the cursor stands before the terminal event, Lost is called.
//
// While Redis cannot be reached nothing is pushed; afterwards it goes on where
// it was. If Redis came back without what was pushed already, as after a
// failover to a replica that lacked it, Lost is called.
func (s *Store) Follow(ctx context.Context, taskID string, after engine.EventID, to engine.Follower) (func(), error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	if !validID(taskID) {
		return nil, errNotFound()
	}
	who, err := s.tail.follow(ctx, s.keys.log(taskID), taskID, after, to)
	if errors.Is(err, errLogMissing) {
		err = s.followMissing(ctx, taskID, after, who)
	}
	if err != nil {
		if who != nil {
			s.tail.unfollow(who)
		}
		return nil, classify("follow a log", err)
	}
	var once sync.Once
	return func() { once.Do(func() { s.tail.unfollow(who) }) }, nil
}

// followMissing tells from the record why a log is not there.
func (s *Store) followMissing(ctx context.Context, taskID string, after engine.EventID, who *follower) error {
	task, err := s.Get(ctx, taskID, engine.Fresh)
	if err != nil {
		return err
	}
	// It has expired; or it was evicted, or lost in a failover, and may yet be
	// begun anew.
	if task.Terminal == nil || after.Compare(task.Terminal.ID) < 0 {
		who.feed.mu.Lock()
		who.to.Lost()
		who.feed.mu.Unlock()
	}
	return nil
}
