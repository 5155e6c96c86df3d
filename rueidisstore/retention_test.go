package rueidisstore

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// everyKey looks at all that Redis holds; tests may.
func (b *bench) everyKey() []string {
	b.Helper()
	keys, err := b.do("KEYS", b.cfg.Prefix+":*").AsStrSlice()
	if err != nil {
		b.Fatal(err)
	}
	return keys
}

func (b *bench) listed(taskID string) bool {
	b.Helper()
	_, err := b.do("ZSCORE", b.keys.due(shardOf(taskID)), taskID).ToString()
	return err == nil
}

func TestRetention(t *testing.T) {
	cfg := testConfig(t)
	cfg.StreamTTL, cfg.RecordTTL, cfg.MaxOpenAge = time.Hour, 30*time.Minute, 10*time.Hour
	b := open(t, cfg)
	ttl := func(key string) time.Duration { return time.Duration(b.int("PTTL", key)) * time.Millisecond }

	task := b.create()
	keys := b.keys.ofTask(task.ID)[:3]
	steps := [][]engine.Draft{
		nil, {draft(engine.TypeStarted, `{}`)}, {message("m")},
		{draft(engine.TypeSuspended, `{"suspendId":"s"}`)}, {draft(engine.TypeActionAccepted, `{"suspendId":"s"}`)},
	}
	for _, drafts := range steps {
		if drafts != nil {
			b.append(task.ID, drafts...)
		}
		for _, key := range keys {
			if got := ttl(key); got < b.cfg.MaxOpenAge+time.Hour {
				t.Errorf("while the task is open %s lives for %v", key, got)
			}
		}
	}
	if _, err := b.RequestCancel(t.Context(), task.ID, "r"); err != nil {
		t.Fatal(err)
	}
	if !b.listed(task.ID) {
		t.Error("an open task is not in the due index")
	}
	b.append(task.ID, completed())
	for i, want := range []time.Duration{90 * time.Minute, time.Hour, time.Hour} {
		if got := ttl(keys[i]); got > want || got < want-time.Minute {
			t.Errorf("after the end %s lives for %v, want %v", keys[i], got, want)
		}
	}
	eventually(t, "the due index forgets it", func() bool { return !b.listed(task.ID) })
	// A renewal that comes late does not bring it back to life.
	if err := b.renew(t.Context(), task.ID, 100*time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := ttl(keys[0]); got > 90*time.Minute {
		t.Errorf("a renewal after the end gave it %v", got)
	}
	// One that is over from the beginning.
	over := engine.Task{Owner: "o", ClientRequestID: "over", Status: engine.StatusFailed}
	over, _, err := b.Create(t.Context(), over)
	if err != nil {
		t.Fatal(err)
	}
	if got := ttl(b.keys.log(over.ID)); got > time.Hour {
		t.Errorf("the log of a task that begins with its end lives for %v", got)
	}

	erased := b.create()
	if err := b.Erase(t.Context(), erased.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the due index forgets what was erased", func() bool { return !b.listed(erased.ID) })
	for _, key := range b.everyKey() {
		if ttl(key) <= 0 {
			t.Errorf("%s never expires", key)
		}
		if strings.Contains(key, tagOf(erased.ID)) {
			t.Errorf("%s of an erased task is there", key)
		}
	}
}

// pass makes maintenance look at everything, as if d had gone by.
func (b *bench) pass(d time.Duration) {
	b.Helper()
	for shard := range dueShards {
		_, ids, err := b.dueWithin(shard)
		if err != nil {
			b.Fatal(err)
		}
		if err := b.lookAt(b.Context(), shard, time.Now().Add(d).UnixMilli(), ids); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *bench) dueWithin(shard int) (int64, []string, error) {
	ids, err := b.do("ZRANGE", b.keys.due(shard), "0", "-1").AsStrSlice()
	return 0, ids, err
}

func TestMaxOpenAge(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxOpenAge = time.Hour
	b := open(t, cfg)
	idle, asking, endless := b.create().ID, b.create().ID, b.create().ID
	until := time.Now().Add(3 * time.Hour).UTC().Format(time.RFC3339)
	b.append(asking, draft(engine.TypeSuspended, `{"suspendId":"s","expiresAt":"`+until+`"}`))
	b.append(endless, draft(engine.TypeSuspended, `{"suspendId":"s"}`))
	isOpen := func(id string) bool { return !b.get(id).Status.Terminal() }

	b.pass(59 * time.Minute)
	for _, id := range []string{idle, asking, endless} {
		if !isOpen(id) || !b.listed(id) {
			t.Errorf("%s was ended too soon, or forgotten", id)
		}
	}
	// The one that waits for longer has got a longer life, piece by piece.
	if got := b.int("PTTL", b.keys.log(asking)); got < (90 * time.Minute).Milliseconds() {
		t.Errorf("its log lives for %d ms", got)
	}
	b.pass(61 * time.Minute)
	if isOpen(idle) || isOpen(endless) {
		t.Error("a task is open for ever")
	}
	if !isOpen(asking) {
		t.Error("it was ended while somebody may still answer")
	}
	ev := b.read(idle, engine.EventID{}, 1).Events[0]
	if _, err := engine.CheckPayload(ev.Type, ev.Payload); err != nil || ev.Type != engine.TypeFailed ||
		!strings.Contains(string(ev.Payload), `"code":"TASK_EXPIRED"`) || !strings.Contains(string(ev.Payload), `"retryable":true`) {
		t.Errorf("it was ended with %s %s, %v", ev.Type, ev.Payload, err)
	}
	b.pass(4 * time.Hour)
	if isOpen(asking) {
		t.Error("a task is open after its suspension has expired")
	}
	for _, id := range []string{idle, asking, endless} {
		if b.listed(id) {
			t.Error("a task that is over is still listed")
		}
	}
}

// The real loop, on two nodes: what is due is done once, and by Redis's time.
func TestMaintenance(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxOpenAge, cfg.CleanupInterval = 300*time.Millisecond, 30*time.Millisecond
	b := open(t, cfg)
	open(t, cfg)
	var ids []string
	for range 40 {
		ids = append(ids, b.create().ID)
	}
	for _, id := range ids {
		eventually(t, "it is ended", func() bool { return b.get(id).Terminal != nil })
		if p := b.read(id, engine.EventID{}, 10); len(p.Events) != 1 {
			t.Errorf("it was ended %d times", len(p.Events))
		}
		eventually(t, "it is not listed any more", func() bool { return !b.listed(id) })
	}
}

// A shard is one node's; another waits for the lease to run out.
func TestLeaseOfAShard(t *testing.T) {
	b := open(t, testConfig(t))
	for _, c := range []struct {
		holder string
		want   bool
	}{{"a", true}, {"b", false}, {"a", true}} {
		if got, err := b.takeLease(t.Context(), 3, c.holder); got != c.want || err != nil {
			t.Errorf("%s: %v, %v", c.holder, got, err)
		}
	}
	b.int("DEL", b.keys.lease(3))
	if got, _ := b.takeLease(t.Context(), 3, "b"); !got {
		t.Error("a lease that is gone was not taken")
	}
}

// What cannot be read is in nobody's way.
func TestDamagedRecordIsLeftAlone(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxOpenAge = time.Hour
	b := open(t, cfg)
	var ids []string
	for range 5 {
		ids = append(ids, b.create().ID)
	}
	b.int("HSET", b.keys.task(ids[2]), "v", "2")
	_, err := b.Get(t.Context(), ids[2], engine.Cached)
	b.wantCode("Get of a record of another schema", err, engine.CodeInternal)
	if err == nil || !strings.Contains(err.Error(), `schema version "2"`) {
		t.Errorf("the cause is %v", err)
	}
	b.pass(2 * time.Hour)
	for i, id := range ids {
		if i != 2 && !b.get(id).Status.Terminal() {
			t.Errorf("task %d was left out", i)
		}
	}
	if !b.listed(ids[2]) {
		t.Error("it was forgotten")
	}
}

// A creator that died between record and index is made good by the next create.
func TestUnlistedTaskIsListedAgain(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	b.int("ZREM", b.keys.due(shardOf(task.ID)), task.ID)
	if _, created, err := b.Create(t.Context(), task); created || err != nil {
		t.Fatal(created, err)
	}
	eventually(t, "it is listed", func() bool { return b.listed(task.ID) })
	for shard := range dueShards {
		if _, ids, _ := b.dueWithin(shard); slices.ContainsFunc(ids, func(id string) bool { return id != task.ID }) {
			eventually(t, "nothing else is listed", func() bool {
				_, ids, _ := b.dueWithin(shard)
				return !slices.ContainsFunc(ids, func(id string) bool { return id != task.ID })
			})
		}
	}
}

func TestSecret(t *testing.T) {
	server := redistest.Server(t)
	cfg := testConfig(t)
	cfg.Redis.InitAddress = []string{server.Addr()}
	a, b := open(t, cfg), open(t, cfg)
	if string(*a.secret.Load()) != string(*b.secret.Load()) {
		t.Fatal("two nodes have two secrets")
	}
	task := a.create()
	// Redis loses everything; the first node to notice puts its own back.
	server.Must("FLUSHALL")
	if err := a.keepSecret(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := open(t, cfg)
	if string(*a.secret.Load()) != string(*c.secret.Load()) {
		t.Error("a secret that was lost was not put back")
	}
	// Another one was first: it counts.
	server.Must("SET", a.keys.secret(), strings.Repeat("x", 32), "PX", "100000")
	if err := a.keepSecret(t.Context()); err != nil || string(*a.secret.Load()) != strings.Repeat("x", 32) {
		t.Errorf("the secret of the others was not taken: %v", err)
	}
	cfg.IDSecret = []byte("0123456789abcdef")
	d := open(t, cfg)
	given, _, err := d.Create(t.Context(), task)
	if err != nil || tagOf(given.ID) == tagOf(task.ID) || tagOf(given.ID) != deriveTag(cfg.IDSecret, task.Owner, task.ClientRequestID) {
		t.Errorf("the secret of the config is not used: %s, %v", given.ID, err)
	}
	// Tasks are found by their ids whatever the secret is.
	if _, err := a.Get(t.Context(), given.ID, engine.Fresh); err != nil {
		t.Error(err)
	}
}

func TestCloseAppliesWhatIsQueued(t *testing.T) {
	cfg := testConfig(t)
	b := open(t, cfg)
	task := b.create()
	b.append(task.ID, completed())
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b.listed(task.ID) {
		t.Error("a task that ended just before Close is still listed")
	}
	if err := b.Ready(context.Background()); err == nil {
		t.Error("a closed store is ready")
	}
}
