package rueidisstore

import (
	"context"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var _ engine.Signals = (*Store)(nil)

// Listen implements engine.Signals. fn is called in a goroutine of the store;
// Close waits for it, so fn must not close the store.
func (s *Store) Listen(ctx context.Context, taskID string, fn func(engine.Signal)) (func(), error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	if !validID(taskID) {
		return nil, errNotFound()
	}
	l, err := s.tail.listen(ctx, s.keys.task(taskID), incarnationOf(taskID), fn)
	if err != nil {
		return nil, classify("listen for signals", err)
	}
	return l.stop, nil
}
