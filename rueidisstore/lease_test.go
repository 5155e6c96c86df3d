package rueidisstore

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

func (b *bench) acquire(taskID, holder string, ttl time.Duration) uint64 {
	b.Helper()
	fence, err := b.Acquire(b.Context(), taskID, holder, ttl)
	if err != nil {
		b.Fatal(err)
	}
	return fence
}

func (b *bench) renewed(holder string, ttl time.Duration, ids ...string) {
	b.Helper()
	if lost, err := b.Renew(b.Context(), holder, ids, ttl); err != nil || len(lost) > 0 {
		b.Fatalf("Renew lost %v, %v", lost, err)
	}
}

func (b *bench) orphans() []string {
	b.Helper()
	found, err := b.Orphans(b.Context(), 1000)
	if err != nil {
		b.Fatal(err)
	}
	var ids []string
	for _, o := range found {
		ids = append(ids, o.TaskID)
	}
	return ids
}

// place is when Orphans is going to look at the lease; "" for never.
func (b *bench) place(taskID string) string {
	b.Helper()
	score, _ := b.do("ZSCORE", b.keys.leases(shardOf(taskID)), taskID).ToString()
	return score
}

// awaitOrphan fails if one of others is an orphan before taskID is.
func (b *bench) awaitOrphan(taskID string, others ...string) {
	b.Helper()
	eventually(b.TB, "an orphan", func() bool {
		ids := b.orphans()
		for _, id := range others {
			if slices.Contains(ids, id) {
				b.Fatalf("%s is an orphan", id)
			}
		}
		return slices.Contains(ids, taskID)
	})
}

func TestLeaseKeysAreBounded(t *testing.T) {
	b := open(t, testConfig(t))
	task, ended, erased := b.create(), b.create(), b.create()
	for _, id := range []string{task.ID, ended.ID, erased.ID} {
		b.acquire(id, "a", 100*time.Millisecond)
	}
	record, lease := b.int("PTTL", b.keys.task(task.ID)), b.int("PTTL", b.keys.hold(task.ID))
	// One is asked after the other: a moment may lie between the two.
	const moment = 60_000
	if lease < record-moment || lease > record+moment {
		t.Errorf("the lease lives for %d ms, its task for %d", lease, record)
	}
	if ttl := b.int("PTTL", b.keys.leases(shardOf(task.ID))); ttl < record-moment {
		t.Errorf("the index lives for %d ms", ttl)
	}
	b.append(ended.ID, completed())
	if err := b.Erase(t.Context(), erased.ID); err != nil {
		t.Fatal(err)
	}
	if n := b.int("EXISTS", b.keys.hold(erased.ID)); n != 0 {
		t.Error("a lease outlives its task")
	}
	if ttl, log := b.int("PTTL", b.keys.hold(ended.ID)), b.int("PTTL", b.keys.log(ended.ID)); ttl > log+moment || ttl <= 0 {
		t.Errorf("the lease of a task that is over lives for %d ms, the log for %d", ttl, log)
	}
	if fields := b.do("HKEYS", b.keys.hold(ended.ID)); fmt.Sprint(fields.AsStrSlice()) != "[fence] <nil>" {
		t.Errorf("the lease of a task that is over has %v", fields)
	}
	for _, id := range []string{ended.ID, erased.ID} {
		eventually(t, "the index forgets what is over", func() bool {
			b.orphans()
			return b.place(id) == ""
		})
	}
}

// Whatever the index says, the lease itself counts.
func TestLeaseIndexMayBeWrong(t *testing.T) {
	b := open(t, testConfig(t))
	live, dead := b.create(), b.create()
	b.acquire(live.ID, "a", time.Minute)
	b.acquire(dead.ID, "b", 100*time.Millisecond)
	b.do("ZADD", b.keys.leases(shardOf(live.ID)), "0", live.ID)
	b.do("ZADD", b.keys.leases(3), "0", "nonsense", "0", live.ID) // the latter is in another shard
	unknown := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	b.do("ZADD", b.keys.leases(shardOf(unknown)), "0", unknown)
	b.awaitOrphan(dead.ID, live.ID, unknown, "nonsense")
	if n := b.int("ZCARD", b.keys.leases(3)); n > 2 {
		t.Errorf("%d entries are left in a shard of nonsense", n)
	}
	if b.place(unknown) != "" {
		t.Error("an unknown task stays in the index")
	}

	// A missing place is taken by the next renewal.
	b.do("ZREM", b.keys.leases(shardOf(live.ID)), live.ID)
	b.renewed("a", 100*time.Millisecond, live.ID)
	b.awaitOrphan(live.ID)
}

// What was renewed while somebody looked at it keeps its new place.
func TestLookingDoesNotUndoARenewal(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	b.acquire(task.ID, "a", time.Minute)
	b.do("ZADD", b.keys.leases(shardOf(task.ID)), "0", task.ID)
	taken, _, err := b.takeOverdue(t.Context(), []int{shardOf(task.ID)})
	if err != nil || len(taken) != 1 {
		t.Fatalf("took %v, %v", taken, err)
	}
	b.renewed("a", time.Hour, task.ID)
	want := b.place(task.ID)
	b.do("DEL", b.keys.hold(task.ID)) // what was seen: nobody holds it
	if _, err := b.checkOverdue(t.Context(), taken, nil, 1); err != nil {
		t.Fatal(err)
	}
	if got := b.place(task.ID); got != want || got == "" {
		t.Errorf("the place is %q, was %q", got, want)
	}
}

// A server's clock that is set, or a server that was away: all leases are over
// at once, and those who renew keep them.
func TestLeasesOutliveAJumpOfTheClock(t *testing.T) {
	t.Parallel()
	b := open(t, testConfig(t))
	const ttl = 3 * time.Second
	live, dead := b.create(), b.create()
	b.acquire(live.ID, "a", ttl)
	b.acquire(dead.ID, "b", ttl)
	for _, id := range []string{live.ID, dead.ID} {
		hour := strconv.FormatInt(time.Now().Add(-time.Hour).UnixMilli(), 10)
		b.do("HSET", b.keys.hold(id), "until", hour)
		b.do("ZADD", b.keys.leases(shardOf(id)), hour, id)
	}
	jumped := time.Now() // before the first look, from which on holders have time
	if ids := b.orphans(); len(ids) > 0 {
		t.Fatalf("%v are orphans at first sight", ids)
	}
	last := time.Now()
	eventually(t, "an orphan", func() bool {
		if time.Since(last) > ttl/10 {
			last = time.Now()
			b.renewed("a", ttl, live.ID)
		}
		ids := b.orphans()
		if slices.Contains(ids, live.ID) {
			t.Fatal("a live worker's task is an orphan")
		}
		return slices.Contains(ids, dead.ID)
	})
	// The store's clock is another one, in milliseconds.
	if took := time.Since(jumped); took < ttl/3-10*time.Millisecond {
		t.Errorf("a holder had %v to renew", took)
	}

	// Backwards: what holds until long after its TTL is cut to it.
	b.acquire(dead.ID, "c", ttl)
	b.do("HSET", b.keys.hold(dead.ID), "until", strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10))
	b.do("ZADD", b.keys.leases(shardOf(dead.ID)), "0", dead.ID)
	b.awaitOrphan(dead.ID)
}

// A failover, or an eviction, that takes what it knew of a lease takes it from
// nobody.
func TestLostLeaseKeyIsRenewed(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	first := b.acquire(task.ID, "a", time.Minute)
	b.do("DEL", b.keys.hold(task.ID))
	if _, err := b.Append(t.Context(), engine.Append{
		TaskID: task.ID, Token: "t", Fence: first, Events: []engine.Draft{message("m")},
	}); err != nil {
		t.Errorf("Append: %v", err)
	}
	b.renewed("a", time.Minute, task.ID)
	if _, err := b.Acquire(t.Context(), task.ID, "b", time.Minute); engine.CodeOf(err) != engine.CodeTaskConflict {
		t.Errorf("Acquire of what was renewed gave %v", err)
	}
	if ttl := b.int("PTTL", b.keys.hold(task.ID)); ttl <= 0 {
		t.Errorf("the lease's key lives for %d", ttl)
	}
	// What is left may be the lease of the task's creation.
	b.do("HDEL", b.keys.hold(task.ID), "holder", "until", "ttl")
	b.do("HSET", b.keys.hold(task.ID), "fence", "0")
	b.renewed("a", time.Minute, task.ID)
	if _, err := b.Acquire(t.Context(), task.ID, "b", time.Minute); engine.CodeOf(err) != engine.CodeTaskConflict {
		t.Errorf("Acquire of what was renewed gave %v", err)
	}
	b.do("DEL", b.keys.hold(task.ID))
	if second := b.acquire(task.ID, "b", time.Minute); second <= first {
		t.Errorf("the fence went from %d to %d", first, second)
	}
	if lost, _ := b.Renew(t.Context(), "a", []string{task.ID}, time.Minute); len(lost) != 1 {
		t.Error("two hold the task")
	}
}

func TestManyLeases(t *testing.T) {
	b := open(t, testConfig(t))
	const n = 3 * leaseRound / 2
	ids := make([]string, n)
	for i := range ids {
		ids[i] = b.create().ID
		b.acquire(ids[i], "a", time.Minute)
	}
	b.do("SCRIPT", "FLUSH") // a new primary knows none
	b.renewed("a", 200*time.Millisecond, ids...)
	seen := map[string]bool{}
	eventually(t, fmt.Sprint(n, " orphans"), func() bool {
		for _, id := range b.orphans() {
			if seen[id] {
				t.Fatalf("%s twice", id)
			}
			seen[id] = true
		}
		return len(seen) == n
	})
}
