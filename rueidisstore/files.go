package rueidisstore

import (
	"context"
	"errors"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// filesTimeout bounds the deletion of one task's files. It is less than leaseTTL.
const filesTimeout = 20 * time.Second

// FileDeleter is what Config.Attachments needs of an engine.AttachmentStore.
type FileDeleter interface {
	Delete(ctx context.Context, a engine.Attachment) error
}

// recordTTL is how long Redis keeps a record after its log. With files to delete
// that is longer than promised: maintenance takes it away in time, and still knows
// the files if it is late.
func (c Config) recordTTL() time.Duration {
	if c.Attachments == nil {
		return c.RecordTTL
	}
	return c.RecordTTL + c.margin()
}

// hasFiles reports whether files have to go with t.
func (s *Store) hasFiles(t engine.Task) bool {
	return s.cfg.Attachments != nil && len(t.Attachments) > 0
}

// ageEnded erases a task with files that is over when its record's time has come,
// and gives the time to look at it next: 0 for never.
func (s *Store) ageEnded(ctx context.Context, now int64, t engine.Task) (int64, error) {
	if !s.hasFiles(t) {
		return 0, nil // Redis forgets it
	}
	ended := t.UpdatedAt.UnixMilli()
	if t.Terminal != nil {
		ended = int64(t.Terminal.ID.Millis)
	}
	end := ended + (s.cfg.StreamTTL + s.cfg.RecordTTL).Milliseconds()
	if now < end {
		return end, nil
	}
	return 0, s.Erase(ctx, t.ID)
}

// eraseFiles deletes the files of a task that is about to be erased.
func (s *Store) eraseFiles(ctx context.Context, taskID string) error {
	if s.cfg.Attachments == nil {
		return nil
	}
	t, err := s.Get(ctx, taskID, engine.Fresh)
	if engine.CodeOf(err) == engine.CodeTaskNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, filesTimeout)
	defer done()
	var failed error
	for _, a := range t.Attachments {
		failed = errors.Join(failed, s.cfg.Attachments.Delete(ctx, a))
	}
	if failed != nil {
		return unavailable(&opError{op: "delete the files of a task", err: failed})
	}
	return nil
}
