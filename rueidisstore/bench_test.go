package rueidisstore

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// The comparisons run both sides in turns, so that both meet the same machine,
// and report how many times as long ours took as "x".

// BenchmarkBurst is 100 tasks that stream 1,000 small events each, at once,
// against 100 goroutines that await XADD, then EXPIRE, for each event.
func BenchmarkBurst(b *testing.B) {
	const tasks, events = 100, 1000
	s := open(b, testConfig(b))
	eng, err := engine.New(engine.Config{Store: any(s.Store).(engine.Store), Logger: s.cfg.Logger})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = eng.Shutdown(context.Background()) })
	client := plainClient(b)
	var ours, theirs time.Duration
	for b.Loop() {
		runs := make([]*engine.Run, tasks)
		for i := range runs {
			if runs[i], err = eng.Emitter().Open(b.Context(), s.create()); err != nil {
				b.Fatal(err)
			}
		}
		start := time.Now()
		var group sync.WaitGroup
		for _, run := range runs {
			group.Go(func() {
				for i := range events {
					run.Stream(engine.Progress{Percent: float64(i % 100), Stage: "step"})
				}
				if err := run.Flush(b.Context()); err != nil {
					b.Error(err)
				}
			})
		}
		group.Wait()
		ours += time.Since(start)
		for _, run := range runs {
			_ = run.Close(b.Context())
		}

		start = time.Now()
		for i := range tasks {
			key := s.cfg.Prefix + ":xadd:" + strconv.Itoa(i)
			group.Go(func() {
				for range events {
					if err := xaddExpire(b.Context(), client, key); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
		theirs += time.Since(start)
	}
	b.ReportMetric(float64(ours)/float64(theirs), "x")
	b.ReportMetric(float64(b.N*tasks*events)/ours.Seconds(), "events/s")
	b.ReportMetric(float64(b.N*tasks*events)/theirs.Seconds(), "xadd/s")
}

// BenchmarkIdle is one event on an idle pipeline against one XADD on another: a
// client that has been used concurrently once, as any server's has, and goes
// through rueidis's pipeline ever after.
func BenchmarkIdle(b *testing.B) {
	s := open(b, testConfig(b))
	task := s.create()
	client := plainClient(b)
	key := s.cfg.Prefix + ":xadd"
	d := message("hello")
	var ours, theirs time.Duration
	for b.Loop() {
		start := time.Now()
		s.append(task.ID, d)
		ours += time.Since(start)
		start = time.Now()
		if err := client.Do(b.Context(), client.B().Xadd().Key(key).Maxlen().Almost().Threshold("1000").Id("*").
			FieldValue().FieldValue("d", string(d.Payload)).Build()).Error(); err != nil {
			b.Fatal(err)
		}
		theirs += time.Since(start)
	}
	b.ReportMetric(float64(ours)/float64(theirs), "x")
	b.ReportMetric(float64(theirs.Nanoseconds())/float64(b.N), "xadd-ns")
}

func plainClient(b *testing.B) rueidis.Client {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{redisAddr}, DisableCache: true, AlwaysPipelining: true, PipelineMultiplex: -1,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(client.Close)
	return client
}

func xaddExpire(ctx context.Context, c rueidis.Client, key string) error {
	err := c.Do(ctx, c.B().Xadd().Key(key).Maxlen().Almost().Threshold("1000").Id("*").
		FieldValue().FieldValue("d", `{"progress":12,"stage":"step"}`).Build()).Error()
	if err != nil {
		return err
	}
	return c.Do(ctx, c.B().Expire().Key(key).Seconds(86400).Build()).Error()
}

// BenchmarkGetCached is what the ownership check of a poll costs.
func BenchmarkGetCached(b *testing.B) {
	s := open(b, testConfig(b))
	task := s.create()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(b.Context(), task.ID, engine.Cached); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	s := open(b, testConfig(b))
	task := s.create()
	for range 20 {
		s.append(task.ID, message("a"), message("b"), message("c"), message("d"), message("e"))
	}
	last := s.read(task.ID, engine.EventID{}, 1000).Last
	for name, after := range map[string]engine.EventID{"all": {}, "nothing": last} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.read(task.ID, after, 100)
			}
		})
	}
}
