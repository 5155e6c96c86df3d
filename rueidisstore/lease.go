package rueidisstore

import (
	"context"
	_ "embed"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

var (
	//go:embed lease_acquire.lua
	leaseAcquireSource string
	//go:embed lease_renew.lua
	leaseRenewSource string
	//go:embed lease_release.lua
	leaseReleaseSource string
	//go:embed lease_check.lua
	leaseCheckSource string
	//go:embed lease_list.lua
	leaseListSource string
	//go:embed lease_due.lua
	leaseDueSource string
	//go:embed lease_settle.lua
	leaseSettleSource string

	leaseAcquireScript = rueidis.NewLuaScript(leaseAcquireSource)
	leaseReleaseScript = rueidis.NewLuaScript(leaseReleaseSource)

	// These are run for many tasks or shards in one round trip.
	leaseRenewScript  = newPipelined(leaseRenewSource)
	leaseCheckScript  = newPipelined(leaseCheckSource)
	leaseListScript   = newPipelined(leaseListSource)
	leaseDueScript    = newPipelined(leaseDueSource)
	leaseSettleScript = newPipelined(leaseSettleSource)
)

var _ engine.Leases = (*Store)(nil)

const (
	// leasePage is how many leases of a shard are looked at in one round trip.
	leasePage = 64
	// leaseRound is how many leases are renewed in one round trip.
	leaseRound = 512
	// leaseRounds is how many of these go at the same time.
	leaseRounds = 32
	// orphanClaim is how long what one node was given is kept from others.
	orphanClaim = 5 * time.Second
)

// leases is a ZSET: ids of tasks that are held, by the time (ms) at which the
// lease is overdue. It may be wrong: the lease itself tells what is true, and
// Renew puts back what is missing.
func (k keyspace) leases(shard int) string { return k.versioned + "lease:" + strconv.Itoa(shard) }

// hold is a HASH, the lease of an open task; see lease_acquire.lua. It is apart
// from the state, which every append reads and writes.
func (k keyspace) hold(id string) string {
	return k.versioned + "{" + tagOf(id) + "}:" + incarnationOf(id) + ":lease"
}

// ofLease are the keys that scripts about a lease take.
func (k keyspace) ofLease(id string) []string { return []string{k.hold(id), k.task(id)} }

// Acquire implements engine.Leases.
func (s *Store) Acquire(ctx context.Context, taskID, holder string, ttl time.Duration) (uint64, error) {
	if s.isClosed() {
		return 0, errClosed()
	}
	if !validID(taskID) {
		return 0, errNotFound()
	}
	// The place in the index is on another slot. A wrong one does no harm, and a
	// missing one is taken by the first Renew.
	listed := make(chan error, 1)
	go func() { listed <- s.listLeases(ctx, ttl, kept, taskID) }() // waited for below
	bounded, done := s.bound(ctx)
	defer done()
	n, err := leaseAcquireScript.Exec(bounded, s.client, append(s.keys.ofLease(taskID), s.keys.state(taskID)),
		[]string{incarnationOf(taskID), holder, millis(ttl)}).AsInt64()
	unlisted := <-listed
	switch {
	case err != nil:
		return 0, classify("acquire a lease", err)
	case n == 0:
		return 0, errNotFound()
	case n == -1:
		return 0, engine.NewError(engine.CodeTaskAlreadyTerminal, "the task is over")
	case n == -2:
		return 0, errConflict()
	case unlisted != nil:
		s.complain("list a lease", unlisted)
	}
	return uint64(n), nil
}

// errConflict is the answer to whoever does not hold the task's lease.
func errConflict() error {
	return engine.NewError(engine.CodeTaskConflict, "another worker holds the task")
}

// overdueAfter is when a lease that was renewed is worth a look: its holder has
// missed a renewal, and has a third of the TTL left.
func overdueAfter(ttl time.Duration) time.Duration { return ttl - ttl/3 }

// How listLeases deals with tasks that are in the index already.
const (
	moved  = ""   // they get the new time
	kept   = "NX" // they keep theirs
	sooner = "LT" // they get the sooner one
)

// listLeases puts tasks into the index, to be looked at when leases of this TTL
// that were renewed now are overdue.
func (s *Store) listLeases(ctx context.Context, ttl time.Duration, mode string, taskIDs ...string) error {
	var shards [dueShards][]string
	for _, id := range taskIDs {
		shards[shardOf(id)] = append(shards[shardOf(id)], id)
	}
	var calls []call
	for shard, ids := range shards {
		if len(ids) > 0 {
			calls = append(calls, call{
				keys: []string{s.keys.leases(shard)},
				args: append([]string{millis(overdueAfter(ttl)), millis(s.cfg.indexTTL()), mode}, ids...),
			})
		}
	}
	var failed error
	for _, answer := range s.pipeline(ctx, leaseListScript, calls) {
		failed = errors.Join(failed, answer.Error())
	}
	return failed
}

// Renew implements engine.Leases: a round trip for the leases and one for their
// places in the index, for each 512. The rounds go together, so that a node of a
// Cluster that hangs holds up its own leases and no others.
func (s *Store) Renew(ctx context.Context, holder string, taskIDs []string, ttl time.Duration) (lost []string, err error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	var (
		mu     sync.Mutex
		rounds sync.WaitGroup
		free   = make(chan struct{}, leaseRounds)
	)
	for round := range slices.Chunk(taskIDs, leaseRound) {
		free <- struct{}{}
		rounds.Go(func() {
			defer func() { <-free }()
			gone, failed := s.renewLeases(ctx, holder, round, ttl)
			mu.Lock()
			defer mu.Unlock()
			lost = append(lost, gone...)
			if failed != nil {
				err = classify("renew leases", failed)
			}
		})
	}
	rounds.Wait()
	return lost, err
}

func (s *Store) renewLeases(ctx context.Context, holder string, taskIDs []string, ttl time.Duration) (lost []string, err error) {
	var calls []call
	var asked []string
	for _, id := range taskIDs {
		if !validID(id) {
			lost = append(lost, id)
			continue
		}
		asked = append(asked, id)
		calls = append(calls, call{s.keys.ofLease(id), []string{incarnationOf(id), holder, millis(ttl)}})
	}
	var renewed []string
	for i, answer := range s.pipeline(ctx, leaseRenewScript, calls) {
		n, failed := answer.AsInt64()
		switch {
		case failed != nil:
			err = failed
		case n == 1:
			renewed = append(renewed, asked[i])
		default:
			lost = append(lost, asked[i])
		}
	}
	if failed := s.listLeases(ctx, ttl, moved, renewed...); err == nil {
		err = failed
	}
	return lost, err
}

// Release implements engine.Leases. The index is left to Orphans, but for an
// orphan.
func (s *Store) Release(ctx context.Context, taskID, holder string, orphan bool) error {
	if s.isClosed() {
		return errClosed()
	}
	if !validID(taskID) {
		return nil
	}
	bounded, done := s.bound(ctx)
	defer done()
	n, err := leaseReleaseScript.Exec(bounded, s.client, s.keys.ofLease(taskID), []string{holder, flag(orphan)}).AsInt64()
	if err == nil && n == 2 {
		// If this fails the task comes when its holder would have been overdue.
		err = s.listLeases(ctx, 0, moved, taskID)
	}
	return classify("release a lease", err)
}

// Orphans implements engine.Leases: a round trip to take what is due, one to
// look at it, one to say when to look again; more while shards are full.
func (s *Store) Orphans(ctx context.Context, limit int) ([]engine.Orphan, error) {
	if s.isClosed() {
		return nil, errClosed()
	}
	var orphans []engine.Orphan
	// From a shard of chance on, so that none is always the last.
	first := rand.IntN(dueShards)
	shards := make([]int, dueShards)
	for i := range shards {
		shards[i] = (first + i) % dueShards
	}
	for len(shards) > 0 && len(orphans) < limit {
		taken, full, err := s.takeOverdue(ctx, shards)
		more, failed := s.checkOverdue(ctx, taken, orphans, limit)
		orphans = more
		if err = errors.Join(err, failed); err != nil {
			return orphans, classify("look for orphans", err)
		}
		shards = full
	}
	return orphans, nil
}

// overdue are the leases of a shard that this call has taken.
type overdue struct {
	shard int
	mark  string
	ids   []string
}

// owns reports whether a member of the shard belongs there.
func (o overdue) owns(id string) bool { return validID(id) && shardOf(id) == o.shard }

// takeOverdue takes a page of each shard, and tells which may have more.
func (s *Store) takeOverdue(ctx context.Context, shards []int) (taken []overdue, full []int, err error) {
	calls := make([]call, len(shards))
	for i, shard := range shards {
		calls[i] = call{[]string{s.keys.leases(shard)}, []string{strconv.Itoa(leasePage), millis(orphanClaim)}}
	}
	for i, answer := range s.pipeline(ctx, leaseDueScript, calls) {
		a, failed := answer.ToArray()
		if failed != nil {
			err = failed // what the other shards gave is offered again later
			continue
		}
		if len(a) != 2 {
			continue
		}
		o := overdue{shard: shards[i]}
		if o.mark, failed = a[0].ToString(); failed == nil {
			o.ids, failed = a[1].AsStrSlice()
		}
		if failed != nil {
			err = failed
			continue
		}
		taken = append(taken, o)
		if len(o.ids) == leasePage {
			full = append(full, o.shard)
		}
	}
	return taken, full, err
}

// checkOverdue looks at what was taken, adds orphans up to limit, and gives back
// the rest.
func (s *Store) checkOverdue(ctx context.Context, taken []overdue, orphans []engine.Orphan, limit int) ([]engine.Orphan, error) {
	var checks []call
	for _, o := range taken {
		for _, id := range o.ids {
			if o.owns(id) {
				checks = append(checks, call{keys: []string{s.keys.hold(id)}})
			}
		}
	}
	answers := s.pipeline(ctx, leaseCheckScript, checks)
	var failed error
	settle := make([]call, 0, len(taken))
	for _, o := range taken {
		args := []string{o.mark}
		for _, id := range o.ids {
			again, orphan, err := int64(-1), (*engine.Orphan)(nil), error(nil)
			if o.owns(id) {
				again, orphan, err = readCheck(id, answers[0])
				answers = answers[1:]
			}
			switch {
			case err != nil:
				failed = err // it stays taken for a while
				continue
			case orphan != nil && len(orphans) < limit:
				orphans = append(orphans, *orphan)
				continue
			}
			args = append(args, id, strconv.FormatInt(again, 10))
		}
		if len(args) > 1 {
			settle = append(settle, call{[]string{s.keys.leases(o.shard)}, args})
		}
	}
	for _, answer := range s.pipeline(ctx, leaseSettleScript, settle) {
		if err := answer.Error(); err != nil {
			failed = err
		}
	}
	return orphans, failed
}

// readCheck reads what lease_check.lua gives: when to look again, or an orphan.
func readCheck(taskID string, answer rueidis.RedisResult) (again int64, orphan *engine.Orphan, err error) {
	m, err := answer.ToMessage()
	if err != nil {
		return 0, nil, err
	}
	if m.IsInt64() {
		again, err = m.AsInt64()
		return again, nil, err
	}
	facts, err := m.AsIntSlice()
	if err != nil {
		return 0, nil, err
	}
	if len(facts) != 3 {
		return 0, nil, errCutBatch
	}
	return 0, &engine.Orphan{
		TaskID: taskID, Takeovers: int(facts[0]), Released: facts[2] == 1,
		Waited: time.Duration(facts[1]) * time.Millisecond,
	}, nil
}

// rehearseLease runs every script about leases, without taking anything that is
// due from others.
func (s *Store) rehearseLease(ctx context.Context, taskID string) error {
	_, err := s.Acquire(ctx, taskID, "rehearsal", time.Minute)
	_, renewErr := s.Renew(ctx, "rehearsal", []string{taskID}, time.Minute)
	_, checkErr := s.checkOverdue(ctx, []overdue{{shardOf(taskID), "0", []string{taskID}}}, nil, 0)
	releaseErr := s.Release(ctx, taskID, "rehearsal", false) // an orphan would be buried
	for _, answer := range s.pipeline(ctx, leaseDueScript, []call{{[]string{s.keys.leases(shardOf(taskID))}, []string{"0", "0"}}}) {
		err = errors.Join(err, answer.Error())
	}
	return errors.Join(err, renewErr, checkErr, releaseErr)
}
