package rueidisstore

import (
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// What Config.Wait has confirmed is on the replica; what it has not is told, may
// be repeated, and is there once.
func TestWaitForReplica(t *testing.T) {
	t.Parallel()
	w := redistest.Sentinel(t)
	b := openAt(t, w.Primary(), func(c *Config) {
		c.Wait = WaitConfig{Replicas: 1, Timeout: 300 * time.Millisecond}
	})
	length := func(s *redistest.Instance, taskID string) any { return s.Must("XLEN", b.keys.log(taskID)) }

	task := b.create()
	b.confirmed(engine.Append{TaskID: task.ID, Token: "end", Events: []engine.Draft{completed()}})
	if n := length(w.Replica(), task.ID); n != int64(2) { // with the header
		t.Errorf("the replica has %v entries of what was confirmed", n)
	}

	task = b.create()
	eventually(t, "the replica has the task", func() bool { return length(w.Replica(), task.ID) == int64(1) })
	w.DetachReplica()
	b.append(task.ID, message("which waits for nobody"))
	end := engine.Append{TaskID: task.ID, Token: "end", Events: []engine.Draft{completed()}}
	for range 2 {
		begin := time.Now()
		_, err := b.Append(t.Context(), end)
		b.wantCode("Append without a replica", err, engine.CodeStoreUnavailable)
		if took := time.Since(begin); took < 290*time.Millisecond || took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	}
	w.AttachReplica()
	b.confirmed(end)
	for _, s := range []*redistest.Instance{w.Primary(), w.Replica()} {
		if n := length(s, task.ID); n != int64(3) {
			t.Errorf("the log has %v entries", n)
		}
	}
}

// confirmed repeats an append until it is confirmed, as the engine does: a busy
// replica may take its time.
func (b *bench) confirmed(a engine.Append) {
	b.Helper()
	eventually(b.TB, "the append is confirmed", func() bool {
		_, err := b.Append(b.Context(), a)
		if err != nil && engine.CodeOf(err) != engine.CodeStoreUnavailable {
			b.Fatal(err)
		}
		return err == nil
	})
}

// What Config.Wait.Fsync has confirmed survives a crash at once, on a server that
// writes to its disk once a second.
func TestWaitForDisk(t *testing.T) {
	t.Parallel()
	w := redistest.Sentinel(t, redistest.AppendOnly("everysec"))
	info, err := w.Primary().Info("server")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := parseVersion(info["redis_version"]); err != nil || v.less(oldestFsync) {
		t.Skipf("Redis %s has no WAITAOF; .ci/other-redis runs this test", info["redis_version"])
	}
	primary := w.Primary()
	b := openAt(t, primary, func(c *Config) {
		c.Wait = WaitConfig{Replicas: 1, Fsync: true, Timeout: 5 * time.Second}
		c.CommandTimeout = 5 * time.Second
	})
	task, other := b.create(), b.create()
	b.append(other.ID, suspension("s", time.Now().Add(time.Hour)))
	b.append(task.ID, completed())
	b.wantVerdict("an answer", answer(other.ID, "s", "c"), engine.VerdictAccepted)
	primary.Kill()
	primary.Start()
	eventually(t, "the server is back", func() bool { return b.Ready(t.Context()) == nil })
	for id, want := range map[string]engine.EventType{task.ID: engine.TypeCompleted, other.ID: engine.TypeActionAccepted} {
		p := b.read(id, engine.EventID{}, 10)
		if len(p.Events) == 0 || p.Events[len(p.Events)-1].Type != want {
			t.Errorf("after the crash the log is %+v", p.Events)
		}
	}

	// Without a disk to wait for, nothing is confirmed.
	if _, err := New(func() Config {
		cfg := testConfig(t)
		cfg.Redis.InitAddress = []string{redistest.Server(t).Addr()}
		cfg.Wait.Fsync = true
		return cfg
	}()); err == nil {
		t.Error("New takes a server without appendonly")
	}
}
