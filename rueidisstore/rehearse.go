package rueidisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// rehearse goes through a task's life once, so that a right which the ACL does
// not give, or a command that the server does not have, shows at the start and
// not with the first client. The task is erased again; its keys have a short
// life if that does not come to pass.
func (s *Store) rehearse(ctx context.Context) error {
	for try := 1; ; try++ {
		err := s.rehearseOnce(ctx)
		// The slot of that task was on its way to another node; the next task is in
		// another slot.
		if err == nil || try == maxRehearsals || !strings.Contains(err.Error(), "TRYAGAIN") {
			return err
		}
	}
}

// maxRehearsals bounds the tries while slots of a Cluster move.
const maxRehearsals = 5

func (s *Store) rehearseOnce(ctx context.Context) error {
	task, _, err := s.Create(ctx, engine.Task{
		Owner: "rueidisstore", ClientRequestID: rand.Text(), Type: "rehearsal",
		Status: engine.StatusAccepted, CreatedAt: time.Now(), UpdatedAt: time.Now(),
	})
	if err != nil {
		return fmt.Errorf("rueidisstore: rehearsal: %w", err)
	}
	message := engine.Draft{Type: engine.TypeMessage, Payload: []byte(`{"message":""}`)}
	suspended := engine.Draft{Type: engine.TypeSuspended, Payload: []byte(`{"suspendId":"s","allowedActions":["a"]}`)}
	completed := engine.Draft{Type: engine.TypeCompleted, Payload: []byte(`{"result":null}`)}
	_, cancelErr := s.RequestCancel(ctx, task.ID, "rehearsal")
	holdErr := errors.Join(s.rehearseLease(ctx, task.ID), s.rehearseRevocations(ctx))
	_, quickErr := s.Append(ctx, engine.Append{TaskID: task.ID, Token: "0", Events: []engine.Draft{message}})
	_, appendErr := s.Append(ctx, engine.Append{TaskID: task.ID, Token: "1", Events: []engine.Draft{suspended}})
	actErr := s.rehearseActions(ctx, task.ID)
	_, saveErr := s.Append(ctx, engine.Append{TaskID: task.ID, Token: "s", Events: []engine.Draft{message}, Checkpoint: &engine.Checkpoint{Data: []byte("0")}})
	_, savedErr := s.Checkpoint(ctx, task.ID)
	_, endErr := s.Append(ctx, engine.Append{TaskID: task.ID, Token: "2", Events: []engine.Draft{completed}})
	if errors.Is(endErr, errUnconfirmed) {
		// A replica that is away now may be back with the first task.
		s.cfg.Logger.Warn("rueidisstore: what Config.Wait asks for is not met now", "error", endErr)
		endErr = nil
	}
	_, readErr := s.Read(ctx, task.ID, engine.EventID{}, 1)
	_, getErr := s.Get(ctx, task.ID, engine.Cached)
	renewErr := s.renew(ctx, task.ID, time.Minute)
	_, leaseErr := s.takeLease(ctx, dueShards, rand.Text()) // of no shard that there is
	_, _, dueErr := s.due(ctx, shardOf(task.ID))
	unlistErr := s.reschedule(ctx, shardOf(task.ID), []string{task.ID}, nil)
	var heldErr error
	if s.cfg.Subjects.bounded() {
		heldErr = s.recount(ctx, s.held(task.Owner))
		s.giveShareBack(ctx, &task)
	}
	eraseErr := s.Erase(ctx, task.ID)
	for _, step := range []error{cancelErr, holdErr, quickErr, appendErr, actErr, saveErr, savedErr, endErr, readErr, getErr, renewErr, leaseErr, dueErr, unlistErr, heldErr, eraseErr} {
		err = errors.Join(err, step)
	}
	if err != nil {
		return fmt.Errorf("rueidisstore: rehearsal: %w", err)
	}
	return nil
}
