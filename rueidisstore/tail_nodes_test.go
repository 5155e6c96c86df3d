package rueidisstore

import (
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

func openCluster(t *testing.T, cluster *redistest.Nodes, set ...func(*Config)) *bench {
	t.Helper()
	cfg := testConfig(t)
	cfg.Redis.InitAddress = cluster.Addrs()
	for _, s := range set {
		s(&cfg)
	}
	return open(t, cfg)
}

// Slots move under load, of logs with events and without.
func TestTailFollowsSlots(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	a := openCluster(t, cluster, unbounded)
	b := openCluster(t, cluster, func(c *Config) { *c = a.cfg })
	tr := startTraffic(t, 12, a, b)
	var quiet []*witness
	for range 6 {
		task := a.create()
		w, stop := b.follow(task.ID, engine.EventID{})
		t.Cleanup(stop)
		quiet = append(quiet, w)
	}
	for i := range 6 {
		cluster.MigrateSlot(cluster.Slot(a.keys.log(tr.tasks[i].ID)))
		cluster.MigrateSlot(cluster.Slot(a.keys.log(quiet[i].taskID)))
	}
	for _, w := range quiet {
		begin := time.Now()
		if err := a.insist(t.Context(), w.taskID, message("first")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the first event of a log whose slot moved", func() bool { _, n, _ := w.state(); return n == 1 })
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("the first event took %v", d)
		}
		if n := w.losses(); n != 0 {
			t.Errorf("%d losses", n)
		}
	}
	tr.finish()
}

// A slot that is between two nodes for long: its logs go on.
func TestTailHalfMigratedSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	b := openCluster(t, cluster)
	task := b.create()
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	reasons := make(chan string, 1)
	stopListening, err := b.Listen(t.Context(), task.ID, func(s engine.Signal) { reasons <- s.CancelReason })
	if err != nil {
		t.Fatal(err)
	}
	defer stopListening()
	// All keys of a task are there from its creation on, so that none is missing
	// on the node that has the others.
	step := func(what string, drafts ...engine.Draft) {
		t.Helper()
		ids := b.append(task.ID, append(drafts, message(what))...)
		at := ids[len(ids)-1]
		eventually(t, "an event "+what, func() bool { got, _, lost := w.state(); return got == at && lost == 0 })
	}
	step("before")
	m := cluster.BeginMigration(cluster.Slot(b.keys.log(task.ID)))
	step("with the slot open")
	step("with the slot open, of a task that begins", draft(engine.TypeStarted, `{}`))
	b.acquire(task.ID, "a", time.Minute)
	b.renewed("a", time.Minute, task.ID)
	for m.MoveKeys(100) > 0 {
	}
	step("with the keys moved")
	step("with the keys still moved", draft(engine.TypeStarted, `{}`))
	b.renewed("a", time.Minute, task.ID)
	if err := b.Release(t.Context(), task.ID, "a", false); err != nil {
		t.Fatal(err)
	}
	b.acquire(task.ID, "b", time.Minute)
	if _, err := b.RequestCancel(t.Context(), task.ID, "why"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reasons:
	case <-time.After(patience):
		t.Error("no signal from a slot on the move")
	}
	m.Finish()
	step("after")
	b.append(task.ID, completed())
	if _, err := b.Acquire(t.Context(), task.ID, "c", time.Minute); engine.CodeOf(err) != engine.CodeTaskAlreadyTerminal {
		t.Errorf("Acquire of a task that is over gave %v", err)
	}
}

// A node that hangs holds up its own logs only.
func TestTailHungClusterNode(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	// Whoever waits for the node that hangs, waits for longer than the others take.
	const tooLong = 5 * time.Second
	b := openCluster(t, cluster, unbounded, func(c *Config) {
		c.CommandTimeout = 2 * tooLong
		c.Redis.ConnWriteTimeout = 2 * tooLong
	})
	hung, _ := cluster.Owner(cluster.Slot(b.keys.log(b.create().ID)))
	var held, free []*witness
	for len(held) < 3 || len(free) < 3 {
		task := b.create()
		w, stop := b.follow(task.ID, engine.EventID{})
		t.Cleanup(stop)
		if owner, _ := cluster.Owner(cluster.Slot(b.keys.log(task.ID))); owner == hung {
			held = append(held, w)
		} else {
			free = append(free, w)
		}
	}
	for _, node := range cluster.Nodes() { // else the Cluster is down when it is called failed
		node.Must("CONFIG", "SET", "cluster-node-timeout", "60000")
	}
	hung.Pause()
	for i := range 20 {
		begin := time.Now()
		for _, w := range free {
			b.append(w.taskID, message("m"))
		}
		for _, w := range free {
			eventually(t, "an event", func() bool { _, n, _ := w.state(); return n == i+1 })
		}
		if d := time.Since(begin); d > tooLong {
			t.Errorf("with another node hung, it took %v", d)
		}
	}
	hung.Resume()
	for _, w := range held {
		if err := b.insist(t.Context(), w.taskID, message("m")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an event of the node that hung", func() bool { _, n, lost := w.state(); return n == 1 && lost == 0 })
	}
}

func openSentinel(t *testing.T, watch *redistest.Watch, set ...func(*Config)) *bench {
	t.Helper()
	cfg := testConfig(t)
	cfg.Redis = rueidis.ClientOption{
		InitAddress: watch.Addrs(), Sentinel: rueidis.SentinelOption{MasterSet: redistest.MasterSet},
	}
	for _, s := range set {
		s(&cfg)
	}
	s := MustNew(t, cfg)
	t.Cleanup(func() { _ = s.Close() })
	return &bench{TB: t, Store: s}
}

// A failover in order loses nothing; one to a replica that lacks the newest
// events is announced.
func TestTailSentinelFailover(t *testing.T) {
	t.Parallel()
	watch := redistest.Sentinel(t)
	b := openSentinel(t, watch)
	task := b.create()
	b.append(task.ID, message("1"))
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	replicated := func(entries int64) {
		t.Helper()
		eventually(t, "the replica has it", func() bool {
			n, err := watch.Replica().Do("XLEN", b.keys.log(task.ID))
			return err == nil && n == entries
		})
	}
	replicated(2) // with the header
	watch.Failover()
	watch.AwaitOK() // before that the old primary may take writes, and lose them
	if err := b.insist(t.Context(), task.ID, message("2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an event after the failover", func() bool { _, n, lost := w.state(); return n == 2 && lost == 0 })

	replicated(3)
	watch.DetachReplica()
	b.append(task.ID, message("3"), message("4"))
	eventually(t, "events that the replica lacks", func() bool { _, n, _ := w.state(); return n == 4 })
	old := watch.Primary()
	old.Kill()
	watch.AwaitFailover(old)
	watch.AttachReplica()
	eventually(t, "Lost", func() bool { return w.losses() == 1 })
	if err := b.insist(t.Context(), task.ID, completed()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end", w.over)
	w.wantTail(b, b.read(task.ID, engine.EventID{}, 10).Events[1].ID)
}
