//go:build unix

package rueidisstore

import (
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A process is killed while its handler works: another one goes on from the
// checkpoint and says so. That one is killed too, while the task waits for an
// answer: a third one has the checkpoint and the answer.
func TestKilledBehindACheckpoint(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b := open(t, cfg)
	first, _ := startWorker(t, cfg)
	id := begin(t, b, first, "pages")
	eventually(t, "page 3", func() bool { return strings.HasSuffix(story(b, id), "MESSAGE(page 3)") })
	first.kill()

	second, _ := startWorker(t, cfg)
	eventually(t, "the question", func() bool { return len(b.get(id).Suspensions) == 1 })
	events := b.read(id, engine.EventID{}, 100).Events
	if got, want := string(events[4].Payload), `{"restarts":1,"resumesAfter":"`+events[2].ID.String()+`"}`; got != want {
		t.Errorf("the second process says %s, want %s", got, want)
	}
	second.kill()
	startWorker(t, cfg)
	awaitParked(t, b, id)
	if v, err := b.Resolve(t.Context(), answer(id, id+"-1", "c")); err != nil || v != engine.VerdictAccepted {
		t.Fatalf("Resolve: %v, %v", v, err)
	}
	eventually(t, "the end", func() bool { return b.get(id).Status.Terminal() })
	want := "STARTED MESSAGE(page 1) MESSAGE(page 2) MESSAGE(page 3) RESTARTED(1) MESSAGE(page 3) MESSAGE(page 4) MESSAGE(page 5) " +
		"MESSAGE(page 6) MESSAGE(page 7) MESSAGE(page 8) SUSPENDED ACTION_ACCEPTED RESTARTED(2) COMPLETED"
	if got := story(b, id); got != want {
		t.Errorf("the log is %s, want %s", got, want)
	}
	events = b.read(id, engine.EventID{}, 100).Events
	if got, want := string(events[13].Payload), `{"restarts":2,"resumesAfter":"`+events[10].ID.String()+`"}`; got != want {
		t.Errorf("the third process says %s, want %s", got, want)
	}
	if got, want := string(b.get(id).Terminal.Payload), `{"result":{"answer":"approve","refs":{"id":616581622363398142}}}`; got != want {
		t.Errorf("the result is %s, want %s", got, want)
	}
	// Nothing of the checkpoint outlives the task.
	if n, err := b.do("HEXISTS", b.keys.hold(id), "saved").AsInt64(); err != nil && !rueidis.IsRedisNil(err) || n != 0 {
		t.Errorf("the checkpoint is there: %d, %v", n, err)
	}
}

// Redis lost the lease, and with it the checkpoint: the next one lives no longer
// than the task.
func TestCheckpointOfALeaseThatIsGone(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	for _, events := range [][]engine.Draft{nil, {message("m")}} {
		if err := b.do("DEL", b.keys.hold(task.ID)).Error(); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Append(t.Context(), engine.Append{
			TaskID: task.ID, Token: b.token(), Events: events, Checkpoint: &engine.Checkpoint{Data: []byte(`1`)},
		}); err != nil {
			t.Fatal(err)
		}
		if c, err := b.Checkpoint(t.Context(), task.ID); err != nil || string(c.Data) != `1` {
			t.Errorf("the checkpoint is %s, %v", c.Data, err)
		}
		if ttl, err := b.do("PTTL", b.keys.hold(task.ID)).AsInt64(); err != nil || ttl <= 0 {
			t.Errorf("its key lives for %d, %v", ttl, err)
		}
	}
	// And one of a task whose state is gone is as of what the log has.
	if err := b.do("DEL", b.keys.state(task.ID)).Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Append(t.Context(), engine.Append{TaskID: task.ID, Token: b.token(), Checkpoint: &engine.Checkpoint{Data: []byte(`2`)}}); err != nil {
		t.Fatal(err)
	}
	if c, err := b.Checkpoint(t.Context(), task.ID); err != nil || c.At != b.read(task.ID, engine.EventID{}, 9).Last {
		t.Errorf("the checkpoint is at %v, %v", c.At, err)
	}
}
