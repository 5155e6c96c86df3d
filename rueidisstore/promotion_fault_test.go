package rueidisstore_test

import (
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// TestFaultPromotionBehindProxy hands over to the replica of a server that a TCP
// proxy stands before, there and back. The connections stay with the old server,
// which takes no writes any more and can be read.
func TestFaultPromotionBehindProxy(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.Pair(t)
	proxy := redistest.NewWire(t, primary.Addr())
	tr := newTrial(t, at(proxy.Addr()), 9, 3)
	tr.start()
	for range 2 {
		tr.awaitProgress(30)
		primary.HandOver(replica)
		proxy.Redirect(replica.Addr())
		switched := time.Now()
		tr.awaitProgress(1)
		t.Logf("every task could be written to %v after the proxy was switched", time.Since(switched).Round(time.Millisecond))
		tr.awaitDelivered()
		t.Logf("every stream went on %v after it", time.Since(switched).Round(time.Millisecond))
		primary, replica = replica, primary
	}
	tr.lateJoiners()
	tr.finish()
	tr.verify(keepsAll)
}

// TestFaultPromotionBehindProxyLeavesTheOldServerBehind is about a demoted server
// that gets no news from the new primary. It can be read, and has nothing to tell;
// or it refuses reads as well.
func TestFaultPromotionBehindProxyLeavesTheOldServerBehind(t *testing.T) {
	t.Parallel()
	for _, staleReads := range []string{"yes", "no"} {
		t.Run("stale reads: "+staleReads, func(t *testing.T) {
			t.Parallel()
			primary, replica := redistest.Pair(t)
			proxy := redistest.NewWire(t, primary.Addr())
			tr := newTrial(t, at(proxy.Addr()), 6, 3)
			tr.start()
			tr.awaitProgress(30)
			primary.Must("CONFIG", "SET", "replica-serve-stale-data", staleReads)
			primary.HandOver(replica)
			primary.Must("REPLICAOF", "127.0.0.1", "1") // nobody there
			proxy.Redirect(replica.Addr())
			switched := time.Now()
			tr.awaitProgress(1)
			tr.awaitDelivered()
			t.Logf("every stream went on %v after the proxy was switched", time.Since(switched).Round(time.Millisecond))
			tr.lateJoiners()
			tr.finish()
			tr.verify(keepsAll)
		})
	}
}

// TestFaultPromotionBehindProxyLosesTheTail promotes a replica that lacks what was
// written last, and demotes the old primary afterwards: what the new one does not
// have is gone, and announced.
func TestFaultPromotionBehindProxyLosesTheTail(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.Pair(t)
	proxy := redistest.NewWire(t, primary.Addr())
	tr := newTrial(t, at(proxy.Addr()), 6, 3)
	tr.start()
	tr.awaitProgress(30)
	primary.AwaitReplicated(replica)
	replica.Promote()
	tr.awaitProgress(30) // on the old primary
	tr.awaitDelivered()
	lost := map[string]engine.EventID{}
	for _, l := range tr.loads {
		if log := tr.readAll(tr.reader, l.task.ID); len(log) > 0 {
			lost[l.task.ID] = log[len(log)-1].ID
		}
	}
	eventually(t, "what is going to be lost has been delivered", func() bool {
		for _, o := range tr.outlets {
			if o.lastSent().Compare(lost[o.load.task.ID]) < 0 {
				return false
			}
		}
		return true
	})
	proxy.Redirect(replica.Addr())
	primary.Follow(replica)
	tr.awaitProgress(20)
	tr.finish()
	tr.verify(mayLoseTail)
	for _, o := range tr.outlets {
		if _, gaps, _ := replay(o.sent(), o.start.Position); len(gaps) == 0 && !o.load.quiet {
			t.Errorf("an outlet of %s was told of no gap, and its tail was lost", o.load)
		}
	}
}

// awaitDelivered waits until every outlet of a busy task has been sent something
// that was not stored when it was called.
func (tr *trial) awaitDelivered() {
	tr.Helper()
	for _, o := range tr.outlets {
		if o.load.quiet {
			continue
		}
		from := uint64(o.load.acked.Load()) // there is TASK_STARTED, too
		eventually(tr.T, "a stream goes on", func() bool { return o.lastSent().Ordinal > from+1 || tr.Failed() })
	}
}
