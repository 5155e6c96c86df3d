package rueidisstore

import (
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// A slot that is open for migration for long: a task that has asked goes on in it
// as long as its keys are together.
func TestActionsInAnOpenSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	b := openCluster(t, cluster)
	for name, moved := range map[string]int{"nothing moved": 0, "all moved": 100} {
		t.Run(name, func(t *testing.T) {
			task := b.create()
			fence := b.acquire(task.ID, "a", time.Minute)
			b.append(task.ID, suspension("s", time.Now().Add(500*time.Millisecond)), suspension("t", time.Time{}))
			m := cluster.BeginMigration(cluster.Slot(b.keys.log(task.ID)))
			m.MoveKeys(moved)
			b.append(task.ID, message("m"))
			b.append(task.ID, suspension("u", time.Time{}))
			b.wantVerdict("an answer", answer(task.ID, "t", "c"), engine.VerdictAccepted)
			if err := b.HandedOver(t.Context(), task.ID, "t", fence); err != nil {
				t.Error(err)
			}
			b.append(task.ID, draft(engine.TypeActionAccepted, `{"suspendId":"u"}`))
			if d := b.awaitDue(task.ID, "s"); !d.Open {
				t.Errorf("it is %+v", d)
			}
			if s := b.suspension(task.ID, "t"); s.Open || !s.HandedOver {
				t.Errorf("it is %+v", s)
			}
			b.append(task.ID, completed())
			for m.MoveKeys(100) > 0 {
			}
			m.Finish()
			cluster.AwaitAgreement()
		})
	}
}

// A key cannot be made beside others in a slot that is open: the first question
// waits, everything else goes on.
func TestFirstSuspensionInAnOpenSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	b := openCluster(t, cluster)
	task := b.create()
	b.acquire(task.ID, "a", time.Minute)
	m := cluster.BeginMigration(cluster.Slot(b.keys.log(task.ID)))
	b.append(task.ID, message("m"))
	_, err := b.try(task.ID, suspension("s", time.Time{}))
	b.wantCode("a first question", err, engine.CodeStoreUnavailable)
	if err == nil || !strings.Contains(err.Error(), "TRYAGAIN") {
		t.Errorf("the cause is %v", err)
	}
	b.append(task.ID, message("n"))
	for m.MoveKeys(100) > 0 {
	}
	b.append(task.ID, message("o"))
	m.Finish()
	cluster.AwaitAgreement()
	eventually(t, "the slot is settled", func() bool {
		_, err := b.try(task.ID, suspension("s", time.Time{}))
		return err == nil
	})
	b.append(task.ID, completed())
}
