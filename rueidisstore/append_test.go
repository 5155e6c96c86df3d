package rueidisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

func (b *bench) wantCode(op string, err error, code engine.Code) {
	b.Helper()
	if engine.CodeOf(err) != code {
		b.Errorf("%s gave %v, want %s", op, err, code)
	}
}

// A repeat finds its token among the newest 32, whatever prints they share.
func TestTokens(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	// Two tokens with one print, and one whose print shows across the border of
	// two others.
	byPrint := map[string]string{}
	var twins [2]string
	for i := 0; ; i++ {
		token := strconv.Itoa(i)
		if other, ok := byPrint[printOf(token)]; ok {
			twins = [2]string{other, token}
			break
		}
		byPrint[printOf(token)] = token
	}
	send := func(token string, n int) []engine.EventID {
		t.Helper()
		ids, err := b.Append(t.Context(), engine.Append{TaskID: task.ID, Token: token, Events: slices.Repeat([]engine.Draft{message(token)}, n)})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	first := send(twins[0], 3)
	second := send(twins[1], 2)
	if second[0].Ordinal != 4 {
		t.Fatalf("a token with the print of another was taken for it: %v", second)
	}
	across := printOf(twins[0])[1:] + printOf(twins[1])[:1]
	for i := 0; ; i++ {
		if token := "x" + strconv.Itoa(i); printOf(token) == across {
			if ids := send(token, 1); ids[0].Ordinal != 6 {
				t.Errorf("a print across two others was taken for one: %v", ids)
			}
			break
		}
	}
	long := strings.Repeat("t", 5000)
	third := send(long, 1)
	for i := range 28 {
		send("filler"+strconv.Itoa(i), 2)
	}
	// A repeat gets the first one's ids, also with another batch.
	for _, c := range []struct {
		token string
		want  []engine.EventID
	}{{twins[0], first}, {twins[1], second}, {long, third}} {
		if got := send(c.token, 5); !slices.Equal(got, c.want) {
			t.Errorf("the repeat of %.10s gave %v, want %v", c.token, got, c.want)
		}
	}
	if p := b.read(task.ID, engine.EventID{}, 1); p.Last.Ordinal != 7+56 {
		t.Errorf("the log ends with %s", p.Last)
	}
	if n := b.int("STRLEN", b.keys.state(task.ID)); n != 113 {
		t.Errorf("the state takes %d bytes", n)
	}
}

// Redis evicts one key at a time. What is left must neither be taken for
// another task, nor get keys that never expire.
func TestEvicted(t *testing.T) {
	b := open(t, testConfig(t))
	for _, lost := range []string{"state", "log", "both", "task"} {
		t.Run(lost, func(t *testing.T) {
			task := b.create()
			a := engine.Append{TaskID: task.ID, Token: "first", Events: []engine.Draft{draft(engine.TypeStarted, `{}`), message("a")}}
			first, err := b.Append(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			if lost == "state" || lost == "both" {
				b.int("DEL", b.keys.state(task.ID))
			}
			if lost == "log" || lost == "both" {
				b.int("DEL", b.keys.log(task.ID))
			}
			if lost == "task" {
				b.acquire(task.ID, "a", time.Minute)
				b.renewed("a", time.Minute, task.ID)
				b.int("DEL", b.keys.task(task.ID))
			}
			if p, err := b.Read(t.Context(), task.ID, engine.EventID{}, 10); lost == "state" && (err != nil || p.Last != first[1] || len(p.Events) != 2) {
				t.Errorf("without the state the page is %+v, %v", p, err)
			}
			if lost == "task" {
				_, err := b.try(task.ID, message("b"), completed())
				b.wantCode("Append", err, engine.CodeTaskNotFound)
				if n := b.int("EXISTS", b.keys.task(task.ID)); n != 0 {
					t.Error("the record was made anew")
				}
				// What concerns the log alone does not ask for the record. Its
				// worker hears of it with the next renewal.
				if lost, err := b.Renew(t.Context(), "a", []string{task.ID}, time.Minute); err != nil || len(lost) != 1 {
					t.Errorf("Renew gave %v, %v", lost, err)
				}
				return
			}
			ids, err := b.try(task.ID, message("b"))
			if lost == "both" {
				b.wantCode("Append", err, engine.CodeInternal)
				if n := b.int("EXISTS", b.keys.state(task.ID), b.keys.log(task.ID)); n != 0 {
					t.Error("keys were made anew")
				}
				return
			}
			if err != nil || ids[0].Ordinal != 3 {
				t.Fatalf("Append gave %v, %v", ids, err)
			}
			for _, key := range b.keys.ofTask(task.ID)[:3] {
				if ttl := b.int("PTTL", key); ttl <= 0 {
					t.Errorf("%s has the TTL %d", key, ttl)
				}
			}
			if lost == "state" {
				again, err := b.Append(t.Context(), a)
				if err != nil || !slices.Equal(again, first) {
					t.Errorf("a repeat gave %v, %v, want %v", again, err, first)
				}
			}
			if p := b.read(task.ID, engine.EventID{}, 10); p.Events[len(p.Events)-1].ID != ids[0] || p.Last != ids[0] {
				t.Errorf("the log is %+v", p)
			}
			b.append(task.ID, completed())
			if ttl := b.int("PTTL", b.keys.log(task.ID)); ttl <= 0 || ttl > b.cfg.StreamTTL.Milliseconds() {
				t.Errorf("after the end the log has the TTL %d", ttl)
			}
		})
	}
}

func TestTrimming(t *testing.T) {
	for name, c := range map[string]struct {
		set         func(*Config)
		batch, size int
		atLeast     uint64
		atMost      uint64
	}{
		"single events":    {func(c *Config) { c.MaxStreamLength = 50 }, 1, 10, 50, 50 + followSlack + 64 + 100},
		"batches":          {func(c *Config) { c.MaxStreamLength = 50 }, 40, 10, 50, 2*(50+followSlack) + 40},
		"bytes":            {func(c *Config) { c.MaxStreamBytes = 20_000 }, 3, 1000, 15, 21},
		"one larger batch": {func(c *Config) { c.MaxStreamBytes = 10 }, 2, 1000, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			c.set(&cfg)
			b := open(t, cfg)
			task := b.create()
			text := strings.Repeat("x", c.size)
			for range 1200 / c.batch {
				ids := b.append(task.ID, slices.Repeat([]engine.Draft{message(text)}, c.batch)...)
				last := ids[len(ids)-1]
				p := b.read(task.ID, engine.EventID{}, 1)
				if p.Last != last {
					t.Fatalf("the log ends with %s, want %s", p.Last, last)
				}
				if n := last.Ordinal - p.First.Ordinal + 1; n > c.atMost || n < min(c.atLeast, last.Ordinal) {
					t.Fatalf("after %d events %d are retained, want %d to %d", last.Ordinal, n, c.atLeast, c.atMost)
				}
			}
			if p := b.read(task.ID, engine.EventID{}, 1); p.First.Ordinal == 1 {
				t.Error("nothing was trimmed")
			}
		})
	}
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	b := open(t, testConfig(t))
	flush := func() {
		t.Helper()
		if err := b.do("SCRIPT", "FLUSH").Error(); err != nil {
			t.Fatal(err)
		}
	}
	flush()
	task := b.create()
	flush()
	b.append(task.ID, message("a"))
	flush()
	if _, err := b.RequestCancel(t.Context(), task.ID, "r"); err != nil {
		t.Error(err)
	}
	flush()
	if err := b.Erase(t.Context(), task.ID); err != nil {
		t.Error(err)
	}
}

func TestFence(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	try := func(fence uint64, d engine.Draft) error {
		_, err := b.Append(t.Context(), engine.Append{TaskID: task.ID, Token: b.token(), Fence: fence, Events: []engine.Draft{d}})
		return err
	}
	if err := try(7, message("nobody has a lease")); err != nil {
		t.Error(err)
	}
	first := b.acquire(task.ID, "a", time.Minute)
	if err := b.Release(t.Context(), task.ID, "a", false); err != nil {
		t.Fatal(err)
	}
	if err := try(first, message("released, and nobody else has had it")); err != nil {
		t.Error(err)
	}
	for _, what := range []string{"as it was written", "recovered"} {
		second := b.acquire(task.ID, "b", time.Minute)
		if what == "recovered" {
			b.int("DEL", b.keys.state(task.ID))
		}
		b.wantCode("an append with a lower fence, "+what, try(first, message("m")), engine.CodeTaskConflict)
		b.wantCode("one that concerns the record, "+what, try(first, draft(engine.TypeStarted, `{}`)), engine.CodeTaskConflict)
		b.wantCode("a terminal one, "+what, try(1, completed()), engine.CodeTaskConflict)
		for _, fence := range []uint64{0, second, second + 1} {
			for _, d := range []engine.Draft{message("m"), draft(engine.TypeStarted, `{}`)} {
				if err := try(fence, d); err != nil {
					t.Errorf("fence %d, %s: %v", fence, what, err)
				}
			}
		}
	}
	if err := try(0, completed()); err != nil {
		t.Error(err)
	}
}

// What one connection sends at once arrives whole, whatever the sizes.
func TestManyTasksAtOnce(t *testing.T) {
	for _, connections := range []int{1, 4} {
		t.Run(strconv.Itoa(connections)+" connections", func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Append = AppendConfig{Connections: connections, MaxFlushDelay: 20 * time.Microsecond}
			testManyTasks(t, open(t, cfg))
		})
	}
}

func testManyTasks(t *testing.T, b *bench) {
	const tasks, batches = 50, 40
	errs := make(chan error, tasks)
	for i := range tasks {
		task := b.create()
		go func() {
			for n := range batches {
				if _, err := b.try(task.ID, slices.Repeat([]engine.Draft{message(strings.Repeat("x", i*n))}, 1+n%3)...); err != nil {
					errs <- err
					return
				}
			}
			p, err := b.Read(t.Context(), task.ID, engine.EventID{}, 1000)
			if err == nil && (p.More || len(p.Events) != 13*6+1 || p.Events[0].ID.Ordinal != 1) {
				err = fmt.Errorf("%d events", len(p.Events))
			}
			errs <- err
		}()
	}
	for range tasks {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// Every key of a task is in one slot, or scripts could not touch them.
func TestSlots(t *testing.T) {
	b := open(t, testConfig(t))
	// A server that knows slots, though it serves none.
	knowing := redistest.Server(t, redistest.Config("cluster-enabled yes"))
	slot := func(key string) int64 {
		t.Helper()
		n, _ := knowing.Must("CLUSTER", "KEYSLOT", key).(int64)
		return n
	}
	slots := map[int64]bool{}
	for range 20 {
		task := b.create()
		keys := b.keys.ofTask(task.ID)
		want := slot(tagOf(task.ID))
		for _, key := range keys {
			if got := slot(key); got != want {
				t.Errorf("%s is in slot %d, want %d", key, got, want)
			}
		}
		slots[want] = true
	}
	if len(slots) < 10 {
		t.Errorf("20 tasks are in %d slots", len(slots))
	}
	shards := map[int64]bool{}
	for shard := range dueShards {
		shards[slot(b.keys.due(shard))] = true
	}
	if len(shards) != dueShards {
		t.Errorf("%d shards of the due index are in %d slots", dueShards, len(shards))
	}
}

// Old incarnations are unknown to every verb, and the new one's keys are safe
// from them.
func TestIncarnations(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	b.append(task.ID, message("old"))
	if err := b.Erase(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	again, created, err := b.Create(t.Context(), task)
	if err != nil || !created || again.ID == task.ID || tagOf(again.ID) != tagOf(task.ID) {
		t.Fatalf("Create gave %s after %s, %v, %v", again.ID, task.ID, created, err)
	}
	b.append(again.ID, message("new"))
	if err := b.Erase(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	for _, freshness := range []engine.Freshness{engine.Cached, engine.Fresh} {
		_, err = b.Get(t.Context(), task.ID, freshness)
		b.wantCode("Get", err, engine.CodeTaskNotFound)
	}
	_, err = b.try(task.ID, message("m"))
	b.wantCode("Append", err, engine.CodeTaskNotFound)
	_, err = b.RequestCancel(t.Context(), task.ID, "r")
	b.wantCode("RequestCancel", err, engine.CodeTaskNotFound)
	_, err = b.Read(t.Context(), task.ID, engine.EventID{}, 1)
	b.wantCode("Read", err, engine.CodeTaskNotFound)
	if p := b.read(again.ID, engine.EventID{}, 10); len(p.Events) != 1 || b.get(again.ID).CancelRequested {
		t.Errorf("the new task suffered: %+v", p)
	}
}

// Of the client's own cache: no round trip while nothing changes, none is
// trusted for a "no", and none outlives a change for long.
func TestCache(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	get := func() engine.Task {
		t.Helper()
		got, err := b.Get(t.Context(), task.ID, engine.Cached)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	get()
	calls := func() int64 {
		info, err := b.do("INFO", "commandstats").ToString()
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		if _, rest, ok := strings.Cut(info, "cmdstat_hgetall:calls="); ok {
			n, _ = strconv.ParseInt(rest[:strings.IndexByte(rest, ',')], 10, 64)
		}
		return n
	}
	before := calls()
	for range 100 {
		get()
	}
	if n := calls() - before; n != 0 {
		t.Errorf("100 cached reads asked Redis %d times", n)
	}
	b.append(task.ID, message("m"), message("n")) // not in the record
	get()
	if n := calls() - before; n != 0 {
		t.Error("a message invalidated the record")
	}
	b.append(task.ID, completed())
	eventually(t, "the end is seen", func() bool { return get().Terminal != nil })

	missing := task
	missing.ClientRequestID = "later"
	tag := deriveTag(*b.secret.Load(), missing.Owner, missing.ClientRequestID)
	before = calls()
	for range 3 {
		for _, freshness := range []engine.Freshness{engine.Cached, engine.Fresh} {
			_, err := b.Get(t.Context(), tag+"aaaaaaaa", freshness)
			b.wantCode("Get of what is not there", err, engine.CodeTaskNotFound)
		}
	}
	if n := calls() - before; n < 3 {
		t.Errorf("three times no, and Redis was asked %d times", n)
	}
	created, _, err := b.Create(t.Context(), missing)
	if err != nil {
		t.Fatal(err)
	}
	// Even before the invalidation has come.
	if _, err := b.Get(t.Context(), created.ID, engine.Fresh); err != nil {
		t.Errorf("a task that was missing before: %v", err)
	}
	eventually(t, "the cache has heard of it", func() bool {
		_, err := b.Get(t.Context(), created.ID, engine.Cached)
		return err == nil
	})
}

func TestRESP2(t *testing.T) {
	cfg := testConfig(t)
	cfg.Redis.AlwaysRESP2, cfg.Redis.DisableCache = true, true
	b := open(t, cfg)
	task := b.create()
	b.append(task.ID, draft(engine.TypeSuspended, `{"suspendId":"s"}`))
	b.append(task.ID, completed())
	if got, err := b.Get(t.Context(), task.ID, engine.Cached); err != nil || got.Terminal == nil {
		t.Errorf("Get gave %+v, %v", got, err)
	}
	if p := b.read(task.ID, engine.EventID{}, 10); len(p.Events) != 2 {
		t.Errorf("the log is %+v", p)
	}
}

// An append whose caller has enough comes back, and may be repeated.
func TestCancelledAppend(t *testing.T) {
	server := redistest.Server(t)
	b := openAt(t, server, func(c *Config) { c.CommandTimeout = 20 * time.Second })
	task := b.create()
	server.Pause()
	for _, d := range []engine.Draft{message("quick"), draft(engine.TypeStarted, `{}`)} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		begin := time.Now()
		_, err := b.Append(ctx, engine.Append{TaskID: task.ID, Token: string(d.Type), Events: []engine.Draft{d}})
		b.wantCode("Append", err, engine.CodeStoreUnavailable)
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("it came back after %v", took)
		}
	}
	server.Resume()
	for _, d := range []engine.Draft{message("quick"), draft(engine.TypeStarted, `{}`)} {
		if _, err := b.Append(t.Context(), engine.Append{TaskID: task.ID, Token: string(d.Type), Events: []engine.Draft{d}}); err != nil {
			t.Error(err)
		}
	}
	if p := b.read(task.ID, engine.EventID{}, 10); len(p.Events) != 2 {
		t.Errorf("the log is %+v", p)
	}
}

// A token may be any text, also one that would be cut short by a script.
func TestStrangeTokens(t *testing.T) {
	b := open(t, testConfig(t))
	task := b.create()
	tokens := []string{"a\x00b", "a\x00c", "a", "1:2:3", "%d%s", "\xff\xfe", strings.Repeat("x", maxToken), " "}
	var first [][]engine.EventID
	send := func(token string) []engine.EventID {
		ids, err := b.Append(t.Context(), engine.Append{TaskID: task.ID, Token: token, Events: []engine.Draft{message("m")}})
		if err != nil {
			t.Fatalf("%q: %v", token, err)
		}
		return ids
	}
	for i, token := range tokens {
		first = append(first, send(token))
		if first[i][0].Ordinal != uint64(i+1) {
			t.Errorf("%q was taken for another: %v", token, first[i])
		}
	}
	for i, token := range tokens {
		if again := send(token); !slices.Equal(again, first[i]) {
			t.Errorf("the repeat of %q gave %v, want %v", token, again, first[i])
		}
	}
}
