package rueidisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	mathrand "math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// CodeTaskExpired is the code of the TASK_FAILED that ends a task which nobody
// ended within Config.MaxOpenAge.
const CodeTaskExpired = "TASK_EXPIRED"

const (
	// leaseTTL is how long a shard of the due index is one node's.
	leaseTTL = 30 * time.Second
	// duePage is how many tasks are looked at in one round trip.
	duePage = 128
)

// maintain works the due index off, about every CleanupInterval, until the store
// is closed.
func (s *Store) maintain() {
	holder := rand.Text()
	// Jittered, so that the nodes of a fleet do not come all at once.
	pause := func() time.Duration { return s.cfg.CleanupInterval/2 + mathrand.N(s.cfg.CleanupInterval) }
	timer := time.NewTimer(pause())
	defer timer.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case shard := <-s.unsound:
			if err := s.auditNow(s.life, shard, holder); err != nil {
				s.complain("check the index of suspensions", err)
			}
			continue
		case <-timer.C:
			timer.Reset(pause())
		}
		if err := s.keepSecret(s.life); err != nil {
			s.complain("keep the secret", err)
		}
		s.dues.nudge() // what could not be listed before
		for _, shard := range mathrand.Perm(dueShards) {
			if err := s.workOff(s.life, shard, holder); err != nil {
				s.complain("work off the due index", err)
			} else if err := s.audit(s.life, shard, holder, min(auditSpread, s.cfg.CleanupInterval/4)); err != nil && !errors.Is(err, errNotMine) {
				s.complain("check the index of suspensions", err)
			}
			if s.life.Err() != nil {
				return
			}
		}
	}
}

func (s *Store) complain(what string, err error) {
	if s.life.Err() == nil {
		s.cfg.Logger.Warn("rueidisstore: maintenance could not "+what+"; it will try again", "error", err)
	}
}

// workOff looks at every task of a shard that is due.
func (s *Store) workOff(ctx context.Context, shard int, holder string) error {
	for {
		if mine, err := s.takeLease(ctx, shard, holder); !mine || err != nil {
			return err
		}
		now, ids, err := s.due(ctx, shard)
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := s.lookAt(ctx, shard, now, ids); err != nil {
			return err
		}
		if len(ids) < duePage {
			return nil
		}
	}
}

func (s *Store) takeLease(ctx context.Context, shard int, holder string) (mine bool, err error) {
	ctx, done := s.bound(ctx)
	defer done()
	n, err := leaseScript.Exec(ctx, s.client, []string{s.keys.lease(shard)}, []string{holder, millis(leaseTTL)}).AsInt64()
	return n == 1, err
}

// due gives Redis's time and the tasks that are due by it. Time is always
// Redis's: a node whose clock is wrong ends nobody's tasks.
func (s *Store) due(ctx context.Context, shard int) (now int64, ids []string, err error) {
	ctx, done := s.bound(ctx)
	defer done()
	answer, err := dueScript.Exec(ctx, s.client, []string{s.keys.due(shard)}, []string{strconv.Itoa(duePage)}).ToArray()
	if err != nil {
		return 0, nil, err
	}
	if len(answer) != 2 {
		return 0, nil, errCutBatch
	}
	if now, err = answer[0].AsInt64(); err != nil {
		return 0, nil, err
	}
	ids, err = answer[1].AsStrSlice()
	return now, ids, err
}

// lookAt does to each task what its age asks for, and says when to look next.
func (s *Store) lookAt(ctx context.Context, shard int, now int64, ids []string) error {
	records, err := s.records(ctx, ids)
	if err != nil {
		return err
	}
	var gone []string
	next := map[string]int64{}
	for i, id := range ids {
		at, err := s.age(ctx, now, id, records[i])
		switch {
		case err != nil:
			s.complain("look at a task", err)
			// Not in the way of the others, and not forgotten.
			next[id] = now + s.cfg.CleanupInterval.Milliseconds()
		case at == 0:
			gone = append(gone, id)
		default:
			next[id] = at
		}
	}
	return s.reschedule(ctx, shard, gone, next)
}

// records reads many records in one round trip.
func (s *Store) records(ctx context.Context, ids []string) ([]map[string]string, error) {
	ctx, done := s.bound(ctx)
	defer done()
	reads := make(rueidis.Commands, len(ids))
	for i, id := range ids {
		reads[i] = s.client.B().Hgetall().Key(s.keys.task(id)).Build()
	}
	records := make([]map[string]string, len(ids))
	for i, answer := range s.client.DoMulti(ctx, reads...) {
		var err error
		if records[i], err = answer.AsStrMap(); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// age ends a task that is past its maximum age, renews the keys of one that is
// not, and gives the time to look at it next: 0 for never.
func (s *Store) age(ctx context.Context, now int64, taskID string, fields map[string]string) (int64, error) {
	if !validID(taskID) {
		return 0, nil
	}
	if fields[fieldIncarnation] != incarnationOf(taskID) {
		s.eraseRest(ctx, taskID)
		return 0, nil
	}
	t, err := decodeRecord(tagOf(taskID), fields)
	if err != nil {
		return 0, err
	}
	if t.Terminal != nil || t.Status.Terminal() {
		return s.ageEnded(ctx, now, t)
	}
	born, err := strconv.ParseInt(fields[fieldBorn], 10, 64)
	if err != nil {
		return 0, damaged("read a record", err)
	}
	// An answer begins a new life: whoever waited for days may take as long again.
	if resumed, err := strconv.ParseInt(fields[fieldResumed], 10, 64); err == nil {
		born = max(born, resumed)
	}
	end := max(born+s.cfg.MaxOpenAge.Milliseconds(), awaitedUntil(t))
	if end <= now {
		if err := s.abandon(ctx, t.ID); err != nil || !s.hasFiles(t) {
			return 0, err
		}
		return now, nil
	}
	// A wait of years is renewed piece by piece.
	next := min(end, now+s.cfg.MaxOpenAge.Milliseconds())
	var more []string
	if has(fields, fieldResolved) {
		more = []string{s.keys.acts(t.ID)}
	}
	return next, s.renew(ctx, t.ID, time.Duration(next-now)*time.Millisecond+s.cfg.margin(), more...)
}

// awaitedUntil is when (ms) the last of t's open suspensions expires.
func awaitedUntil(t engine.Task) int64 {
	var last int64
	for i := range t.Suspensions {
		if at := t.Suspensions[i].ExpiresAt; at != nil {
			last = max(last, at.UnixMilli())
		}
	}
	return min(last, math.MaxInt64/2)
}

// abandon fails a task that is past its maximum age, so that its stream ends.
func (s *Store) abandon(ctx context.Context, taskID string) error {
	const payload = `{"code":"` + CodeTaskExpired + `","message":"the task was open for too long","retryable":true}`
	_, err := s.Append(ctx, engine.Append{
		TaskID: taskID,
		Token:  "rueidisstore:" + CodeTaskExpired,
		Events: []engine.Draft{{Type: engine.TypeFailed, CreatedAt: toMicros(time.Now()), Payload: []byte(payload)}},
	})
	switch engine.CodeOf(err) {
	case "":
		s.cfg.Logger.Warn("rueidisstore: an open task reached its maximum age", "taskId", taskID)
		return nil
	case engine.CodeTaskAlreadyTerminal, engine.CodeTaskNotFound:
		return nil // it ended by itself meanwhile
	}
	return err
}

// renew prolongs the keys that every open task has, and more.
func (s *Store) renew(ctx context.Context, taskID string, ttl time.Duration, more ...string) error {
	ctx, done := s.bound(ctx)
	defer done()
	return renewScript.Exec(ctx, s.client, append(s.keys.ofTask(taskID), more...), []string{incarnationOf(taskID), millis(ttl)}).Error()
}

func (s *Store) reschedule(ctx context.Context, shard int, gone []string, next map[string]int64) error {
	ctx, done := s.bound(ctx)
	defer done()
	key := s.keys.due(shard)
	if len(gone) > 0 {
		if err := s.client.Do(ctx, s.client.B().Zrem().Key(key).Member(gone...).Build()).Error(); err != nil {
			return err
		}
	}
	if len(next) == 0 {
		return nil
	}
	// XX: what another node took out meanwhile stays out.
	add := s.client.B().Zadd().Key(key).Xx().ScoreMember()
	for id, at := range next {
		add = add.ScoreMember(float64(at), id)
	}
	for _, answer := range s.client.DoMulti(ctx, add.Build(),
		s.client.B().Pexpire().Key(key).Milliseconds(s.cfg.indexTTL().Milliseconds()).Build()) {
		if err := answer.Error(); err != nil {
			return err
		}
	}
	return nil
}

// list puts a new task into the due index.
func (s *Store) list(ctx context.Context, taskID string) error {
	c := s.listCall(taskID)
	return listScript.Exec(ctx, s.client, c.keys, c.args).Error()
}

func (s *Store) listCall(taskID string) call {
	return call{[]string{s.keys.due(shardOf(taskID))}, []string{taskID, millis(s.cfg.MaxOpenAge), millis(s.cfg.indexTTL())}}
}

var listPipelined = newPipelined(listSource)
