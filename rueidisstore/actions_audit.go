package rueidisstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// The indexes of suspensions and of leases may lose a place (a failover of its
// shard that the task's did not share), or be lost as a whole (an eviction, a
// DEL). The index of open tasks, due, is what they are checked against: now and
// then by maintenance, and at once if the member is missing that a whole index of
// suspensions has. The other way round too: what is in that is put into due.

const (
	// wholeIndex is a member of every shard that was checked. It is no id.
	wholeIndex = "whole"
	// auditPage is how many tasks are looked at in one round trip.
	auditPage = 512
	// auditSpread is what a check that nothing has called for spreads its looks
	// over, at most.
	auditSpread = time.Minute
)

// auditSoon has maintenance check a shard. Whoever finds that it was not heard,
// the next Due, asks again.
func (s *Store) auditSoon(shard int) {
	select {
	case s.unsound <- shard:
	default:
	}
}

// auditNow checks a shard that is not whole, unless another node is at it.
func (s *Store) auditNow(ctx context.Context, shard int, holder string) error {
	if mine, err := s.takeLease(ctx, shard, holder); !mine || err != nil {
		return err
	}
	bounded, done := s.bound(ctx)
	defer done()
	// It may have been checked since it was found missing.
	err := s.client.Do(bounded, s.client.B().Zscore().Key(s.keys.actions(shard)).Member(wholeIndex).Build()).Error()
	if err == nil || !rueidis.IsRedisNil(err) {
		return err
	}
	err = s.audit(ctx, shard, holder, 0)
	if errors.Is(err, errNotMine) {
		return nil // the other one does it
	}
	return err
}

// audit puts every task of a shard that has acts, or a lease, into the index of
// these, to be looked at within spread, and every one that is in the index of
// suspensions into that of open tasks.
func (s *Store) audit(ctx context.Context, shard int, holder string, spread time.Duration) error {
	err := s.eachOf(ctx, shard, holder, s.keys.due(shard), func(ctx context.Context, ids []string) error {
		reads := make(rueidis.Commands, 0, 2*len(ids))
		for _, id := range ids {
			reads = append(reads,
				s.client.B().Hget().Key(s.keys.task(id)).Field(fieldResolved).Build(),
				s.client.B().Hget().Key(s.keys.hold(id)).Field("holder").Build())
		}
		var looks []lookAt
		var held []string
		for i, answer := range s.client.DoMulti(ctx, reads...) {
			switch err := answer.Error(); {
			case rueidis.IsRedisNil(err):
			case err != nil:
				return err
			case i%2 == 0:
				looks = append(looks, lookAt{taskID: ids[i/2], atLeast: time.Duration(rand.Int64N(int64(spread) + 1))})
			default:
				held = append(held, ids[i/2])
			}
		}
		return errors.Join(s.listActions(ctx, looks...), s.listLeases(ctx, 0, kept, held...))
	})
	if err != nil {
		return err
	}
	err = s.eachOf(ctx, shard, holder, s.keys.actions(shard), func(ctx context.Context, ids []string) error {
		calls := make([]call, len(ids))
		for i, id := range ids {
			calls[i] = s.listCall(id)
		}
		var failed error
		for _, answer := range s.pipeline(ctx, listPipelined, calls) {
			failed = errors.Join(failed, answer.Error())
		}
		return failed
	})
	if err != nil {
		return err
	}
	ctx, done := s.bound(ctx)
	defer done()
	key := s.keys.actions(shard)
	for _, answer := range s.client.DoMulti(ctx,
		s.client.B().Zadd().Key(key).ScoreMember().ScoreMember(wholeScore, wholeIndex).Build(),
		s.client.B().Pexpire().Key(key).Milliseconds(s.cfg.indexTTL().Milliseconds()).Build()) {
		if err := answer.Error(); err != nil {
			return err
		}
	}
	return nil
}

// wholeScore is later than anything is due.
const wholeScore = 1 << 53

// eachOf goes through the ids in an index, page by page, while holder has the
// shard.
func (s *Store) eachOf(ctx context.Context, shard int, holder, index string, do func(ctx context.Context, ids []string) error) error {
	from, skip := "-inf", int64(0)
	for {
		if mine, err := s.takeLease(ctx, shard, holder); !mine || err != nil {
			return errors.Join(err, errNotMine)
		}
		n, err := s.pageOf(ctx, shard, index, &from, &skip, do)
		if err != nil || n < auditPage {
			return err
		}
	}
}

// errNotMine: another node has taken the shard over.
var errNotMine = errors.New("another node works on this shard")

// pageOf does one page of eachOf: by score, since ranks shift when others take
// members out.
func (s *Store) pageOf(ctx context.Context, shard int, index string, from *string, skip *int64, do func(ctx context.Context, ids []string) error) (int, error) {
	ctx, done := s.bound(ctx)
	defer done()
	page, err := s.client.Do(ctx, s.client.B().Zrangebyscore().Key(index).Min(*from).Max("+inf").
		Withscores().Limit(*skip, auditPage).Build()).AsZScores()
	if err != nil || len(page) == 0 {
		return 0, err
	}
	var ids []string
	for _, entry := range page {
		score := strconv.FormatFloat(entry.Score, 'f', -1, 64)
		if score != *from {
			*from, *skip = score, 0
		}
		*skip++
		if validID(entry.Member) && shardOf(entry.Member) == shard {
			ids = append(ids, entry.Member)
		}
	}
	if len(ids) == 0 {
		return len(page), nil
	}
	return len(page), do(ctx, ids)
}
