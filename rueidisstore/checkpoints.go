package rueidisstore

import (
	"context"
	_ "embed"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var (
	//go:embed save_check.lua
	saveCheckSource string
	//go:embed save_keep.lua
	saveKeepSource string

	// Events that go with a checkpoint are appended by the same Lua text as all
	// others.
	saveScript = newMakingScript(saveCheckSource + "local function append()\n" + appendSource + "\nend\n" + saveKeepSource)
)

var _ engine.Checkpoints = (*Store)(nil)

// runSave runs an append that has a checkpoint.
func (s *Store) runSave(ctx context.Context, c *engine.Checkpoint, keys, args []string) rueidis.RedisResult {
	ctx, done := s.boundAppend(ctx)
	defer done()
	args = append([]string{string(c.Data), strconv.FormatUint(c.Number, 10)}, args...)
	return saveScript.exec(ctx, s.client, taskKeys, keys, args)
}

// Checkpoint implements engine.Checkpoints in one round trip. It reads the record
// first, so that the checkpoint is not older than the record.
func (s *Store) Checkpoint(ctx context.Context, taskID string) (engine.Checkpoint, error) {
	if s.isClosed() {
		return engine.Checkpoint{}, errClosed()
	}
	if !validID(taskID) {
		return engine.Checkpoint{}, errNotFound()
	}
	ctx, done := s.bound(ctx)
	defer done()
	b := s.client.B
	answers := s.client.DoMulti(ctx,
		b().Hget().Key(s.keys.task(taskID)).Field(fieldIncarnation).Build(),
		b().Hmget().Key(s.keys.hold(taskID)).Field("saved", "savedat").Build(),
	)
	incarnation, err := answers[0].ToString()
	if rueidis.IsRedisNil(err) || err == nil && incarnation != incarnationOf(taskID) {
		return engine.Checkpoint{}, errNotFound()
	}
	if err != nil {
		return engine.Checkpoint{}, classify("read a checkpoint", err)
	}
	m, err := answers[1].ToMessage()
	if err != nil {
		return engine.Checkpoint{}, classify("read a checkpoint", err)
	}
	fields, err := textsOf(m, 2)
	if err != nil || fields[0] == "" {
		return engine.Checkpoint{}, classify("read a checkpoint", err)
	}
	c := engine.Checkpoint{Data: []byte(fields[0])}
	at, err := parseID(fields[1])
	if err != nil {
		return engine.Checkpoint{}, damaged("read a checkpoint", err)
	}
	if at.Ordinal > 0 { // else there was no event yet
		c.At = at
	}
	return c, nil
}
