package rueidisstore_test

import (
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

func (q *inquiry) slots(cluster *redistest.Nodes) []int {
	var all []int
	for _, a := range q.asking {
		all = append(all, slotOf(cluster, &load{task: a.task}))
	}
	return all
}

// TestFaultActionsServerKilled kills the server and brings it back.
func TestFaultActionsServerKilled(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t, redistest.AppendOnly("always"))
	q := newInquiry(t, at(server.Addr()), 8)
	q.start()
	for range 3 {
		q.awaitProgress(5)
		server.Kill()
		server.Start()
	}
	q.awaitProgress(5)
	q.finish()
}

// TestFaultActionsAnswersLost cuts connections after the server has done what it
// was asked and before anybody knows.
func TestFaultActionsAnswersLost(t *testing.T) {
	t.Parallel()
	server := redistest.Server(t)
	wire := redistest.NewWire(t, server.Addr())
	q := newInquiry(t, at(wire.Addr()), 8)
	q.start()
	for range 15 {
		q.awaitProgress(2)
		wire.LoseAnswers(20 * time.Millisecond)
	}
	q.finish()
}

// TestFaultActionsSlotsMigrate moves the slots of the tasks, and those of the
// indexes, while they ask and are answered.
func TestFaultActionsSlotsMigrate(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	q := newInquiry(t, at(cluster.Addrs()...), 8)
	q.start()
	q.awaitProgress(5)
	for range 3 {
		cluster.MigrateSlots(q.slots(cluster)...)
		q.awaitProgress(5)
	}
	q.finish()
}

// TestFaultActionsSlotsHalfMigrated leaves slots open for a while, with some keys
// on the one node and some on the other.
func TestFaultActionsSlotsHalfMigrated(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	q := newInquiry(t, at(cluster.Addrs()...), 6)
	q.start()
	q.awaitProgress(5)
	for n, slot := range q.slots(cluster) {
		m := cluster.BeginMigration(slot)
		m.MoveKeys(n % 6)
		time.Sleep(150 * time.Millisecond) // requests meet the slot as it is
		for m.MoveKeys(1) > 0 {
		}
		m.Finish()
		cluster.AwaitAgreement()
		q.awaitProgress(2)
	}
	q.finish()
}

// TestFaultActionsClusterNodeRestarted kills one node after the other.
func TestFaultActionsClusterNodeRestarted(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t, redistest.AppendOnly("always"))
	q := newInquiry(t, at(cluster.Addrs()...), 8)
	q.start()
	for _, node := range cluster.Nodes() {
		q.awaitProgress(5)
		node.Restart()
		cluster.AwaitOK()
	}
	q.awaitProgress(5)
	q.finish()
}

// TestFaultActionsPrimaryKilled lets the Sentinels make the replica the primary.
// What was acknowledged last may be lost; what is left must fit together.
func TestFaultActionsPrimaryKilled(t *testing.T) {
	t.Parallel()
	watch := redistest.Sentinel(t)
	q := newInquiry(t, under(watch), 8)
	q.mayLose = true
	q.start()
	q.awaitProgress(5)
	old := watch.Primary()
	old.Kill()
	watch.AwaitFailover(old)
	q.awaitProgress(5)
	old.Start()
	watch.AwaitOK()
	q.awaitProgress(5)
	q.finish()
}

// TestFaultActionsFailoverOnRequest makes the replica the primary while both run.
func TestFaultActionsFailoverOnRequest(t *testing.T) {
	t.Parallel()
	watch := redistest.Sentinel(t)
	q := newInquiry(t, under(watch), 8)
	q.mayLose = true
	q.start()
	q.awaitProgress(5)
	watch.Failover()
	q.awaitProgress(5)
	watch.AwaitOK()
	q.finish()
}

// TestFaultActionsClusterPrimaryKilled lets the replica of each node of a Cluster
// take over: of a task, its index, or both.
func TestFaultActionsClusterPrimaryKilled(t *testing.T) {
	t.Parallel()
	cluster := redistest.ClusterWithReplicas(t)
	q := newInquiry(t, at(cluster.Addrs()...), 8)
	q.mayLose = true
	q.start()
	for n := range cluster.Nodes() {
		q.awaitProgress(5)
		cluster.KillPrimary(n)
		q.awaitProgress(5)
		cluster.RestartReplica(n)
	}
	q.awaitProgress(5)
	q.finish()
}
