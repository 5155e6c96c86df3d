package rueidisstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// named is a task of ann's whose client request id is known.
func named(request string) engine.Task {
	now := toMicros(time.Now())
	return engine.Task{
		Owner: "ann", ClientRequestID: request, Type: "t", Status: engine.StatusAccepted,
		Input: []byte(`{"a":1}`), CreatedAt: now, UpdatedAt: now, OpenWithin: time.Minute,
	}
}

// slotOf is the slot of a task that may not be there yet.
func (b *bench) slotOf(cluster *redistest.Nodes, request string) int {
	return cluster.Slot(b.keys.record(deriveTag(*b.secret.Load(), "ann", request)))
}

// A slot that is open for migration for as long as an operator leaves it open:
// tasks are created in it at once, on the node that it moves to, once each; they
// live on, and ask.
func TestCreateInAnOpenSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	a := openCluster(t, cluster)
	b := openCluster(t, cluster, func(c *Config) { *c = a.cfg })
	const request = "late"
	m := cluster.BeginMigration(a.slotOf(cluster, request))

	var made atomic.Int64
	ids := make([]string, 16)
	var racers sync.WaitGroup
	for i := range ids {
		racers.Go(func() {
			s := a
			if i%2 == 1 {
				s = b
			}
			task, created, err := s.Create(t.Context(), named(request))
			if err != nil {
				t.Errorf("create %d: %v", i, err)
			}
			if ids[i] = task.ID; created {
				made.Add(1)
			}
		})
	}
	racers.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("they are told of %v", ids)
		}
	}
	if made.Load() != 1 {
		t.Errorf("%d of them created it", made.Load())
	}

	task := a.get(ids[0])
	w, stop := b.follow(task.ID, engine.EventID{})
	defer stop()
	fence := a.acquire(task.ID, "me", time.Minute)
	a.append(task.ID, message("m"))
	a.append(task.ID, suspension("s", time.Time{}))
	b.wantVerdict("an answer", answer(task.ID, "s", "c"), engine.VerdictAccepted)
	if err := a.HandedOver(t.Context(), task.ID, "s", fence); err != nil {
		t.Error(err)
	}
	for m.MoveKeys(100) > 0 {
	}
	m.Finish()
	cluster.AwaitAgreement()
	last := a.append(task.ID, completed())[0]
	eventually(t, "all events", func() bool { at, _, lost := w.state(); return at == last && lost == 0 })
	if p := b.read(task.ID, engine.EventID{}, 10); len(p.Events) != 4 || p.Last != last {
		t.Errorf("the log is %+v", p)
	}
}

// A repeated create is told of its task wherever that task's keys are.
func TestCreateAgainInAnOpenSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	b := openCluster(t, cluster)
	request := "early"
	task, _, err := b.Create(t.Context(), named(request))
	if err != nil {
		t.Fatal(err)
	}
	again := func(moved string) {
		t.Helper()
		got, created, err := b.Create(t.Context(), named(request))
		if err != nil || created || got.ID != task.ID {
			t.Errorf("%s moved: created %v, id %q, %v", moved, created, got.ID, err)
		}
	}
	m := cluster.BeginMigration(b.slotOf(cluster, request))
	again("nothing")
	for n := 1; m.MoveKeys(1) > 0; n++ {
		again(fmt.Sprint(n))
	}
	m.Finish()
	cluster.AwaitAgreement()
	again("the slot is")
	b.append(task.ID, completed())
}

// The same for the first revocation.
func TestRevokeInAnOpenSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	b := openCluster(t, cluster)
	m := cluster.BeginMigration(cluster.Slot(b.keys.revocations()))
	r := engine.Revocation{ID: "r", TaskID: "x", ExpiresAt: time.Now().Add(time.Minute)}
	if err := b.PutRevocation(t.Context(), r, 10); err != nil {
		t.Error(err)
	}
	if all, err := b.ListRevocations(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("there are %v, %v", all, err)
	}
	for m.MoveKeys(100) > 0 {
	}
	m.Finish()
	cluster.AwaitAgreement()
}

// A task that has asked before goes on to ask while its keys are on their way,
// whichever of them has moved: what it asked is there afterwards, and is in
// nobody's way.
func TestSuspendWhileKeysMove(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	b := openCluster(t, cluster)
	task := b.create()
	b.append(task.ID, suspension("first", time.Time{}))
	var asked []string
	for round := range 3 { // a node gives its keys away in another order than it got them
		m := cluster.BeginMigration(cluster.Slot(b.keys.log(task.ID)))
		for n := 0; ; n++ {
			id := fmt.Sprintf("%d-%d", round, n)
			switch _, err := b.try(task.ID, suspension(id, time.Time{})); engine.CodeOf(err) {
			case "":
				asked = append(asked, id)
			case engine.CodeStoreUnavailable:
			default:
				t.Fatalf("with %d keys moved: %v", n, err)
			}
			if m.MoveKeys(1) == 0 {
				break
			}
		}
		m.Finish()
		cluster.AwaitAgreement()
	}
	if len(asked) < 3 {
		t.Errorf("it asked %d times", len(asked))
	}
	for _, id := range append(asked, "first") {
		if s := b.suspension(task.ID, id); !s.Open {
			t.Errorf("%s is %+v", id, s)
		}
	}
}

// The same for revocations.
func TestRevokeWhileKeysMove(t *testing.T) {
	t.Parallel()
	cluster := redistest.Cluster(t)
	b := openCluster(t, cluster)
	put := func(id string) error {
		return b.PutRevocation(t.Context(), engine.Revocation{ID: id, TaskID: "x", ExpiresAt: time.Now().Add(time.Hour)}, 1000)
	}
	if err := put("first"); err != nil {
		t.Fatal(err)
	}
	kept := 1
	for round := range 3 {
		m := cluster.BeginMigration(cluster.Slot(b.keys.revocations()))
		for n := 0; ; n++ {
			switch err := put(fmt.Sprintf("%d-%d", round, n)); engine.CodeOf(err) {
			case "":
				kept++
			case engine.CodeStoreUnavailable:
			default:
				t.Fatalf("with %d keys moved: %v", n, err)
			}
			if m.MoveKeys(1) == 0 {
				break
			}
		}
		m.Finish()
		cluster.AwaitAgreement()
	}
	all, err := b.ListRevocations(t.Context())
	if err != nil || len(all) != kept {
		t.Errorf("%d are in force, want %d; %v", len(all), kept, err)
	}
	err = b.PutRevocation(t.Context(), engine.Revocation{ID: "more", TaskID: "x", ExpiresAt: time.Now().Add(time.Hour)}, kept)
	b.wantCode("one too many", err, engine.CodeRateLimited)
}
