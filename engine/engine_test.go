package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/fanout"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

func TestConfig(t *testing.T) {
	mem, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for field, change := range map[string]func(*engine.Config){
		"Store":               func(c *engine.Config) { c.Store = nil },
		"Limits.PayloadBytes": func(c *engine.Config) { c.Limits.PayloadBytes = 10 },
		"Limits.InputBytes":   func(c *engine.Config) { c.Limits.InputBytes = -1 },
		"Limits.Nesting":      func(c *engine.Config) { c.Limits.Nesting = 100_000 },
		"Emit.BatchEvents":    func(c *engine.Config) { c.Emit.BatchEvents = -1 },
		"Emit.BatchBytes":     func(c *engine.Config) { c.Emit.BatchBytes = -1 },
		"Emit.BufferBytes":    func(c *engine.Config) { c.Emit.BufferBytes = -1 },
		"Emit.RollUp":         func(c *engine.Config) { c.Emit.RollUp = -1 },
		"Emit.RollUpBytes":    func(c *engine.Config) { c.Emit.RollUpBytes = -1 },
		"Emit.Retry":          func(c *engine.Config) { c.Emit.Retry = -1 },
		"Readiness[0]":        func(c *engine.Config) { c.Readiness = []engine.ReadinessProbe{nil} },
		"Delivery":            func(c *engine.Config) { c.Delivery.RingBytes = -1 },
	} {
		cfg := engine.Config{Store: mem}
		change(&cfg)
		if eng, err := engine.New(cfg); err == nil || eng != nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

type probe struct {
	name string
	err  error
}

func (p probe) Name() string                { return p.name }
func (p probe) Ready(context.Context) error { return p.err }

func TestReady(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) {
		c.Readiness = []engine.ReadinessProbe{probe{"db", nil}, probe{"queue", errors.New("full")}, probe{"db", errors.New("slow")}}
	})
	got := w.Ready(ctx)
	if len(got) != 3 || got["store"] != nil || got["queue"] == nil || got["db"] == nil || got["db"].Error() != "slow" {
		t.Errorf("%v", got)
	}
	if _, asked := got["store"]; !asked {
		t.Errorf("the store was not asked: %v", got)
	}
}

// The order of the end, and that it may be asked for again and by many.
func TestShutdown(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	task := w.task(t)
	var order []string
	w.exec.onStop = func(context.Context) error {
		if _, err := w.Create(ctx, alice, request("late")); engine.CodeOf(err) != engine.CodeServerDraining {
			t.Errorf("a create during the shutdown: %v", err)
		}
		// The executor still reaches the store and its subscribers.
		w.emit(t, task, engine.Failed{Code: "SHUTDOWN", Retryable: true})
		order = append(order, "executor")
		return nil
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := w.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if fmt.Sprint(order) != "[executor]" {
		t.Errorf("%v", order)
	}
	if err := w.store.Ready(ctx); err == nil {
		t.Error("the store is still open")
	}
	if err := w.Hub().Wait(ctx, task.ID, fanout.ID{}); !errors.Is(err, fanout.ErrClosed) {
		t.Errorf("the hub is still open: %v", err)
	}
	if _, err := w.Emitter().Open(ctx, task); engine.CodeOf(err) != engine.CodeServerDraining {
		t.Errorf("a run of an engine that is gone: %v", err)
	}
}

// An executor that needs longer than there is time: the store stays open for
// it, and a further call ends everything.
func TestShutdownTakesTooLong(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		end := make(chan struct{})
		w.exec.onStop = func(ctx context.Context) error {
			select {
			case <-end:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := w.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		w.emit(t, task, engine.Failed{Code: "SHUTDOWN", Retryable: true})
		close(end)
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// A store that hangs in an append does not hold up the shutdown beyond its time.
func TestShutdownCutsAppends(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		run := w.open(t, task)
		w.slow(time.Hour)
		run.Stream(engine.Started{})
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if err := w.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		wantCode(t, run.Close(context.Background()), engine.CodeStoreUnavailable)
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if time.Since(start) > 2*time.Second {
			t.Errorf("took %v", time.Since(start))
		}
	})
}

// A run that outlives the engine: its events are refused, nobody hangs.
func TestRunAfterShutdown(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	run := w.open(t, w.task(t))
	if err := w.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	wantCode(t, run.Emit(ctx, engine.Started{}), engine.CodeServerDraining)
	run.Text("a")
	run.Stream(engine.Message{})
	wantCode(t, run.Flush(ctx), engine.CodeServerDraining)
	wantCode(t, run.Close(ctx), engine.CodeServerDraining)
}

// Nothing of a payload goes to the log, whatever goes wrong.
func TestLogHoldsNoPayload(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		r := request("r")
		r.Input = []byte(`{"password":"hunter2"}`)
		r.Files = []engine.File{file("hunter2.txt", "text/plain", "hunter2")}
		w.exec.onSubmit = func(context.Context, engine.Task) error { return errors.New("no") }
		_, err := w.Create(ctx, alice, r)
		wantCode(t, err, engine.CodeTaskSubmission)
		task := w.emitFailing(t)
		w.Poll(ctx, bob, engine.PollRequest{TaskID: task.ID})
		if strings.Contains(w.log.String(), "hunter2") {
			t.Errorf("%s", w.log.String())
		}
		if !strings.Contains(w.log.String(), "the store is unavailable") || !strings.Contains(w.log.String(), "access denied") {
			t.Errorf("nothing is logged: %s", w.log.String())
		}
	})
}

func (w *world) emitFailing(t *testing.T) engine.Task {
	t.Helper()
	w.exec.onSubmit = nil
	task := w.task(t)
	run := w.open(t, task)
	w.store.set(func() { w.store.onAppend = func(context.Context, engine.Append) error { return unavailable } })
	run.Text("hunter2")
	run.Stream(engine.Progress{Percent: 101, Message: "hunter2"})
	wantCode(t, run.Close(context.Background()), engine.CodeRequestValidation)
	w.store.set(func() { w.store.onAppend = nil })
	return task
}

// sink collects a subscriber's bytes.
type sink struct {
	mu       sync.Mutex
	bytes    bytes.Buffer
	finished chan string
}

func (s *sink) TryWrite(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes.Write(p)
}
func (s *sink) Finished(key string)          { s.finished <- key }
func (s *sink) Failed(key string, err error) { s.finished <- err.Error() }
func (s *sink) Ended(fanout.EndReason)       {}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes.String()
}

// lines is a framing of one line an entry.
type lines struct{}

func (lines) AppendEntry(dst []byte, _ string, e fanout.Entry) []byte {
	return append(append(dst, e.Body...), '\n')
}
func (lines) AppendGap(dst []byte, _ string, g fanout.Gap) []byte {
	return fmt.Appendf(dst, "gap %s %d %d\n", g.Reason, g.After.Ordinal, g.First.Ordinal)
}
func (lines) AppendHeartbeat(dst []byte, _ string, _ time.Time) []byte { return dst }

// Subscribe, then the hub, from every position of a log that goes on: exactly
// the suffix, each event as AppendJSON has it, and the end.
func TestDelivery(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		payloads := story(20)
		w.emit(t, task, payloads[:10]...)
		head := w.events(t, task.ID)
		sinks := make([]*sink, len(head)+1)
		for from := range sinks {
			req := engine.SubscribeRequest{TaskID: task.ID}
			if from > 0 {
				req.After = head[from-1].ID
			}
			start, err := w.Subscribe(ctx, alice, req)
			if err != nil || start.Gap != nil || start.Over {
				t.Fatalf("%+v, %v", start, err)
			}
			sinks[from] = &sink{finished: make(chan string, 1)}
			w.Hub().Open(sinks[from], fanout.OutletConfig{Framing: lines{}}).Follow(task.ID, fanout.ID(start.Position), nil)
		}
		w.emit(t, task, payloads[10:]...)
		all := w.events(t, task.ID)
		for from, s := range sinks {
			if got := <-s.finished; got != task.ID {
				t.Errorf("from %d: %s", from, got)
			}
			var want strings.Builder
			for _, ev := range all[from:] {
				want.Write(append(ev.AppendJSON(nil), '\n'))
			}
			synctest.Wait()
			if got := s.String(); got != want.String() {
				t.Errorf("from %d: %s\nwant %s", from, got, want.String())
			}
		}
	})
}

// The hub meets logs that were trimmed, that expired, and tasks that are gone.
func TestDeliveryOfWhatIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		follow := func(id string, after fanout.ID) *sink {
			s := &sink{finished: make(chan string, 1)}
			w.Hub().Open(s, fanout.OutletConfig{Framing: lines{}}).Follow(id, after, nil)
			return s
		}
		trimmed, expired := w.task(t), w.task(t)
		all := w.emit(t, expired, story(1)...)
		last := all[len(all)-1]
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		w.emit(t, trimmed, story(8)...)
		first := w.events(t, trimmed.ID)[0]

		s := follow(trimmed.ID, fanout.ID{})
		<-s.finished
		if got := s.String(); !strings.HasPrefix(got, fmt.Sprintf("gap trimmed 0 %d\n", first.ID.Ordinal)) || strings.Count(got, "\n") != 4 {
			t.Errorf("trimmed: %s", got)
		}
		start, err := w.Subscribe(ctx, alice, engine.SubscribeRequest{TaskID: expired.ID})
		if err != nil || start.Gap == nil || start.Gap.Reason != engine.GapExpired {
			t.Fatalf("%+v, %v", start, err)
		}
		s = follow(expired.ID, fanout.ID(start.Position))
		<-s.finished
		if got := s.String(); got != string(last.AppendJSON(nil))+"\n" {
			t.Errorf("expired: %s", got)
		}
		// While the hub still follows it: from the same place, and from others.
		for _, after := range []fanout.ID{fanout.ID(start.Position), {}, fanout.ID(all[0].ID), fanout.ID(start.Position)} {
			s = follow(expired.ID, after)
			<-s.finished
			if got := s.String(); !strings.HasSuffix(got, string(last.AppendJSON(nil))+"\n") {
				t.Errorf("expired, the next follower, from %v: %s", after, got)
			}
		}
		asked := time.Now()
		s = follow(unknown, fanout.ID{})
		if got := <-s.finished; !strings.Contains(got, "TASK_NOT_FOUND") || time.Since(asked) != 0 {
			t.Errorf("unknown: %s after %v", got, time.Since(asked))
		}
	}, func(_ *engine.Config, m *memstore.Config) {
		m.MaxStreamLength, m.StreamTTL, m.RecordTTL = 3, time.Hour, 24*time.Hour
	})
}
