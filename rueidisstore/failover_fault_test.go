package rueidisstore_test

import (
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// TestFaultFailoverOnRequest makes the replica the primary while both run. What
// the old primary acknowledged after the replica stopped listening to it is lost.
func TestFaultFailoverOnRequest(t *testing.T) {
	t.Parallel()
	watch := redistest.Sentinel(t)
	tr := newTrial(t, under(watch), 9, 3)
	tr.start()
	tr.awaitProgress(50)
	watch.Failover()
	tr.awaitProgress(50)
	watch.AwaitOK()
	tr.awaitProgress(20)
	tr.finish()
	tr.verify(mayLoseTail)
}

// TestFaultPrimaryKilled lets the Sentinels find out, and brings the old primary
// back as a replica.
func TestFaultPrimaryKilled(t *testing.T) {
	t.Parallel()
	watch := redistest.Sentinel(t)
	tr := newTrial(t, under(watch), 9, 3)
	tr.start()
	tr.awaitProgress(50)
	old := watch.Primary()
	old.Kill()
	watch.AwaitFailover(old)
	tr.awaitProgress(50)
	old.Start()
	watch.AwaitOK()
	tr.awaitProgress(20)
	tr.finish()
	tr.verify(mayLoseTail)
}

// TestFaultFailoverLosesTheTail cuts replication before the primary dies: what
// was acknowledged and delivered since is gone. That must be announced, and
// what takes its place must be delivered.
func TestFaultFailoverLosesTheTail(t *testing.T) {
	t.Parallel()
	watch := redistest.Sentinel(t)
	tr := newTrial(t, under(watch), 6, 3)
	tr.start()
	tr.awaitProgress(50)
	old := watch.Primary()
	old.AwaitReplicated(watch.Replica())
	watch.DetachReplica()
	// Well within the 20 seconds that the replica stays fit for being chosen.
	tr.awaitProgress(50)
	lost := map[string]engine.EventID{}
	for _, l := range tr.loads {
		log := tr.readAll(tr.reader, l.task.ID)
		if len(log) > 0 {
			lost[l.task.ID] = log[len(log)-1].ID
		}
	}
	eventually(t, "everything that is going to be lost has been delivered", func() bool {
		for _, o := range tr.outlets {
			if o.lastSent().Compare(lost[o.load.task.ID]) < 0 {
				return false
			}
		}
		return true
	})
	old.Kill()
	watch.AwaitFailover(old)
	down := time.Now()
	tr.awaitProgress(20)
	t.Logf("appends went on %v after the Sentinels named the new primary", time.Since(down).Round(time.Millisecond))
	watch.AttachReplica()
	old.Start()
	watch.AwaitOK()
	tr.awaitProgress(20)
	tr.finish()
	tr.verify(mayLoseTail)
	for _, o := range tr.outlets {
		if _, gaps, _ := replay(o.sent(), o.start.Position); len(gaps) == 0 && !o.load.quiet {
			t.Errorf("an outlet of %s was told of no gap, and its tail was lost", o.load)
		}
	}
	for _, w := range tr.followers {
		if w.losses() == 0 && !w.load.quiet {
			t.Errorf("a follower of %s was not told Lost, and its tail was lost", w.load)
		}
	}
}

// TestFaultClusterPrimaryKilled lets the replica of each node of a Cluster take
// over, one after the other, and brings the old primaries back as replicas.
func TestFaultClusterPrimaryKilled(t *testing.T) {
	t.Parallel()
	cluster := redistest.ClusterWithReplicas(t)
	tr := newTrial(t, at(cluster.Addrs()...), 9, 6)
	tr.start()
	tr.awaitProgress(50)
	for n := range cluster.Nodes() {
		cluster.KillPrimary(n)
		tr.awaitProgress(20)
		cluster.RestartReplica(n)
		tr.awaitProgress(20)
	}
	tr.lateJoiners()
	tr.finish()
	tr.verify(mayLoseTail)
}

// TestFaultClusterFailoverLosesTheTail cuts replication before a primary dies.
// What was acknowledged there since is lost and announced; the other nodes' logs
// lose nothing, and nobody is told that they did.
func TestFaultClusterFailoverLosesTheTail(t *testing.T) {
	t.Parallel()
	cluster := redistest.ClusterWithReplicas(t)
	tr := newTrial(t, at(cluster.Addrs()...), 12, 3)
	owner := map[string]int{}
	for _, l := range tr.loads {
		_, owner[l.task.ID] = cluster.Owner(slotOf(cluster, l))
	}
	victim := owner[tr.loads[0].task.ID]
	tr.start()
	tr.awaitProgress(50)
	for n, node := range cluster.Nodes() {
		node.AwaitReplicated(cluster.Replicas()[n])
	}
	cluster.DetachReplica(victim)
	tr.awaitProgress(50)
	lost := map[string]engine.EventID{}
	for _, l := range tr.loads {
		if log := tr.readAll(tr.reader, l.task.ID); len(log) > 0 {
			lost[l.task.ID] = log[len(log)-1].ID
		}
	}
	eventually(t, "everything that is going to be lost has been delivered", func() bool {
		for _, o := range tr.outlets {
			if o.lastSent().Compare(lost[o.load.task.ID]) < 0 {
				return false
			}
		}
		return true
	})
	cluster.KillPrimary(victim)
	tr.awaitProgress(20)
	cluster.RestartReplica(victim)
	tr.awaitProgress(20)
	tr.finish()
	tr.verify(mayLoseTail)
	for _, o := range tr.outlets {
		_, gaps, _ := replay(o.sent(), o.start.Position)
		if got, want := len(gaps) > 0, owner[o.load.task.ID] == victim && !o.load.quiet; got != want {
			t.Errorf("an outlet of %s was told of %d gaps; its tail was lost: %v", o.load, len(gaps), want)
		}
	}
}
