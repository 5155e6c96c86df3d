package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// slow makes every append take d.
func (w *world) slow(d time.Duration) {
	w.store.set(func() {
		w.store.onAppend = func(ctx context.Context, _ engine.Append) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return unavailable
			}
		}
	})
}

// texts joins what the messages of a log say.
func texts(t *testing.T, events []engine.Event) (joined string, each []string) {
	t.Helper()
	for _, ev := range events {
		if ev.Type != engine.TypeMessage {
			continue
		}
		var m engine.Message
		if err := json.Unmarshal(ev.Payload, &m); err != nil {
			t.Fatal(err)
		}
		each = append(each, m.Text)
	}
	return strings.Join(each, ""), each
}

func sizes(batches []engine.Append) (out []int) {
	for _, b := range batches {
		out = append(out, len(b.Events))
	}
	return out
}

func TestEmit(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	task := w.task(t)
	run := w.open(t, task)
	defer run.Close(ctx)
	if run.Task().ID != task.ID {
		t.Errorf("%+v", run.Task())
	}
	before := time.Now().Truncate(time.Microsecond)
	for _, do := range []func() error{
		func() error { return run.Emit(ctx, engine.Started{}) },
		func() error { return run.Progress(ctx, 50, "half") },
		func() error { return run.EmitRaw(ctx, engine.TypeMessage, json.RawMessage(" {\n\"message\" : \"m\"}")) },
		func() error {
			return run.EmitRaw(ctx, engine.TypeCompleted, json.RawMessage(`{"result":1,"more":2}`))
		},
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	all := w.events(t, task.ID)
	if got := fmt.Sprint(types(all)); got != "[STARTED PROGRESS MESSAGE COMPLETED]" {
		t.Errorf("%s", got)
	}
	for _, ev := range all {
		if ev.CreatedAt.Before(before) || ev.CreatedAt.After(time.Now()) || ev.CreatedAt.Nanosecond()%1000 != 0 || ev.CreatedAt.Location() != time.UTC {
			t.Errorf("createdAt %v", ev.CreatedAt)
		}
	}
	if string(all[2].Payload) != `{"message":"m"}` || string(all[1].Payload) != `{"progress":50,"stage":"half"}` {
		t.Errorf("%s %s", all[1].Payload, all[2].Payload)
	}
	for _, err := range []error{
		run.Emit(ctx, engine.Message{}), run.EmitRaw(ctx, engine.TypeFailed, json.RawMessage(`{"code":"c","message":"m","retryable":true}`)),
		run.Progress(ctx, 1, ""), suspend(run, engine.Suspended{Kind: engine.SystemPaused, AllowedActions: []string{"a"}}),
	} {
		wantCode(t, err, engine.CodeTaskAlreadyTerminal)
	}
	if err := run.Flush(ctx); err != nil {
		t.Errorf("Flush after the end: %v", err)
	}
	run.Text("late")
	wantCode(t, run.Flush(ctx), engine.CodeTaskAlreadyTerminal)
	if n := len(w.events(t, task.ID)); n != 4 {
		t.Errorf("%d events", n)
	}
	done, _ := w.store.Store.Get(ctx, task.ID, engine.Fresh)
	if _, err := w.Emitter().Open(ctx, done); engine.CodeOf(err) != engine.CodeTaskAlreadyTerminal {
		t.Errorf("opening what is over: %v", err)
	}
	if _, err := w.Emitter().Open(ctx, engine.Task{ID: "x"}); engine.CodeOf(err) != engine.CodeTaskNotFound {
		t.Errorf("opening what is no task: %v", err)
	}
}

func TestEmitRefusesWhatDoesNotFit(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	task := w.task(t)
	run := w.open(t, task)
	if got := field(t, run.Emit(ctx, engine.Progress{Percent: 101})); got != "progress" {
		t.Errorf("names %q", got)
	}
	if got := field(t, run.EmitRaw(ctx, engine.TypeCompleted, json.RawMessage("{\"result\":\"\xff\"}"))); got != "payload" {
		t.Errorf("names %q", got)
	}
	// A refused durable event is its caller's matter alone.
	if err := run.Emit(ctx, engine.Started{}); err != nil {
		t.Error(err)
	}
	// A refused streamed one comes back from everything after it, and nothing
	// that comes after it is stored.
	run.Stream(engine.Progress{Percent: -1})
	run.Stream(engine.Message{Text: "after"})
	run.Text("after")
	for _, err := range []error{run.Emit(ctx, engine.Message{}), run.Flush(ctx), run.Emit(ctx, engine.Completed{}), run.Close(ctx)} {
		if got := field(t, err); got != "progress" {
			t.Errorf("names %q", got)
		}
	}
	wantCode(t, run.Emit(ctx, engine.Failed{}), engine.CodeInvalidTaskState) // closed
	run = w.open(t, task)
	run.Stream(engine.Progress{Percent: -1})
	if err := run.Emit(ctx, engine.Failed{Code: "c"}); err != nil {
		t.Errorf("the task cannot end: %v", err)
	}
	if got := field(t, run.Close(ctx)); got != "progress" {
		t.Errorf("names %q", got)
	}
	if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[STARTED FAILED]" {
		t.Errorf("%s", got)
	}
	if n := w.metrics.get(engine.MetricTaskFailures, ""); n != 1 {
		t.Errorf("%d failures counted", n)
	}
}

// One append in flight; what arrives meanwhile is the next.
func TestPipelineClocksItself(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(context.Background())
		w.slow(10 * time.Millisecond)
		start := time.Now()
		for i := range 20 {
			run.Stream(engine.Message{Text: fmt.Sprint(i)})
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("streaming took %v", took)
		}
		synctest.Wait()
		time.Sleep(5 * time.Millisecond)
		run.Stream(engine.Message{Text: "20"})
		if err := run.Emit(context.Background(), engine.Progress{}); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 30*time.Millisecond {
			t.Errorf("took %v", took)
		}
		got := sizes(w.store.batches())
		if len(got) > 3 || got[0]+got[1] < 20 {
			t.Errorf("batches of %v", got)
		}
		joined, _ := texts(t, w.events(t, task.ID))
		if joined != "01234567891011121314151617181920" {
			t.Errorf("%s", joined)
		}
		tokens := map[string]bool{}
		for _, b := range w.store.batches() {
			tokens[b.Token] = true
		}
		if len(tokens) != len(got) {
			t.Errorf("%d tokens for %d appends", len(tokens), len(got))
		}
	})
}

func TestPipelineBounds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		w.slow(time.Second)
		for range 20 {
			run.Stream(engine.Message{Text: "x"}) // 15 bytes of payload: the number counts
		}
		for range 20 {
			run.Stream(engine.Message{Text: "xxxxxxxxxxxxxxxxxxxxxxxxx"}) // 39: the bytes do
		}
		run.Stream(engine.Message{Text: strings.Repeat("y", 500)})
		if err := run.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		for _, b := range w.store.batches() {
			bytes := 0
			for _, d := range b.Events {
				bytes += len(d.Payload)
			}
			if len(b.Events) > 5 || bytes > 100 && len(b.Events) > 1 {
				t.Errorf("a batch of %d events, %d bytes", len(b.Events), bytes)
			}
		}
		if n := len(w.events(t, task.ID)); n != 41 {
			t.Errorf("%d events", n)
		}
	}, func(c *engine.Config, _ *memstore.Config) { c.Emit.BatchEvents, c.Emit.BatchBytes = 5, 100 })
}

// A full buffer makes streamed calls wait, and only those.
func TestBufferIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		w.slow(time.Second)
		start := time.Now()
		big := engine.Message{Text: strings.Repeat("x", 400)}
		run.Stream(big) // leaves at once, and is in the buffer until it is stored
		run.Stream(big)
		if took := time.Since(start); took != 0 {
			t.Errorf("within the buffer: %v", took)
		}
		run.Stream(big)
		if took := time.Since(start); took != time.Second {
			t.Errorf("beyond it: %v", took)
		}
		run.Text(strings.Repeat("y", 5000)) // more than the buffer takes at all
		if err := run.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		joined, _ := texts(t, w.events(t, task.ID))
		if len(joined) != 1200+5000 {
			t.Errorf("%d bytes of text", len(joined))
		}
	}, func(c *engine.Config, _ *memstore.Config) { c.Emit.BufferBytes, c.Emit.RollUpBytes = 1000, 200 })
}

// Whoever waits for room gives up with the run.
func TestBufferGivesUpWithTheRun(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		w.slow(time.Minute)
		big := engine.Message{Text: strings.Repeat("x", 600)}
		run.Stream(big)
		start := time.Now()
		time.AfterFunc(time.Second, func() { w.Cancel(ctx, alice, task.ID, "stop") })
		run.Stream(big)
		if took := time.Since(start); took != time.Second {
			t.Errorf("gave up after %v", took)
		}
		var cancelled *engine.CancelRequested
		if err := run.Flush(ctx); !errors.As(err, &cancelled) || cancelled.Reason != "stop" {
			t.Errorf("%v", err)
		}
		if err := run.Emit(ctx, engine.Cancelled{Reason: cancelled.Reason}); err != nil {
			t.Error(err)
		}
		run.Close(ctx)
		if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[MESSAGE CANCELLED]" {
			t.Errorf("%s", got)
		}
	}, func(c *engine.Config, _ *memstore.Config) { c.Emit.BufferBytes = 1000 })
}

func TestTextRollsUp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		seen := func() string {
			synctest.Wait()
			_, each := texts(t, w.events(t, task.ID))
			return fmt.Sprintf("%q", each)
		}
		run.Text("")
		if got := seen(); got != `[]` {
			t.Errorf("nothing: %s", got)
		}
		run.Text("a")
		if got := seen(); got != `["a"]` {
			t.Errorf("the first waits: %s", got)
		}
		for _, s := range "bcd" {
			time.Sleep(5 * time.Millisecond)
			run.Text(string(s))
		}
		if got := seen(); got != `["a"]` {
			t.Errorf("the next do not: %s", got)
		}
		time.Sleep(10 * time.Millisecond)
		if got := seen(); got != `["a" "bcd"]` {
			t.Errorf("after 25 ms: %s", got)
		}
		run.Text("e")
		if got := seen(); got != `["a" "bcd"]` {
			t.Errorf("no pause: %s", got)
		}
		time.Sleep(25 * time.Millisecond)
		time.Sleep(25 * time.Millisecond)
		run.Text("f")
		if got := seen(); got != `["a" "bcd" "e" "f"]` {
			t.Errorf("after a pause: %s", got)
		}
		// Another event ends a roll-up, and the order stays.
		run.Text("g")
		run.Stream(engine.Progress{Percent: 1})
		run.Text("h")
		if err := run.Progress(ctx, 2, ""); err != nil {
			t.Error(err)
		}
		run.Text("i")
		if err := run.Flush(ctx); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[MESSAGE MESSAGE MESSAGE MESSAGE MESSAGE PROGRESS MESSAGE PROGRESS MESSAGE]" {
			t.Errorf("%s", got)
		}
		if joined, _ := texts(t, w.events(t, task.ID)); joined != "abcdefghi" {
			t.Errorf("%s", joined)
		}
	})
}

func TestTextKeepsCharactersWhole(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		const story = "aé€😀\u0301z"
		for cut := 1; cut <= 4; cut++ {
			task := w.task(t)
			run := w.open(t, task)
			for s := story; s != ""; {
				n := min(cut, len(s))
				run.Text(s[:n])
				s = s[n:]
				time.Sleep(30 * time.Millisecond)
			}
			if err := run.Close(ctx); err != nil {
				t.Error(err)
			}
			joined, each := texts(t, w.events(t, task.ID))
			if joined != story {
				t.Errorf("cut by %d: %q", cut, each)
			}
		}
		// What is never finished, or never was text.
		for _, c := range []struct{ in, want string }{
			{"a\xf0\x9f", "a\uFFFD"}, {"a\xffb", "a\uFFFDb"}, {"\x80", "\uFFFD"}, {"\xc3", "\uFFFD"}, {"\xed\xa0\x80x", "\uFFFDx"}, {"\xf8\x88", "\uFFFD"},
		} {
			task := w.task(t)
			run := w.open(t, task)
			run.Text(c.in)
			if err := run.Emit(ctx, engine.Progress{}); err != nil {
				t.Error(err)
			}
			if joined, _ := texts(t, w.events(t, task.ID)); joined != c.want {
				t.Errorf("%q became %q", c.in, joined)
			}
			run.Close(ctx)
		}
	})
}

func TestTextIsSplit(t *testing.T) {
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.Limits.PayloadBytes = 1024 })
	task := w.task(t)
	run := w.open(t, task)
	long := strings.Repeat("\x01", 5000) + strings.Repeat("😀", 1500) // six bytes of JSON each; four of text
	run.Text(long)
	run.Text("!")
	if err := run.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	joined, each := texts(t, w.events(t, task.ID))
	if joined != long+"!" || len(each) < 60 {
		t.Errorf("%d bytes in %d events, %d given", len(joined), len(each), len(long))
	}
	for _, s := range each {
		if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
			t.Errorf("%q", s)
		}
	}
}

// Gathered text is bounded too, not only a long piece.
func TestTextGatheredIsSplit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		run := w.open(t, task)
		piece := strings.Repeat("\x01", 150) // 900 bytes of JSON
		for range 10 {
			run.Text(piece)
		}
		if err := run.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if joined, each := texts(t, w.events(t, task.ID)); joined != strings.Repeat(piece, 10) {
			t.Errorf("%d bytes in %d events", len(joined), len(each))
		}
	}, func(c *engine.Config, _ *memstore.Config) { c.Limits.PayloadBytes = 1024 })
}

// The answer of an append is lost: the same token again, nothing twice.
func TestAppendIsRetried(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		w.store.set(func() { w.store.lostAck = 3 })
		if err := run.Emit(ctx, engine.Started{}); err != nil {
			t.Error(err)
		}
		w.store.set(func() { w.store.lostAck = 1 })
		run.Text("a")
		if err := run.Emit(ctx, engine.Completed{}); err != nil {
			t.Error(err)
		}
		if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[STARTED MESSAGE COMPLETED]" {
			t.Errorf("%s", got)
		}
	})
}

// An outage: streamed and durable events wait for the store, in order.
func TestAppendSurvivesAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		w.store.set(func() {
			w.store.onAppend = func(context.Context, engine.Append) error { return unavailable }
		})
		time.AfterFunc(90*time.Second, func() { w.store.set(func() { w.store.onAppend = nil }) })
		start := time.Now()
		run.Text("a")
		run.Stream(engine.Progress{Percent: 1})
		run.Text("b")
		if err := run.Progress(ctx, 2, ""); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < 90*time.Second || took > 93*time.Second {
			t.Errorf("took %v", took)
		}
		if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[MESSAGE PROGRESS MESSAGE PROGRESS]" {
			t.Errorf("%s", got)
		}
		if log := w.log.String(); strings.Count(log, "the store is unavailable") != 1 || !strings.Contains(log, "the store is back") {
			t.Errorf("log: %s", log)
		}
	})
}

// The store stays away longer than EmitConfig.Retry: what was streamed is lost,
// all after it is refused, and the task can still end.
func TestAppendGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(ctx)
		w.store.set(func() {
			w.store.onAppend = func(context.Context, engine.Append) error { return unavailable }
		})
		start := time.Now()
		run.Stream(engine.Message{Text: "lost"})
		synctest.Wait()
		run.Stream(engine.Message{Text: "behind it"})
		wantCode(t, run.Emit(ctx, engine.Completed{}), engine.CodeStoreUnavailable)
		if took := time.Since(start); took < 2*time.Minute || took > 123*time.Second {
			t.Errorf("gave up after %v", took)
		}
		w.store.set(func() { w.store.onAppend = nil })
		wantCode(t, run.Emit(ctx, engine.Message{}), engine.CodeStoreUnavailable)
		wantCode(t, run.Flush(ctx), engine.CodeStoreUnavailable)
		wantCode(t, run.Emit(ctx, engine.Completed{}), engine.CodeStoreUnavailable)
		if err := run.Emit(ctx, engine.Failed{Code: "LOST"}); err != nil {
			t.Errorf("the task cannot end: %v", err)
		}
		if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[FAILED]" {
			t.Errorf("%s", got)
		}
	})
}

// A durable event that is refused by the store is its caller's matter; a
// terminal one may be tried again.
func TestAppendFailsForOneCaller(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	task := w.task(t)
	run := w.open(t, task)
	defer run.Close(ctx)
	w.store.set(func() {
		w.store.onAppend = func(context.Context, engine.Append) error { return errors.New("secret") }
	})
	for _, p := range []engine.Payload{engine.Message{}, engine.Completed{}} {
		if e := wantCode(t, run.Emit(ctx, p), engine.CodeInternal); strings.Contains(e.Message, "secret") {
			t.Errorf("the cause is shown: %s", e.Message)
		}
	}
	w.store.set(func() { w.store.onAppend = nil })
	for _, p := range []engine.Payload{engine.Message{}, engine.Completed{}} {
		if err := run.Emit(ctx, p); err != nil {
			t.Error(err)
		}
	}
	if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[MESSAGE COMPLETED]" {
		t.Errorf("%s", got)
	}
}

// Somebody else ends the task.
func TestAnotherEndsTheTask(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	task := w.task(t)
	run := w.open(t, task)
	w.emit(t, task, engine.Cancelled{Reason: "r"})
	run.Stream(engine.Message{Text: "late"})
	wantCode(t, run.Flush(ctx), engine.CodeTaskAlreadyTerminal)
	w.store.set(func() {
		w.store.onAppend = func(context.Context, engine.Append) error { t.Error("the store is asked again"); return nil }
	})
	wantCode(t, run.Emit(ctx, engine.Failed{}), engine.CodeTaskAlreadyTerminal)
	wantCode(t, run.Close(ctx), engine.CodeTaskAlreadyTerminal)
	if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[CANCELLED]" {
		t.Errorf("%s", got)
	}
}

// Many goroutines, each in its own order, one end, nothing after it.
func TestRunTogether(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, func(_ *engine.Config, m *memstore.Config) { m.MaxStreamLength = 1 << 20 })
	task := w.task(t)
	run := w.open(t, task)
	var wg sync.WaitGroup
	const writers, each = 8, 200
	for g := range writers {
		wg.Go(func() {
			for i := range each {
				m := engine.Message{Text: fmt.Sprintf("%d:%d;", g, i)}
				if i%7 == 0 {
					if err := run.Emit(ctx, m); err != nil {
						t.Error(err)
					}
				} else {
					run.Stream(m)
				}
			}
		})
	}
	wg.Wait()
	ends := make([]error, 5)
	for i := range ends {
		wg.Go(func() { ends[i] = run.Emit(ctx, engine.Completed{Result: i}) })
	}
	wg.Wait()
	won := 0
	for _, err := range ends {
		if err == nil {
			won++
		} else {
			wantCode(t, err, engine.CodeTaskAlreadyTerminal)
		}
	}
	if err := run.Close(ctx); err != nil || won != 1 {
		t.Errorf("%v, %d ends", err, won)
	}
	all := w.events(t, task.ID)
	if len(all) != writers*each+1 || all[len(all)-1].Type != engine.TypeCompleted {
		t.Fatalf("%d events", len(all))
	}
	joined, _ := texts(t, all)
	next := [writers]int{}
	for _, s := range strings.Split(strings.TrimSuffix(joined, ";"), ";") {
		var g, i int
		fmt.Sscanf(s, "%d:%d", &g, &i)
		if i != next[g] {
			t.Fatalf("writer %d: %d where %d was due", g, i, next[g])
		}
		next[g]++
	}
	if n := len(w.store.batches()); n > writers*each/2 {
		t.Logf("%d appends for %d events", n, len(all))
	}
}

func TestCancellationReachesTheRun(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		cause := func(run *engine.Run) string {
			synctest.Wait()
			var c *engine.CancelRequested
			if run.Context().Err() == nil || !errors.As(context.Cause(run.Context()), &c) {
				return fmt.Sprint(context.Cause(run.Context()))
			}
			return c.Reason
		}
		task := w.task(t)
		run := w.open(t, task)
		synctest.Wait()
		if run.Context().Err() != nil {
			t.Fatal("cancelled from the start")
		}
		w.Cancel(ctx, alice, task.ID, "first")
		w.Cancel(ctx, alice, task.ID, "second")
		if got := cause(run); got != "first" {
			t.Errorf("%s", got)
		}
		if err := suspend(run, engine.Suspended{Kind: engine.SystemPaused, ReasonCode: "r", AllowedActions: []string{"a"}}); err == nil || len(w.events(t, task.ID)) != 0 {
			t.Errorf("suspended a cancelled run: %v", err)
		}
		run.Close(ctx)

		// Asked for before anybody opened it, whatever the record says.
		run = w.open(t, task)
		if got := cause(run); got != "first" {
			t.Errorf("%s", got)
		}
		run.Close(ctx)
		// On a store without Signals, what the record says must do.
		bare := engine.Config{Store: struct{ engine.Store }{w.store}}
		eng, err := engine.New(bare)
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Shutdown(ctx)
		task, _ = w.store.Store.Get(ctx, task.ID, engine.Fresh)
		run, err = eng.Emitter().Open(ctx, task)
		if err != nil {
			t.Fatal(err)
		}
		if got := cause(run); got != "first" {
			t.Errorf("%s", got)
		}
		run.Close(ctx)

		// The run's own context.
		parent, cancel := context.WithCancelCause(ctx)
		run, err = w.Emitter().Open(parent, w.task(t))
		if err != nil {
			t.Fatal(err)
		}
		cancel(errors.New("enough"))
		if got := cause(run); got != "enough" {
			t.Errorf("%s", got)
		}
		run.Close(ctx)
		run = w.open(t, w.task(t))
		run.Close(ctx)
		if run.Context().Err() == nil {
			t.Error("the context outlives Close")
		}
	})
}

func TestEmitContext(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := context.Background()
		task := w.task(t)
		run := w.open(t, task)
		gone, cancel := context.WithCancelCause(ctx)
		cancel(errors.New("enough"))
		if err := run.Emit(gone, engine.Started{}); err == nil || err.Error() != "enough" {
			t.Errorf("%v", err)
		}
		w.slow(time.Minute)
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		if err := run.Emit(short, engine.Started{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := run.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := run.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := run.Close(ctx); err != nil { // again, with more time
			t.Error(err)
		}
		if got := fmt.Sprint(types(w.events(t, task.ID))); got != "[STARTED]" {
			t.Errorf("%s", got)
		}
		wantCode(t, run.Emit(ctx, engine.Message{}), engine.CodeInvalidTaskState)
	})
}

// Opening waits for a store that is away.
func TestOpenRetries(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		deaf := &deafStore{Store: w.store.Store, until: time.Now().Add(time.Minute)}
		eng, err := engine.New(engine.Config{Store: deaf, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer eng.Shutdown(context.Background()) // closes the store, too
		start := time.Now()
		run, err := eng.Emitter().Open(context.Background(), task)
		if err != nil || time.Since(start) < time.Minute {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		run.Close(context.Background())
		deaf.until = time.Now().Add(time.Hour)
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := eng.Emitter().Open(short, task); engine.CodeOf(err) != engine.CodeStoreUnavailable {
			t.Errorf("%v", err)
		}
	})
}

type deafStore struct {
	*memstore.Store
	until time.Time
}

func (s *deafStore) Listen(ctx context.Context, id string, fn func(engine.Signal)) (func(), error) {
	if time.Now().Before(s.until) {
		return nil, unavailable
	}
	return s.Store.Listen(ctx, id, fn)
}
