package bench

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// TestTail compares ways to follow many tasks' logs at once: how long an event
// takes from its append to the follower, and what it costs. All ways follow the
// same logs, which are written by the same loader at the same rate.
func TestTail(t *testing.T) {
	counts, warm, window, perSecond := []int{1, 20}, 50*time.Millisecond, 200*time.Millisecond, 500
	if *compare {
		counts, warm, window, perSecond = taskCounts(t), time.Second/2, 3*time.Second, *rate
	}
	b := newTailBench(t, slices.Max(counts))
	where := machine(b.redis)
	out := &table{}
	out.add("tasks", "way", "appends/s", "p50 ms", "p99 ms", "max ms", "Redis CPU", "client CPU", "connections", "lost")
	var notes []string
	results := map[string]cell{}
	for _, n := range counts {
		for _, way := range []string{wayNobody, waySubscriber, wayMulti, wayOurs} {
			follow := n
			if most := descriptors() - 500; way == waySubscriber && n > most {
				follow = most
				notes = append(notes, fmt.Sprintf("%s: %s connections are more than the descriptor limit of %s allows; measured with %s tasks",
					way, count(n), count(descriptors()), count(follow)))
			}
			c := b.run(t, way, follow, perSecond, warm, window)
			if c.perSecond < 0.97*float64(perSecond) && *compare {
				notes = append(notes, fmt.Sprintf("%s, %s tasks: it could not bear %s appends/s", way, count(n), count(perSecond)))
			}
			results[fmt.Sprint(way, n)] = c
			out.add(c.columns(way)...)
		}
	}
	if !*compare {
		return
	}
	out.print(t, fmt.Sprintf("%s appends/s of one event each, spread over the tasks; %v a row, CPU in %% of one core.\n%s",
		count(perSecond), window, where))
	for _, note := range notes {
		t.Log(note)
	}
	judge(t, results)
}

func taskCounts(t *testing.T) []int {
	t.Helper()
	var counts []int
	for field := range strings.SplitSeq(*tasks, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			t.Fatalf("-tasks %s: want numbers from 1 on", *tasks)
		}
		counts = append(counts, n)
	}
	return counts
}

// judge holds what was measured to the targets.
func judge(t *testing.T, results map[string]cell) {
	t.Helper()
	better := func(n int, of func(cell) time.Duration) time.Duration {
		return min(of(results[fmt.Sprint(wayMulti, n)]), of(results[fmt.Sprint(waySubscriber, n)]))
	}
	p50 := func(c cell) time.Duration { return c.P50 }
	p99 := func(c cell) time.Duration { return c.P99 }

	if ours, measured := results[fmt.Sprint(wayOurs, 10_000)]; measured {
		x := float64(better(10_000, p99)) / float64(ours.P99)
		t.Logf("10,000 tasks: p99 of the better of the others is %.1f times ours; target at least 5: %s", x, met(x >= 5))
		if x < 5 {
			t.Fail()
		}
	}
	if ours, measured := results[fmt.Sprint(wayOurs, 1)]; measured {
		x := float64(ours.P50) / float64(better(1, p50))
		t.Logf("1 task: our p50 is %.2f times that of the better of the others; target at most 1.5: %s", x, met(x <= 1.5))
		if x > 1.5 {
			t.Fail()
		}
	}
}

// cell is one row of the table.
type cell struct {
	report
	tasks     int
	perSecond float64
	redis     time.Duration
	took      time.Duration
	lost      int64
	// connections are those of the follower.
	connections int
}

func (c cell) columns(way string) []string {
	row := []string{count(c.tasks), way, count(int(c.perSecond + 0.5))}
	if way == wayNobody {
		return append(row, "", "", "", share(c.redis, c.took), "", "", "")
	}
	return append(row, ms(c.P50), ms(c.P99), ms(c.Max), share(c.redis, c.took), share(c.CPU, c.Took),
		count(c.connections), count(int(c.lost)))
}

// tailBench is a server with tasks in it.
type tailBench struct {
	redis  *redistest.Instance
	store  *rueidisstore.Store
	prefix string
	tasks  []string
	keys   map[string]string // the key of each task's log
	// connections are there without any follower.
	connections int
}

func newTailBench(t *testing.T, tasks int) *tailBench {
	b := &tailBench{
		redis:  redistest.Server(t, redistest.Config("maxclients "+strconv.Itoa(max(descriptors()-100, 1000)))),
		prefix: "bench", tasks: make([]string, tasks), keys: make(map[string]string, tasks),
	}
	b.store = openStore(t, b.redis, b.prefix)
	var at sync.Map
	err := eachOf(make([]struct{}, tasks), func(struct{}) error {
		task, err := createTask(t, b.store)
		at.Store(task.ID, true)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.tasks = b.tasks[:0]
	at.Range(func(id, _ any) bool {
		b.tasks = append(b.tasks, id.(string))
		return true
	})
	b.findKeys(t)
	b.connections = b.redis.Connections()
	return b
}

// findKeys looks where the logs are, for those who read them behind the
// store's back: a task's keys have the beginning of its id as their hash tag.
func (b *tailBench) findKeys(t *testing.T) {
	t.Helper()
	byTag := map[string]string{}
	all, _ := b.redis.Must("KEYS", b.prefix+":*:log").([]any)
	for _, v := range all {
		key, _ := v.(string)
		_, rest, _ := strings.Cut(key, "{")
		tag, _, _ := strings.Cut(rest, "}")
		byTag[tag] = key
	}
	for _, id := range b.tasks {
		for n := len(id); n > 0 && b.keys[id] == ""; n-- {
			b.keys[id] = byTag[id[:n]]
		}
		if b.keys[id] == "" {
			t.Fatalf("the log of task %s is not among the keys of Redis", id)
		}
	}
}

// run measures one way.
func (b *tailBench) run(t *testing.T, way string, n, perSecond int, warm, window time.Duration) cell {
	t.Helper()
	var f *follower
	c := cell{tasks: n}
	if way != wayNobody {
		b.quiet()
		f = startFollower(t, job{Way: way, Addr: b.redis.Addr(), Prefix: b.prefix, Logs: b.positions(t, n)})
		defer f.stop()
		c.connections = b.redis.Connections() - b.connections
	}
	l := startLoad(t.Context(), b.store, b.tasks[:n], perSecond)
	<-time.After(warm)

	if f != nil {
		f.tell(orderBegin)
	}
	start, sent, cpu := time.Now(), l.sent.Load(), redisCPU(t, b.redis)
	<-time.After(window)
	c.took = time.Since(start)
	c.redis = redisCPU(t, b.redis) - cpu
	c.perSecond = float64(l.sent.Load()-sent) / c.took.Seconds()
	if f != nil {
		c.report = f.tell(orderEnd)
	}

	l.stop(t)
	if f != nil {
		c.lost = b.missing(t, f, l.sent.Load())
	}
	return c
}

// quiet waits until Redis has noticed that the follower before has gone.
func (b *tailBench) quiet() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); b.redis.Connections() > b.connections && time.Now().Before(deadline); {
		<-tick.C
	}
}

// missing waits until the follower has all that was sent, and fails if it never
// gets it, or more.
func (b *tailBench) missing(t *testing.T, f *follower, sent int64) int64 {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var r report
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if r = f.tell(orderCount); r.Received >= sent {
			break
		}
	}
	if r.Received != sent || r.Bad != 0 {
		t.Errorf("sent %d events; the follower has %d and met %d that it could not make sense of", sent, r.Received, r.Bad)
	}
	return sent - r.Received
}

// positions are the ends of the first n logs.
func (b *tailBench) positions(t *testing.T, n int) []followed {
	t.Helper()
	var (
		mu   sync.Mutex
		logs []followed
	)
	err := eachOf(b.tasks[:n], func(id string) error {
		page, err := b.store.Read(t.Context(), id, engine.EventID{}, 1)
		mu.Lock()
		defer mu.Unlock()
		logs = append(logs, followed{TaskID: id, Key: b.keys[id], After: page.Last})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

// flushDelay is what AppendConfig recommends where hundreds append at once: the
// loader is to leave the machine to those who follow.
const flushDelay = 50 * time.Microsecond

// openStore opens a store that keeps enough for a follower which is held up by
// a busy machine.
func openStore(tb testing.TB, redis *redistest.Instance, prefix string) *rueidisstore.Store {
	tb.Helper()
	store, err := rueidisstore.New(rueidisstore.Config{
		Redis:           rueidis.ClientOption{InitAddress: []string{redis.Addr()}},
		Prefix:          prefix,
		MaxStreamLength: 20_000,
		Append:          rueidisstore.AppendConfig{MaxFlushDelay: flushDelay},
		Logger:          slog.New(slog.NewTextHandler(tb.Output(), nil)),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = store.Close() })
	return store
}
