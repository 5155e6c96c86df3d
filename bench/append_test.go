package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// smallEvent is what both sides of the comparisons store.
var smallEvent = engine.Progress{Percent: 12, Stage: "step"}

const smallPayload = `{"progress":12,"stage":"step"}`

// TestBurst compares 100,000 small events from 100 tasks at once, streamed
// through runs, with 100 goroutines that await XADD, then EXPIRE, for each event
// on one auto-pipelined client.
func TestBurst(t *testing.T) {
	tasks, events, rounds := 10, 20, 1
	if *compare {
		tasks, events, rounds = 100, 1000, 5
	}
	b := newAppendBench(t)
	where := machine(b.redis)
	var ours, theirs burst
	for range rounds { // in turns: both meet the same machine
		ours.add(b.streamed(t, tasks, events))
		theirs.add(b.awaited(t, tasks, events))
	}
	if !*compare {
		return
	}
	all := tasks * events
	out := &table{}
	out.add("way", "time ms", "events/s", "Redis CPU ms", "client CPU ms")
	theirs.row(out, "XADD, then EXPIRE, awaited", all)
	ours.row(out, "ours, streamed", all)
	out.print(t, fmt.Sprintf("%s events from %d tasks at once; medians of %d rounds in turns.\n%s",
		count(all), tasks, rounds, where))
	ratio := float64(median(ours.took)) / float64(median(theirs.took))
	t.Logf("ours takes %.3f of the time; target at most 0.25: %s", ratio, met(ratio <= 0.25))
	if ratio > 0.25 {
		t.Fail()
	}
}

// TestIdle compares one durable event on an idle pipeline with one XADD on a
// pipelining client: one at a time, one right after the other.
func TestIdle(t *testing.T) {
	warm, pairs := 10, 100
	if *compare {
		warm, pairs = 2000, 20_000
	}
	b := newAppendBench(t)
	where := machine(b.redis)
	b.pipelining(t)
	run := b.open(t)
	emit := func() {
		if err := run.Emit(t.Context(), smallEvent); err != nil {
			t.Fatal(err)
		}
	}
	xadd := func() {
		if err := b.xadd(t.Context(), "bench:xadd"); err != nil {
			t.Fatal(err)
		}
	}
	clock := func(do func()) time.Duration {
		start := time.Now()
		do()
		return time.Since(start)
	}
	var ours, theirs []time.Duration
	for i := range warm + pairs {
		var o, x time.Duration
		if i%2 == 0 {
			o, x = clock(emit), clock(xadd)
		} else {
			x, o = clock(xadd), clock(emit)
		}
		if i >= warm {
			ours, theirs = append(ours, o), append(theirs, x)
		}
	}
	if !*compare {
		return
	}
	out := &table{}
	out.add("way", "median µs")
	out.add("XADD", micros(median(theirs)))
	out.add("ours, Run.Emit", micros(median(ours)))
	out.print(t, fmt.Sprintf("One event, nothing else under way; %s pairs in turns.\n%s", count(pairs), where))
	ratio := float64(median(ours)) / float64(median(theirs))
	t.Logf("ours takes %.2f times as long; target at most 1.4: %s", ratio, met(ratio <= 1.4))
	if ratio > 1.4 {
		t.Fail()
	}
}

// burst holds what each round took.
type burst struct{ took, redis, client []time.Duration }

func (b *burst) add(took, redis, client time.Duration) {
	b.took, b.redis, b.client = append(b.took, took), append(b.redis, redis), append(b.client, client)
}

func (b *burst) row(out *table, way string, events int) {
	took := median(b.took)
	out.add(way, ms(took), count(int(float64(events)/took.Seconds())), ms(median(b.redis)), ms(median(b.client)))
}

// appendBench is a server with a store, an engine and a plain client on it.
type appendBench struct {
	redis *redistest.Instance
	store *rueidisstore.Store
	eng   *engine.Engine
	plain rueidis.Client
}

func newAppendBench(tb testing.TB) *appendBench {
	tb.Helper()
	b := &appendBench{redis: redistest.Server(tb)}
	opt := rueidis.ClientOption{InitAddress: []string{b.redis.Addr()}}
	logger := slog.New(slog.NewTextHandler(tb.Output(), nil))
	var err error
	if b.store, err = rueidisstore.New(rueidisstore.Config{Redis: opt, Logger: logger}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = b.store.Close() })
	if b.eng, err = engine.New(engine.Config{Store: b.store, Logger: logger}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		if err := b.eng.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
	})
	if b.plain, err = rueidis.NewClient(opt); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.plain.Close)
	return b
}

// pipelining lets both clients be used by several goroutines at once. From then
// on rueidis pipelines; until then it writes and reads in the caller's own
// goroutine, which is quicker and lasts in no real process.
func (b *appendBench) pipelining(tb testing.TB) {
	tb.Helper()
	b.awaited(tb, 8, 10)
	b.streamed(tb, 8, 10)
}

// createTask stores a task that nobody else works on.
func createTask(tb testing.TB, store engine.Store) (engine.Task, error) {
	now := time.Now()
	task, _, err := store.Create(tb.Context(), engine.Task{
		Owner: "ann", ClientRequestID: rand.Text(), Type: "bench",
		Status: engine.StatusAccepted, CreatedAt: now, UpdatedAt: now,
	})
	return task, err
}

// open returns a run of a new task.
func (b *appendBench) open(tb testing.TB) *engine.Run {
	tb.Helper()
	task, err := createTask(tb, b.store)
	if err != nil {
		tb.Fatal(err)
	}
	run, err := b.eng.Emitter().Open(tb.Context(), task)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = run.Close(context.Background()) })
	return run
}

// streamed is our side of TestBurst.
func (b *appendBench) streamed(tb testing.TB, tasks, events int) (took, redis, client time.Duration) {
	tb.Helper()
	runs := make([]*engine.Run, tasks)
	for i := range runs {
		runs[i] = b.open(tb)
	}
	took, redis, client = b.measure(tb, tasks, func(i int) error {
		for range events {
			runs[i].Stream(smallEvent)
		}
		return runs[i].Flush(tb.Context())
	})
	for _, run := range runs {
		page, err := b.store.Read(tb.Context(), run.Task().ID, engine.EventID{}, 1)
		if err != nil || page.Last.Ordinal != uint64(events) {
			tb.Fatalf("the last event of a log is %v, want ordinal %d; %v", page.Last, events, err)
		}
	}
	return took, redis, client
}

// awaited is the other side.
func (b *appendBench) awaited(tb testing.TB, tasks, events int) (took, redis, client time.Duration) {
	tb.Helper()
	keys := make([]string, tasks)
	for i := range keys {
		keys[i] = "bench:" + rand.Text()
	}
	took, redis, client = b.measure(tb, tasks, func(i int) error {
		for range events {
			if err := b.xadd(tb.Context(), keys[i]); err != nil {
				return err
			}
			expire := b.plain.B().Expire().Key(keys[i]).Seconds(86400).Build()
			if err := b.plain.Do(tb.Context(), expire).Error(); err != nil {
				return err
			}
		}
		return nil
	})
	for _, key := range keys {
		if n := b.redis.Must("XLEN", key); n != int64(events) {
			tb.Fatalf("%s has %v entries, want %s", key, n, strconv.Itoa(events))
		}
		b.redis.Must("UNLINK", key)
	}
	return took, redis, client
}

func (b *appendBench) xadd(ctx context.Context, key string) error {
	return b.plain.Do(ctx, b.plain.B().Xadd().Key(key).Id("*").
		FieldValue().FieldValue("d", smallPayload).Build()).Error()
}

// measure runs do for each task, all at once.
func (b *appendBench) measure(tb testing.TB, tasks int, do func(i int) error) (took, redis, client time.Duration) {
	tb.Helper()
	var group sync.WaitGroup
	redis, client = redisCPU(tb, b.redis), cpuTime()
	start := time.Now()
	for i := range tasks {
		group.Go(func() {
			if err := do(i); err != nil {
				tb.Error(err)
			}
		})
	}
	group.Wait()
	took = time.Since(start)
	return took, redisCPU(tb, b.redis) - redis, cpuTime() - client
}
