package rueidisstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// slotOf is the hash slot of a task's keys: their hash tag is the beginning of
// its id.
func slotOf(c *redistest.Nodes, l *load) int {
	const tagLength = 24
	return c.Slot("{" + l.task.ID[:tagLength] + "}")
}

// slotsOf are those of all tasks.
func slotsOf(c *redistest.Nodes, tr *trial) []int {
	var all []int
	for _, l := range tr.loads {
		all = append(all, slotOf(c, l))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestFaultSlotsMigrate moves the slot of every task, the quiet ones' while
// their logs are still empty, from node to node until each has been everywhere.
func TestFaultSlotsMigrate(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	tr := newTrial(t, at(cluster.Addrs()...), 8, 8)
	tr.start()
	tr.awaitProgress(20)
	for range 3 {
		cluster.MigrateSlots(slotsOf(cluster, tr)...)
		tr.awaitProgress(20)
	}
	tr.lateJoiners()
	tr.awaitProgress(20)
	tr.finish()
	tr.verify(keepsAll)
}

// TestFaultSlotsHalfMigrated leaves slots open for a while with some of a task's
// keys on the one node and some on the other. While all of them are on the same
// node appends go on.
func TestFaultSlotsHalfMigrated(t *testing.T) {
	t.Parallel()
	const keys = 4 // record, log, state, lease
	cluster := redistest.Cluster(t)
	tr := newTrial(t, at(cluster.Addrs()...), 6, 6)
	tr.start()
	tr.awaitProgress(20)
	for n, l := range tr.loads {
		m := cluster.BeginMigration(slotOf(cluster, l))
		moved := n % (keys + 1)
		m.MoveKeys(moved)
		if moved == 0 || moved == keys {
			tr.awaitProgress(20)
		} else {
			time.Sleep(100 * time.Millisecond) // requests meet the slot as it is
		}
		for m.MoveKeys(1) > 0 {
		}
		m.Finish()
		cluster.AwaitAgreement()
		tr.awaitProgress(1)
	}
	tr.finish()
	tr.verify(keepsAll)
}

// TestFaultClusterNodeRestarted kills one node after the other.
func TestFaultClusterNodeRestarted(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t, redistest.AppendOnly("always"))
	tr := newTrial(t, at(cluster.Addrs()...), 9, 3)
	tr.start()
	tr.awaitProgress(20)
	for _, node := range cluster.Nodes() {
		node.Restart()
		cluster.AwaitOK()
		tr.awaitProgress(20)
	}
	tr.lateJoiners()
	tr.finish()
	tr.verify(keepsAll)
}

// TestFaultClusterNodePaused stops one node for longer than the others take to
// call it failed: the Cluster is down meanwhile, as it has no replica of it.
func TestFaultClusterNodePaused(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	tr := newTrial(t, at(cluster.Addrs()...), 9, 3)
	tr.start()
	tr.awaitProgress(20)
	tr.pause(cluster.Nodes()[1])
	cluster.AwaitOK()
	tr.awaitProgress(20)
	tr.lateJoiners()
	tr.finish()
	tr.verify(keepsAll)
}
