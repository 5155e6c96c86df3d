package rueidisstore

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// Create implements engine.TaskRegistry: one script on the slot of the derived
// tag. The task's place in the due index, on another slot, is taken in the same
// round trip; if that fails it is taken soon after, and by any later Create.
func (s *Store) Create(ctx context.Context, task engine.Task) (engine.Task, bool, error) {
	if s.isClosed() {
		return engine.Task{}, false, errClosed()
	}
	task = detach(task)
	tag := deriveTag(*s.secret.Load(), task.Owner, task.ClientRequestID)
	task.ID = tag + newIncarnation()
	task.CreatedAt, task.UpdatedAt = toMicros(task.CreatedAt), toMicros(task.UpdatedAt)
	fields, err := encodeRecord(task)
	if err != nil {
		return engine.Task{}, false, damaged("create a task", err)
	}
	over := "0"
	if task.Terminal != nil || task.Status.Terminal() {
		over = "1"
	}
	openWithin, within := task.OpenWithin, "0"
	task.OpenWithin = 0
	if openWithin > 0 && over == "0" {
		within = millis(openWithin)
	}
	args := append([]string{
		millis(s.cfg.openTTL()), millis(s.cfg.StreamTTL), millis(s.cfg.recordTTL()), over, string(task.Status), within,
	}, fields...)

	if err := s.takeShare(ctx, &task, fields); err != nil {
		if there, lookErr := s.Lookup(ctx, task.Owner, task.ClientRequestID); lookErr == nil {
			return there, false, nil // an equal call at once had the last place
		}
		return engine.Task{}, false, err
	}
	ctx, done := s.bound(ctx)
	defer done()
	listed := make(chan error, 1)
	if over == "0" {
		go func() { // waited for below
			err := s.list(ctx, task.ID)
			if within != "0" {
				err = errors.Join(err, s.listLeases(ctx, openWithin, kept, task.ID))
			}
			listed <- err
		}()
	}
	answer, err := createScript.exec(ctx, s.client, 1, s.keys.ofTask(task.ID), args).ToMessage()
	var unlisted error
	if over == "0" {
		unlisted = <-listed
	}
	if err != nil {
		return engine.Task{}, false, classify("create a task", err)
	}
	if answer.IsInt64() {
		if unlisted != nil {
			s.listLater(task.ID)
		}
		return task, true, nil
	}
	s.unlistLater(task.ID)
	s.giveShareBack(ctx, &task)
	there, err := s.decode(tag, answer)
	if err != nil {
		return engine.Task{}, false, err
	}
	if !there.Status.Terminal() {
		s.listLater(there.ID) // its creator may have died before it could
	}
	if there.Owner != task.Owner || there.ClientRequestID != task.ClientRequestID {
		return engine.Task{}, false, damaged("create a task", errors.New("another task has this derived id"))
	}
	return there, false, nil
}

// detach copies everything that may belong to a request out of it.
func detach(t engine.Task) engine.Task {
	for _, s := range []*string{&t.Type, &t.Owner, &t.ClientRequestID, &t.Fingerprint, &t.CancelReason} {
		*s = strings.Clone(*s)
	}
	t.Input, t.Metadata = bytes.Clone(t.Input), bytes.Clone(t.Metadata)
	t.Attachments, t.Suspensions = slices.Clone(t.Attachments), slices.Clone(t.Suspensions)
	return t
}

// toMicros is t as Redis will give it back.
func toMicros(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// Lookup implements engine.TaskRegistry. It is always a fresh read.
func (s *Store) Lookup(ctx context.Context, owner, clientRequestID string) (engine.Task, error) {
	if s.isClosed() {
		return engine.Task{}, errClosed()
	}
	t, err := s.record(ctx, deriveTag(*s.secret.Load(), owner, clientRequestID))
	if err != nil {
		return engine.Task{}, err
	}
	if t.Owner != owner || t.ClientRequestID != clientRequestID {
		return engine.Task{}, errNotFound()
	}
	return t, nil
}

// Get implements engine.TaskRegistry. A cached answer comes from the client-side
// cache, which Redis invalidates, and which may also be that a task is not there:
// the engine asks anew before it says so to anyone, exactly as it does before it
// says no for another reason, so that the two take equally long.
func (s *Store) Get(ctx context.Context, taskID string, freshness engine.Freshness) (engine.Task, error) {
	if s.isClosed() {
		return engine.Task{}, errClosed()
	}
	if !validID(taskID) {
		return engine.Task{}, errNotFound()
	}
	if freshness == engine.Cached {
		t, err := s.cachedRecord(ctx, tagOf(taskID))
		return known(t, taskID, err)
	}
	t, err := s.record(ctx, tagOf(taskID))
	return known(t, taskID, err)
}

// known is t, if it is the incarnation that was asked for.
func known(t engine.Task, taskID string, err error) (engine.Task, error) {
	if err != nil {
		return engine.Task{}, err
	}
	if t.ID != taskID {
		return engine.Task{}, errNotFound()
	}
	return t, nil
}

// record reads a record from Redis.
func (s *Store) record(ctx context.Context, tag string) (engine.Task, error) {
	ctx, done := s.bound(ctx)
	defer done()
	answer, err := s.client.Do(ctx, s.client.B().Hgetall().Key(s.keys.record(tag)).Build()).ToMessage()
	if err != nil {
		return engine.Task{}, classify("read a record", err)
	}
	return s.decode(tag, answer)
}

// cachedRecord reads a record through the client-side cache.
func (s *Store) cachedRecord(ctx context.Context, tag string) (engine.Task, error) {
	ctx, done := s.bound(ctx)
	defer done()
	// With ToStaticTTL rueidis sends no MULTI, which Redis refuses while it is full,
	// and no PTTL: Redis invalidates a key that expires as it does one that changes.
	read := s.client.B().Hgetall().Key(s.keys.record(tag)).Cache().ToStaticTTL()
	result := s.client.DoCache(ctx, read, s.cfg.CacheTTL)
	answer, err := result.ToMessage()
	if err != nil {
		return engine.Task{}, classify("read a record", err)
	}
	return s.decode(tag, answer)
}

func (s *Store) decode(tag string, answer rueidis.RedisMessage) (engine.Task, error) {
	fields, err := answer.AsStrMap()
	if err != nil {
		return engine.Task{}, damaged("read a record", err)
	}
	return decodeRecord(tag, fields)
}

// RequestCancel implements engine.TaskRegistry. A task that nobody would tell
// becomes an orphan in the same step; so that somebody looks, it gets a place among
// the leases before, no sooner than the request can still be on its way.
func (s *Store) RequestCancel(ctx context.Context, taskID, reason string) (engine.Task, error) {
	if s.isClosed() {
		return engine.Task{}, errClosed()
	}
	if !validID(taskID) {
		return engine.Task{}, errNotFound()
	}
	if err := s.listLeases(ctx, s.inFlight()*3/2, sooner, taskID); err != nil && ctx.Err() == nil {
		s.complain("list a cancellation", err) // the next audit does
	}
	ctx, done := s.bound(ctx)
	defer done()
	answer, err := cancelScript.Exec(ctx, s.client, []string{s.keys.task(taskID), s.keys.hold(taskID)},
		[]string{incarnationOf(taskID), reason, micros(time.Now())}).ToMessage()
	if err != nil {
		return engine.Task{}, classify("request a cancellation", err)
	}
	if answer.IsInt64() {
		return engine.Task{}, errNotFound()
	}
	return s.decode(tagOf(taskID), answer)
}

// eraseRest removes what is left of a task whose record is gone, evicted or
// deleted: nobody can read it any more, and whoever follows its log is to learn
// that it is over.
func (s *Store) eraseRest(ctx context.Context, taskID string) {
	ctx, done := s.bound(ctx)
	defer done()
	keys := append(s.keys.ofTask(taskID), s.keys.acts(taskID))
	if err := eraseScript.Exec(ctx, s.client, keys, []string{incarnationOf(taskID)}).Error(); err != nil {
		s.complain("remove what is left of a task without a record", err)
	}
}

// Erase implements engine.TaskRegistry.
func (s *Store) Erase(ctx context.Context, taskID string) error {
	if s.isClosed() {
		return errClosed()
	}
	if !validID(taskID) {
		return nil
	}
	if err := s.eraseFiles(ctx, taskID); err != nil {
		return err
	}
	ctx, done := s.bound(ctx)
	defer done()
	keys, args := s.keys.ofTask(taskID), []string{incarnationOf(taskID)}
	answer := eraseScript.Exec(ctx, s.client, keys, args)
	if wantsActs(answer) {
		answer = eraseScript.Exec(ctx, s.client, append(keys, s.keys.acts(taskID)), args)
	}
	err := answer.Error()
	if err == nil {
		s.unlistLater(taskID)
	}
	return classify("erase a task", err)
}
