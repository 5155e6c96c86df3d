package rueidisstore

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// soon is when suspensions of these tests expire.
func soon() time.Time { return time.Now().Add(50 * time.Millisecond) }

// awaitWhole waits until the index was checked, after which its members are
// what maintenance put there.
func (b *bench) awaitWhole() {
	b.Helper()
	eventually(b.TB, "the index is whole", func() bool {
		b.dues()
		for shard := range dueShards {
			if b.do("ZSCORE", b.keys.actions(shard), wholeIndex).Error() != nil {
				return false
			}
		}
		return true
	})
}

func TestDueIndexIsLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(b *bench){
		"all of it": func(b *bench) {
			for shard := range dueShards {
				b.do("DEL", b.keys.actions(shard))
			}
		},
		"a place, until maintenance comes by": func(b *bench) {
			for shard := range dueShards {
				for _, id := range b.members(b.keys.actions(shard)) {
					if id != wholeIndex {
						b.do("ZREM", b.keys.actions(shard), id)
					}
				}
				b.auditOf(shard)
			}
		},
		"a place is far too late": func(b *bench) {
			for shard := range dueShards {
				for _, id := range b.members(b.keys.actions(shard)) {
					b.do("ZADD", b.keys.actions(shard), "9e15", id)
				}
				b.auditOf(shard)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, testConfig(t))
			b.awaitWhole()
			var ids []string
			for range 30 {
				task := b.create()
				ids = append(ids, task.ID)
				b.append(task.ID, suspension("s", time.Now().Add(time.Second)))
			}
			answered := b.create()
			b.append(answered.ID, suspension("s", time.Time{}))
			b.wantVerdict("an answer", answer(answered.ID, "s", "c"), engine.VerdictAccepted)
			lose(b)
			missing := map[string]bool{answered.ID: true}
			for _, id := range ids {
				missing[id] = true
			}
			eventually(t, "all are due", func() bool {
				for _, d := range b.dues() {
					delete(missing, d.TaskID)
				}
				return len(missing) == 0
			})
			b.awaitWhole()
		})
	}
}

// auditOf checks a shard as maintenance does.
func (b *bench) auditOf(shard int) {
	b.Helper()
	b.do("DEL", b.keys.lease(shard))
	if err := b.audit(b.Context(), shard, "holder", 0); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) members(key string) []string {
	b.Helper()
	ids, err := b.do("ZRANGE", key, "0", "-1").AsStrSlice()
	if err != nil {
		b.Fatal(err)
	}
	return ids
}

// More tasks than fit on a page, of which many share a time.
func TestAuditPages(t *testing.T) {
	b := open(t, testConfig(t))
	const n = 3*auditPage + 7
	var mu sync.Mutex
	var ids []string
	missing := func() bool { mu.Lock(); defer mu.Unlock(); return len(ids) < n }
	take := func(id string) bool {
		mu.Lock()
		defer mu.Unlock()
		if shardOf(id) != 3 || len(ids) == n {
			return false
		}
		ids = append(ids, id)
		return true
	}
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			for missing() {
				now := toMicros(time.Now())
				task, _, err := b.Create(t.Context(), engine.Task{
					Owner: "ann", ClientRequestID: b.token(), Type: "t", Status: engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
				})
				if err == nil && take(task.ID) {
					_, err = b.try(task.ID, suspension("s", time.Now().Add(time.Hour)))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if group.Wait(); t.Failed() {
		return
	}
	for i, id := range ids {
		if i%3 == 0 {
			b.do("ZADD", b.keys.due(3), "1000000", id)
		}
	}
	b.do("DEL", b.keys.actions(3))
	b.auditOf(3)
	if got := len(b.members(b.keys.actions(3))); got != n+1 {
		t.Errorf("%d members, want %d", got, n+1)
	}
	// And the other way round.
	b.do("DEL", b.keys.due(3))
	b.auditOf(3)
	if got := len(b.members(b.keys.due(3))); got != n {
		t.Errorf("%d open tasks, want %d", got, n)
	}
	// Leases that nobody renews are found again, too.
	b.acquire(ids[5], "a", 100*time.Millisecond)
	b.do("DEL", b.keys.leases(3))
	b.auditOf(3)
	b.awaitOrphan(ids[5])
	if err := b.audit(t.Context(), 3, "another", 0); err == nil {
		t.Error("two check a shard at the same time")
	}
}

// Whatever the index says, the acts count.
func TestDueIndexMayBeWrong(t *testing.T) {
	b := open(t, testConfig(t))
	now, later := b.create(), b.create()
	b.append(later.ID, suspension("s", time.Now().Add(time.Hour)))
	b.append(now.ID, suspension("s", soon()))
	if in, ok := b.actsPlace(later.ID); !ok || in < 59*time.Minute || in > 61*time.Minute {
		t.Errorf("what has an hour is looked at in %v, %v", in, ok)
	}
	b.do("ZADD", b.keys.actions(shardOf(later.ID)), "0", later.ID)
	b.do("ZADD", b.keys.actions(3), "0", "nonsense", "0", now.ID, "0", later.ID) // in another shard
	unknown := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	b.do("ZADD", b.keys.actions(shardOf(unknown)), "0", unknown)
	if d := b.awaitDue(now.ID, "s"); !d.Open {
		t.Errorf("it is %+v", d)
	}
	eventually(t, "the index is put right", func() bool {
		if _, ok := b.dues()[later.ID+"/s"]; ok {
			t.Fatal("what has an hour is due")
		}
		in, ok := b.actsPlace(later.ID)
		_, listed := b.actsPlace(unknown)
		return ok && in > 59*time.Minute && !listed
	})
	for _, id := range b.members(b.keys.actions(3)) {
		if id == "nonsense" || validID(id) && shardOf(id) != 3 {
			t.Errorf("%s stays in the index", id)
		}
	}
}

// A process may die between any two commands.
func TestDueAfterACrash(t *testing.T) {
	t.Parallel()
	t.Run("listed, and never suspended", func(t *testing.T) {
		b := open(t, testConfig(t))
		task := b.create()
		begin := time.Now()
		if err := b.listOpening(t.Context(), task.ID, opening{any: true, first: begin.UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		if in, ok := b.actsPlace(task.ID); !ok || in+time.Since(begin) < b.cfg.CommandTimeout {
			t.Errorf("it is looked at in %v, while the append may be on its way", in)
		}
		b.do("ZADD", b.keys.actions(shardOf(task.ID)), "0", task.ID)
		b.dues()
		if in, ok := b.actsPlace(task.ID); !ok || in > 2*idleLook {
			t.Errorf("looked at again in %v, %v: the append may yet come", in, ok)
		}
		b.append(task.ID, completed())
		eventually(t, "it leaves the index", func() bool { _, ok := b.actsPlace(task.ID); return !ok })
	})
	t.Run("suspended", func(t *testing.T) {
		b := open(t, testConfig(t))
		task := b.create()
		if err := b.listOpening(t.Context(), task.ID, opening{any: true, first: soon().UnixMilli()}); err != nil {
			t.Fatal(err)
		}
		args, _, err := b.appendArgs(engine.Append{TaskID: task.ID, Token: "t", Events: []engine.Draft{suspension("s", soon())}})
		if err != nil {
			t.Fatal(err)
		}
		keys := append(b.keys.ofTask(task.ID), b.keys.acts(task.ID))
		if err := appendScript.usual.Exec(t.Context(), b.client, keys, args).Error(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		b.awaitDue(task.ID, "s")
		if took := time.Since(start); took > 3*b.inFlight() {
			t.Errorf("found after %v", took)
		}
	})
	t.Run("accepted", func(t *testing.T) {
		b := open(t, testConfig(t))
		task := b.create()
		b.append(task.ID, suspension("s", time.Time{}))
		start := time.Now()
		b.wantVerdict("an answer", answer(task.ID, "s", "c"), engine.VerdictAccepted)
		if len(b.dues()) > 0 && time.Since(start) < handOffGrace {
			t.Error("a hand-off that has just begun is due")
		}
		if d := b.awaitDue(task.ID, "s"); d.Open || d.Answer == nil || d.HandedOver {
			t.Errorf("it is %+v", d)
		}
		if took := time.Since(start); took < handOffGrace-10*time.Millisecond || took > 3*handOffGrace {
			t.Errorf("it is due after %v", took)
		}
		if err := b.HandedOver(t.Context(), task.ID, "s", 0); err != nil {
			t.Fatal(err)
		}
		if s := b.suspension(task.ID, "s"); !s.HandedOver || s.Answer == nil {
			t.Errorf("it is %+v", s)
		}
		b.do("ZADD", b.keys.actions(shardOf(task.ID)), "0", task.ID)
		if due := b.dues(); len(due) > 0 {
			t.Errorf("what was handed over is due: %v", due)
		}
	})
}

// What the index cannot take is refused, since nobody would find it after a crash.
func TestNothingWithoutAPlace(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	b.append(task.ID, suspension("s", time.Time{}))
	key := b.keys.actions(shardOf(task.ID))
	b.do("SET", key, "not an index")
	if _, err := b.try(task.ID, suspension("t", time.Now().Add(time.Hour))); err == nil {
		t.Error("a suspension was opened that nobody will let expire")
	}
	if _, err := b.Resolve(t.Context(), answer(task.ID, "s", "c")); err == nil {
		t.Error("an answer was accepted that nobody will hand over")
	}
	if p := b.read(task.ID, engine.EventID{}, 10); len(p.Events) != 1 {
		t.Errorf("%d events, want 1", len(p.Events))
	}
	b.append(task.ID, message("others go on"), suspension("u", time.Time{}))
	b.do("DEL", key)
	b.wantVerdict("an answer", answer(task.ID, "s", "c"), engine.VerdictAccepted)
}

// The acts were evicted, or a version before them opened the suspension.
func TestActsAreLost(t *testing.T) {
	b := open(t, testConfig(t))
	prepare := func() engine.Task {
		t.Helper()
		task := b.create()
		b.append(task.ID, suspension("s", time.Now().Add(time.Hour)), suspension("t", soon()))
		b.do("DEL", b.keys.acts(task.ID))
		b.do("HDEL", b.keys.task(task.ID), fieldResolved)
		return task
	}
	task := prepare()
	if s := b.suspension(task.ID, "s"); !s.Open || len(s.AllowedActions) != 2 {
		t.Errorf("it is %+v", s)
	}
	wrong := answer(task.ID, "s", "c")
	wrong.Action.ActionType = "other"
	b.wantVerdict("an action that is not allowed", wrong, engine.VerdictNotAllowed)
	b.wantVerdict("an answer", answer(task.ID, "s", "c"), engine.VerdictAccepted)
	b.wantVerdict("a second", answer(task.ID, "s", "d"), engine.VerdictResolved)
	b.wantVerdict("one to none", answer(task.ID, "u", "d"), engine.VerdictUnknown)
	b.awaitDue(task.ID, "t")
	if ttl := b.int("PTTL", b.keys.acts(task.ID)); ttl <= 0 {
		t.Errorf("the acts live for %d", ttl)
	}

	task = prepare()
	b.awaitDue(task.ID, "t")

	task = prepare()
	b.append(task.ID, completed())
	b.wantVerdict("an answer to what is over", answer(task.ID, "s", "c"), engine.VerdictUnknown)
}

// What one was given no other gets for a while, however often its task is listed;
// then it is offered again.
func TestDueIsOfferedToOne(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	nodes := []*bench{open(t, cfg), open(t, cfg)}
	b := nodes[0]
	const tasks, each = 20, 3
	for range tasks {
		task := b.create()
		for n := range each {
			b.append(task.ID, suspension(fmt.Sprint("s", n), soon()))
		}
	}
	var mu sync.Mutex
	first, again := map[string]time.Time{}, map[string]time.Duration{}
	eventually(t, "all were offered twice", func() bool {
		var group sync.WaitGroup
		begin := time.Now()
		for i := range 4 {
			group.Go(func() {
				list, err := nodes[i%2].Due(t.Context(), 7)
				if err != nil && engine.CodeOf(err) != engine.CodeStoreUnavailable || len(list) > 7 {
					t.Errorf("Due gave %d, %v", len(list), err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, d := range list {
					key := d.TaskID + "/" + d.SuspendID
					if at, ok := first[key]; !ok {
						first[key] = begin
					} else if again[key] == 0 {
						again[key] = time.Since(at)
					}
					b.do("ZADD", b.keys.actions(shardOf(d.TaskID)), "0", d.TaskID)
				}
			})
		}
		group.Wait()
		return len(again) == tasks*each
	})
	for key, after := range again {
		if after < expiryClaim-time.Millisecond { // as the store rounds it
			t.Errorf("%s was offered again after %v", key, after)
		}
	}
}

// An idle node asks one question, whatever there is that is not due.
func TestDueIsCheapWhileIdle(t *testing.T) {
	b := open(t, testConfig(t))
	for range 50 {
		task := b.create()
		b.append(task.ID, suspension("s", time.Now().Add(time.Hour)))
	}
	b.awaitWhole()
	b.dues()
	calls := func() int64 {
		t.Helper()
		var n int64
		info, err := b.do("INFO", "commandstats").ToString()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(after(info, "cmdstat_evalsha:calls="), "%d", &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventually(t, "one script for each shard, and no more", func() bool {
		before := calls()
		if due := b.dues(); len(due) > 0 {
			t.Errorf("%d are due", len(due))
		}
		return calls()-before == dueShards
	})
}

func after(s, mark string) string {
	for i := 0; i+len(mark) <= len(s); i++ {
		if s[i:i+len(mark)] == mark {
			return s[i+len(mark):]
		}
	}
	return ""
}

func BenchmarkResolve(b *testing.B) {
	s := open(b, testConfig(b))
	task := s.create()
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprint("s", n)
		s.append(task.ID, suspension(id, time.Now().Add(time.Hour)))
		if v := s.resolve(answer(task.ID, id, id)); v != engine.VerdictAccepted {
			b.Fatal(v)
		}
		if err := s.HandedOver(b.Context(), task.ID, id, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDueIdle(b *testing.B) {
	s := open(b, testConfig(b))
	s.awaitWhole()
	for b.Loop() {
		s.dues()
	}
}
