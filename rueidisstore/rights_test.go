package rueidisstore

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// documentedRights are the rules that docs/redis.md gives, with those of the rows
// of its table that are named.
func documentedRights(t *testing.T, rows ...string) redistest.Option {
	t.Helper()
	return documentedRightsFor(t, "taskbridge", rows...)
}

// documentedRightsFor is documentedRights with another prefix of the keys.
func documentedRightsFor(t *testing.T, prefix string, rows ...string) redistest.Option {
	t.Helper()
	page, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\nuser app ")
	rules, table, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/redis.md gives no rights")
	}
	for _, row := range rows {
		_, cells, ok := strings.Cut(table, "\n| "+row+" |")
		if !ok {
			t.Fatalf("docs/redis.md gives no rights for %s", row)
		}
		for _, word := range strings.Fields(cells[:strings.IndexByte(cells, '\n')]) {
			if word = strings.Trim(word, "`,;"); strings.HasPrefix(word, "+") && word != "+waitaof" {
				rules += " " + strings.ReplaceAll(word, `\|`, "|")
			}
		}
	}
	rules = strings.Replace(rules, "~taskbridge:*", "~"+prefix+":*", 1)
	return redistest.User("app", strings.ReplaceAll(strings.Join(strings.Fields(rules), " "), ">password", ">pw"))
}

// The rights that the documentation names are enough for everything that a store
// does, on each set-up.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	t.Run("one server", func(t *testing.T) {
		t.Parallel()
		s := redistest.Server(t, documentedRights(t, "`Config.Subjects`"))
		useEverything(t, Config{
			Redis: rueidis.ClientOption{InitAddress: []string{s.Addr()}}, Subjects: SubjectConfig{MaxTasks: 1000, MaxBytes: 1 << 30},
		}, s)
	})
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.Cluster(t, documentedRights(t, "Cluster"))
		useEverything(t, Config{Redis: rueidis.ClientOption{InitAddress: c.Addrs()}}, c.Nodes()...)
	})
	t.Run("Sentinel and WAIT", func(t *testing.T) {
		t.Parallel()
		w := redistest.Sentinel(t, documentedRights(t, "Sentinel", "`Config.Wait`"))
		useEverything(t, Config{
			Redis: rueidis.ClientOption{InitAddress: w.Addrs(), Sentinel: rueidis.SentinelOption{MasterSet: redistest.MasterSet}},
			Wait:  WaitConfig{Replicas: 1},
		}, w.Primary(), w.Replica())
	})
}

// useEverything goes through what a store can do, and fails if a server refused
// anything but INFO.
func useEverything(t *testing.T, cfg Config, servers ...*redistest.Instance) {
	t.Helper()
	var log logged
	log.into(&cfg)
	cfg.Redis.Username, cfg.Redis.Password = "app", "pw"
	s := MustNew(t, cfg)
	defer s.Close()
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Of several tasks, so that every node of a Cluster has some.
	for i := range 12 {
		now := toMicros(time.Now())
		task, _, err := s.Create(ctx, engine.Task{
			Owner: "ann", ClientRequestID: fmt.Sprint(i), Type: "t", Status: engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
		})
		check("Create", err)
		w := &witness{tb: t, taskID: task.ID}
		stop, err := s.Follow(ctx, task.ID, engine.EventID{}, w)
		check("Follow", err)
		reasons := make(chan string, 1)
		stopListening, err := s.Listen(ctx, task.ID, func(got engine.Signal) { reasons <- got.CancelReason })
		check("Listen", err)
		fence, err := s.Acquire(ctx, task.ID, "a", time.Minute)
		check("Acquire", err)
		_, err = s.Renew(ctx, "a", []string{task.ID}, time.Minute)
		check("Renew", err)
		for n, d := range []engine.Draft{
			message("m"), draft(engine.TypeStarted, `{}`), draft(engine.TypeSuspended, `{"suspendId":"s","allowedActions":["a"]}`), completed(),
		} {
			if d.Type == engine.TypeCompleted {
				_, err = s.RequestCancel(ctx, task.ID, "why")
				check("RequestCancel", err)
				select {
				case <-reasons:
				case <-time.After(patience):
					t.Error("no signal")
				}
			}
			_, err = s.Append(ctx, engine.Append{TaskID: task.ID, Token: fmt.Sprint(n), Fence: fence, Events: []engine.Draft{d}})
			check("Append "+string(d.Type), err)
		}
		eventually(t, "the events", func() bool { _, n, lost := w.state(); return n == 4 && lost == 0 })
		useCheckpoints(t, s, task)
		_, err = s.Read(ctx, task.ID, engine.EventID{}, 2)
		check("Read", err)
		_, err = s.Get(ctx, task.ID, engine.Cached)
		check("Get", err)
		check("Release", s.Release(ctx, task.ID, "a", false))
		useSuspensions(t, s, task)
		stopListening()
		stop()
		if i%2 == 0 {
			check("Erase", s.Erase(ctx, task.ID))
		}
	}
	_, err := s.Orphans(ctx, 10)
	check("Orphans", err)
	_, err = s.Due(ctx, 10)
	check("Due", err)
	r := engine.Revocation{ID: "r", TaskID: "x", ExpiresAt: time.Now().Add(time.Minute)}
	check("PutRevocation", s.PutRevocation(ctx, r, 10))
	check("LiftRevocation", s.LiftRevocation(ctx, r.ID))
	for shard := range dueShards {
		check("maintenance", s.workOff(ctx, shard, "me"))
		check("comparison", s.auditNow(ctx, shard, "me"))
	}
	if cfg.Subjects.bounded() {
		check("recount", s.recount(ctx, s.held("ann")))
	}
	check("Ready", s.Ready(ctx))
	if log.count("cannot track") > 0 {
		t.Error("new events are polled for")
	}
	for _, server := range servers {
		entries, _ := server.Must("ACL", "LOG").([]any)
		for _, e := range entries {
			// Reads of version and role are a right of their own; who has one
			// address need not be told whether it is of a Cluster.
			text := fmt.Sprint(e)
			if !strings.Contains(text, "object info") && (len(servers) > 1 || !strings.Contains(text, "object cluster")) {
				t.Errorf("refused: %s", text)
			}
		}
	}
}

// useCheckpoints saves on a task of its own, with an event and without, also after
// the lease is gone.
func useCheckpoints(t *testing.T, s *Store, like engine.Task) {
	t.Helper()
	ctx := t.Context()
	like.ClientRequestID += "-saves"
	task, _, err := s.Create(ctx, like)
	if err != nil {
		t.Error(err)
		return
	}
	again := []engine.Draft{draft(engine.TypeStarted, `{"restarts":1}`)}
	for n, drafts := range [][]engine.Draft{nil, {message("m")}, again, nil} {
		if n == 2 {
			if err := s.client.Do(ctx, s.client.B().Unlink().Key(s.keys.hold(task.ID)).Build()).Error(); err != nil {
				t.Error(err)
			}
		}
		_, err := s.Append(ctx, engine.Append{
			TaskID: task.ID, Token: fmt.Sprint(n), Events: drafts, Checkpoint: &engine.Checkpoint{Data: []byte("1")},
		})
		if err != nil {
			t.Errorf("a checkpoint: %v", err)
		}
	}
	if c, err := s.Checkpoint(ctx, task.ID); err != nil || string(c.Data) != "1" {
		t.Errorf("Checkpoint: %s, %v", c.Data, err)
	}
}

// useSuspensions goes through what can become of suspensions, on a task of its
// own, which another holder has had before.
func useSuspensions(t *testing.T, s *Store, like engine.Task) {
	t.Helper()
	ctx := t.Context()
	like.ClientRequestID += "-asks"
	task, _, err := s.Create(ctx, like)
	if err != nil {
		t.Error(err)
		return
	}
	appended := func(drafts ...engine.Draft) {
		t.Helper()
		_, err := s.Append(ctx, engine.Append{TaskID: task.ID, Token: "suspend" + printOf(string(drafts[0].Payload)), Events: drafts})
		if err != nil {
			t.Errorf("Append %s: %v", drafts[0].Type, err)
		}
	}
	resolved := func(r engine.Resolution) {
		t.Helper()
		if v, err := s.Resolve(ctx, r); err != nil || v != engine.VerdictAccepted {
			t.Errorf("Resolve: %d, %v", v, err)
		}
	}
	if _, err := s.Acquire(ctx, task.ID, "a", time.Millisecond); err != nil {
		t.Error(err)
	}
	var fence uint64
	eventually(t, "another holder", func() bool {
		fence, err = s.Acquire(ctx, task.ID, "b", time.Minute)
		return err == nil
	})
	appended(suspension("s", time.Now().Add(time.Hour)), suspension("t", time.Time{}), suspension("u", time.Now().Add(-time.Second)))
	resolved(answer(task.ID, "s", "c"))
	if err := s.HandedOver(ctx, task.ID, "s", fence); err != nil {
		t.Error(err)
	}
	if _, err := s.Suspension(ctx, task.ID, "s"); err != nil {
		t.Error(err)
	}
	appended(draft(engine.TypeActionAccepted, `{"suspendId":"t"}`))
	if _, err := s.lookAtActs(ctx, []string{task.ID}, 1, map[string]string{}); err != nil {
		t.Error(err)
	}
	if err := s.adopt(ctx, task.ID); err != nil {
		t.Error(err)
	}
	resolved(expiry(task.ID, "u"))
	if err := s.Erase(ctx, task.ID); err != nil {
		t.Error(err)
	}
}
