package memstore

import (
	"context"
	"slices"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var _ engine.Checkpoints = (*Store)(nil)

// Checkpoint implements engine.Checkpoints.
func (s *Store) Checkpoint(_ context.Context, taskID string) (engine.Checkpoint, error) {
	e, err := s.find(taskID)
	if err != nil {
		return engine.Checkpoint{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.load(); err != nil {
		return engine.Checkpoint{}, err
	}
	c := e.saved
	c.Data = slices.Clone(c.Data)
	return c, nil
}

// keep makes c, unless it is nil, the task's checkpoint at the newest event, and
// returns by how many bytes the entry grew. mu is held. This store has no fences, and
// its answers cannot be lost, so no checkpoint is a late repeat.
func (e *entry) keep(c *engine.Checkpoint) (grown int64) {
	if c == nil {
		return 0
	}
	grown = int64(len(c.Data) - len(e.saved.Data))
	e.saved = engine.Checkpoint{Data: slices.Clone(c.Data), At: e.log.last, Number: c.Number}
	return grown
}

// forget drops the checkpoint, and returns by how many bytes the entry grew, which is
// not positive.
func (e *entry) forget() (grown int64) {
	grown = -int64(len(e.saved.Data))
	e.saved = engine.Checkpoint{}
	return grown
}
