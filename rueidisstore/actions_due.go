package rueidisstore

import (
	"context"
	_ "embed"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var (
	//go:embed actions_list.lua
	actionsListSource string
	//go:embed actions_due.lua
	actionsDueSource string
	//go:embed actions_look.lua
	actionsLookSource string

	actionsListScript = newPipelined(actionsListSource)
	actionsDueScript  = newPipelined(actionsDueSource)
	actionsLookScript = newPipelined(actionsLookSource)
)

const (
	// handOffGrace is how long whoever accepted an answer has to hand it over
	// before others are offered it.
	handOffGrace = 3 * time.Second
	// expiryClaim and handOffClaim are how long what one node was given is kept
	// from others. An expiry is one round trip, a hand-off may take its time.
	expiryClaim  = 2500 * time.Millisecond
	handOffClaim = 5 * time.Second
	// idleLook is when to look again at a task of which nothing is due or will be:
	// it may be about to suspend.
	idleLook = time.Minute
	// actionsPage is how many tasks of a shard are looked at in one round trip.
	actionsPage = 64
	// dueTimeout bounds each round trip of Due, so that a node of a Cluster that
	// hangs makes nobody else's suspensions late.
	dueTimeout = 700 * time.Millisecond
)

// actions is a ZSET: ids of open tasks that have, or are about to have, open
// suspensions that expire, or answers that were not handed over, by the time
// (ms) to look at them. It may be wrong: the acts tell what is true. A place is
// taken before what it is for is written, and looking at it puts right what is
// wrong; a missing one is found by maintenance, see actions_audit.go.
func (k keyspace) actions(shard int) string { return k.versioned + "action:" + strconv.Itoa(shard) }

// lookAt says when to look at a task: at (ms), but no sooner than atLeast from
// now.
type lookAt struct {
	taskID  string
	at      int64
	atLeast time.Duration
}

// inFlight is how long an append may be on its way to Redis.
func (s *Store) inFlight() time.Duration { return s.cfg.CommandTimeout*5/4 + 500*time.Millisecond }

// opening is what an append is going to open.
type opening struct {
	any   bool
	count int
	// first is when (ms) the first of them expires; 0: none does.
	first int64
}

func (o *opening) add(expires int64) {
	o.any = true
	o.count++
	if expires != 0 && (o.first == 0 || expires < o.first) {
		o.first = expires
	}
}

// listOpening takes a place in the index for what an append is going to open.
// Nobody looks before the append is either done or has failed.
func (s *Store) listOpening(ctx context.Context, taskID string, o opening) error {
	if o.first == 0 {
		return nil
	}
	err := s.listActions(ctx, lookAt{taskID, o.first, s.inFlight()})
	return classify("list a suspension", err)
}

// listOpened takes a sooner place for what expires sooner than that.
func (s *Store) listOpened(ctx context.Context, taskID string, o opening) {
	if o.first == 0 || time.Until(time.UnixMilli(o.first)) > time.Minute { // whatever the clocks say
		return
	}
	if err := s.listActions(ctx, lookAt{taskID: taskID, at: o.first}); err != nil {
		s.complain("list a suspension", err)
	}
}

// listActions puts tasks into the index.
func (s *Store) listActions(ctx context.Context, looks ...lookAt) error {
	var shards [dueShards][]string
	for _, l := range looks {
		shard := shardOf(l.taskID)
		shards[shard] = append(shards[shard], l.taskID, formatMillis(l.at), formatMillis(l.atLeast.Milliseconds()))
	}
	var calls []call
	for shard, args := range shards {
		if len(args) > 0 {
			calls = append(calls, call{[]string{s.keys.actions(shard)}, append([]string{millis(s.cfg.indexTTL())}, args...)})
		}
	}
	var failed error
	for _, answer := range s.pipeline(ctx, actionsListScript, calls) {
		failed = errors.Join(failed, answer.Error())
	}
	return failed
}

// Due implements engine.ActionStore: a round trip while nothing is due; if
// something is, one to look at it and one to say when to look again.
func (s *Store) Due(ctx context.Context, limit int) ([]engine.DueSuspension, error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	var found []engine.DueSuspension
	// From a shard of chance on, so that none is always the last.
	first := rand.IntN(dueShards)
	shards := make([]int, dueShards)
	for i := range shards {
		shards[i] = (first + i) % dueShards
	}
	for len(shards) > 0 && len(found) < limit {
		taken, full, err := s.takeActions(ctx, shards)
		more, failed := s.lookAtTaken(ctx, taken, limit-len(found))
		found = append(found, more...)
		if err = errors.Join(err, failed); err != nil {
			return found, classify("look for due suspensions", err)
		}
		shards = full
	}
	return found, nil
}

// takeActions takes a page of each shard, and tells which may have more.
func (s *Store) takeActions(ctx context.Context, shards []int) (taken []overdue, full []int, err error) {
	ctx, done := context.WithTimeout(ctx, dueTimeout)
	defer done()
	calls := make([]call, len(shards))
	for i, shard := range shards {
		calls[i] = call{[]string{s.keys.actions(shard)}, []string{strconv.Itoa(actionsPage), millis(expiryClaim), wholeIndex}}
	}
	for i, answer := range s.pipeline(ctx, actionsDueScript, calls) {
		a, failed := answer.ToArray()
		if failed != nil {
			err = failed // what the other shards gave counts
			continue
		}
		if whole, _ := a[0].AsInt64(); whole == 0 {
			s.auditSoon(shards[i])
		}
		if len(a) != 3 {
			continue
		}
		o := overdue{shard: shards[i]}
		if o.mark, failed = a[1].ToString(); failed == nil {
			o.ids, failed = a[2].AsStrSlice()
		}
		if failed != nil {
			err = failed
			continue
		}
		taken = append(taken, o)
		if len(o.ids) == actionsPage {
			full = append(full, o.shard)
		}
	}
	return taken, full, err
}

// lookAtTaken looks at what was taken, gives up to limit of what is due, and says
// when to look again.
func (s *Store) lookAtTaken(ctx context.Context, taken []overdue, limit int) (found []engine.DueSuspension, failed error) {
	ctx, done := context.WithTimeout(ctx, 2*dueTimeout)
	defer done()
	// In how many ms to look again: at once at those that no room is left for.
	again := map[string]string{}
	var asked []string
	for _, o := range taken {
		for _, id := range o.ids {
			switch {
			case !o.owns(id):
			case len(asked) < limit:
				asked = append(asked, id)
			default:
				again[id] = "0"
			}
		}
	}
	if len(asked) > 0 {
		found, failed = s.lookAtActs(ctx, asked, limit/len(asked), again)
	}
	settle := make([]call, 0, len(taken))
	for _, o := range taken {
		args := []string{o.mark}
		for _, id := range o.ids {
			next := again[id]
			if !o.owns(id) {
				next = "-1"
			}
			if next != "" { // else it stays taken for a while
				args = append(args, id, next)
			}
		}
		if len(args) > 1 {
			settle = append(settle, call{[]string{s.keys.actions(o.shard)}, args})
		}
	}
	for _, answer := range s.pipeline(ctx, leaseSettleScript, settle) {
		if err := answer.Error(); err != nil {
			failed = err
		}
	}
	return found, failed
}

// lookAtActs looks at tasks in one round trip, gives up to limit of what is due
// of each, and notes when to look again.
func (s *Store) lookAtActs(ctx context.Context, ids []string, limit int, again map[string]string) (found []engine.DueSuspension, failed error) {
	calls := make([]call, len(ids))
	for i, id := range ids {
		calls[i] = call{append(s.keys.ofActs(id), s.keys.hold(id)), []string{
			incarnationOf(id), strconv.Itoa(limit), millis(expiryClaim), millis(handOffClaim), millis(idleLook),
		}}
	}
	for i, answer := range s.pipeline(ctx, actionsLookScript, calls) {
		next, due, err := readLook(ids[i], answer)
		if errors.Is(err, errActsMissing) {
			next, err = 0, s.adopt(ctx, ids[i])
		}
		if err != nil {
			failed = err
			continue
		}
		again[ids[i]] = formatMillis(next)
		found = append(found, due...)
	}
	return found, failed
}

// readLook reads what actions_look.lua gives.
func readLook(taskID string, answer rueidis.RedisResult) (again int64, found []engine.DueSuspension, err error) {
	a, err := answer.ToArray()
	if err != nil {
		return 0, nil, err
	}
	if len(a)%6 != 1 {
		return 0, nil, errCutBatch
	}
	if again, err = a[0].AsInt64(); err != nil {
		return 0, nil, err
	}
	if again == -2 {
		return 0, nil, errActsMissing
	}
	for f := a[1:]; len(f) > 0; f = f[6:] {
		var texts [5]string
		for i := range texts {
			if texts[i], err = f[i].ToString(); err != nil {
				return 0, nil, err
			}
		}
		one, err := decodeSuspension(texts[1], texts[2], texts[3], texts[4])
		if err != nil {
			return 0, nil, damaged("read a suspension", err)
		}
		waited, err := f[5].AsInt64()
		if err != nil {
			return 0, nil, err
		}
		found = append(found, engine.DueSuspension{
			TaskID: taskID, Suspension: one, Waited: time.Duration(waited) * time.Millisecond,
		})
	}
	return again, found, nil
}

// rehearseActions runs every script about suspensions, without taking anything
// that is due from others. The task has the suspension s, which allows a.
func (s *Store) rehearseActions(ctx context.Context, taskID string) error {
	index := s.keys.actions(shardOf(taskID))
	listErr := s.listActions(ctx, lookAt{taskID: taskID, atLeast: time.Hour})
	_, readErr := s.Suspension(ctx, taskID, "s")
	adoptErr := s.adopt(ctx, taskID)
	_, lookErr := s.lookAtActs(ctx, []string{taskID}, 1, map[string]string{})
	args, err := s.resolveArgs(engine.Resolution{
		TaskID: taskID, SuspendID: "s", Action: &engine.Action{ClientActionID: "c", SuspendID: "s", ActionType: "a"},
		Event: engine.Draft{Type: engine.TypeActionAccepted, Payload: []byte(`{"suspendId":"s"}`)},
	})
	bounded, done := s.bound(ctx)
	defer done()
	if err == nil { // without Config.Wait
		_, err = readResolve(resolveScript.Exec(bounded, s.client, append(s.keys.ofTask(taskID), s.keys.acts(taskID)), args))
	}
	handErr := s.HandedOver(ctx, taskID, "s", 0)
	for _, answer := range s.pipeline(ctx, actionsDueScript, []call{{[]string{index}, []string{"0", "0", wholeIndex}}}) {
		err = errors.Join(err, answer.Error())
	}
	removeErr := s.client.Do(bounded, s.client.B().Zrem().Key(index).Member(taskID).Build()).Error()
	return errors.Join(listErr, readErr, adoptErr, lookErr, err, handErr, removeErr)
}
