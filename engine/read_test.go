package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

func (w *world) poll(t *testing.T, req engine.PollRequest) engine.PollResult {
	t.Helper()
	res, err := w.Poll(context.Background(), alice, req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// story is a task's whole life of n messages.
func story(n int) []engine.Payload {
	out := []engine.Payload{engine.Started{}}
	for range n {
		out = append(out, engine.Message{Text: "m"})
	}
	return append(out, engine.Completed{Result: n})
}

// From every position, with every page size, the pages are the suffix.
func TestPollEverySuffix(t *testing.T) {
	w := newWorld(t)
	task := w.task(t)
	all := w.emit(t, task, story(5)...)
	for from := 0; from <= len(all); from++ {
		var after engine.EventID
		if from > 0 {
			after = all[from-1].ID
		}
		for size := 1; size <= len(all)+1; size++ {
			var got []engine.Event
			cursor, more := after, true
			for more {
				res := w.poll(t, engine.PollRequest{TaskID: task.ID, After: cursor, Max: size})
				if res.Gap != nil || len(res.Events) > size || res.Status != engine.StatusCompleted {
					t.Fatalf("%+v", res)
				}
				got = append(got, res.Events...)
				if len(res.Events) == 0 && res.Next != cursor {
					t.Fatalf("an empty page moves the cursor: %+v", res)
				}
				cursor, more = res.Next, res.HasMore
			}
			if !slices.EqualFunc(got, all[from:], func(a, b engine.Event) bool { return a.ID == b.ID }) {
				t.Fatalf("from %d by %d: %v", from, size, types(got))
			}
		}
	}
}

func TestPollBounds(t *testing.T) {
	w := newWorld(t)
	task := w.task(t)
	for _, c := range []struct {
		req   engine.PollRequest
		field string
	}{
		{engine.PollRequest{Wait: -1}, "waitTimeoutMs"},
		{engine.PollRequest{Wait: time.Minute + 1}, "waitTimeoutMs"},
		{engine.PollRequest{Max: -1}, "maxEvents"},
		{engine.PollRequest{Max: 501}, "maxEvents"},
	} {
		c.req.TaskID = task.ID
		_, err := w.Poll(context.Background(), alice, c.req)
		if e := wantCode(t, err, engine.CodeRequestValidation); e.Fields[0].Field != c.field {
			t.Errorf("%+v: %+v", c.req, e.Fields)
		}
	}
	w.emit(t, task, story(200)...)
	if res := w.poll(t, engine.PollRequest{TaskID: task.ID}); len(res.Events) != 100 || !res.HasMore {
		t.Errorf("by default %d events", len(res.Events))
	}
}

func TestPollGaps(t *testing.T) {
	w := newWorld(t, func(_ *engine.Config, m *memstore.Config) { m.MaxStreamLength = 3 })
	task := w.task(t)
	w.emit(t, task, story(5)[:6]...) // 1..6, of which 4..6 are left
	left := w.events(t, task.ID)
	first, last := left[0].ID, left[len(left)-1].ID
	if first.Ordinal != 4 || last.Ordinal != 6 {
		t.Fatalf("retained %v to %v", first, last)
	}
	for _, c := range []struct {
		name   string
		after  engine.EventID
		reason engine.GapReason
		first  engine.EventID
		events int
		next   engine.EventID
	}{
		{"beginning", engine.EventID{}, engine.GapTrimmed, first, 3, last},
		{"trimmed", engine.EventID{Millis: first.Millis, Ordinal: 2}, engine.GapTrimmed, first, 3, last},
		{"last trimmed", engine.EventID{Millis: first.Millis, Ordinal: 3}, "", engine.EventID{}, 3, last},
		{"retained", first, "", engine.EventID{}, 2, last},
		{"newest", last, "", engine.EventID{}, 0, last},
		{"ahead", engine.EventID{Millis: last.Millis, Ordinal: 9}, engine.GapAhead, engine.EventID{}, 0, last},
		{"far ahead in time", engine.EventID{Millis: 1 << 62}, engine.GapAhead, engine.EventID{}, 0, last},
	} {
		res := w.poll(t, engine.PollRequest{TaskID: task.ID, After: c.after, Wait: 0})
		reason := engine.GapReason("")
		if res.Gap != nil {
			reason = res.Gap.Reason
			if res.Gap.After != c.after || res.Gap.First != c.first {
				t.Errorf("%s: %+v", c.name, *res.Gap)
			}
		}
		if reason != c.reason || len(res.Events) != c.events || res.Next != c.next {
			t.Errorf("%s: gap %q, %d events, next %v", c.name, reason, len(res.Events), res.Next)
		}
	}
	if n := w.metrics.get(engine.MetricGaps, "poll"); n != 4 {
		t.Errorf("%d gaps counted", n)
	}
}

// Inside a bubble time passes only when everything waits.
func inBubble(t *testing.T, test func(t *testing.T, w *world), change ...func(*engine.Config, *memstore.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t, newWorld(t, change...))
	})
}

func TestPollWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		start := time.Now()
		res := w.poll(t, engine.PollRequest{TaskID: task.ID, Wait: 30 * time.Second})
		if took := time.Since(start); took != 30*time.Second || len(res.Events) != 0 || res.Status != engine.StatusAccepted {
			t.Errorf("nothing came: %v, %+v", took, res)
		}

		run := w.open(t, task)
		defer run.Close(context.Background())
		start = time.Now()
		time.AfterFunc(7*time.Second, func() { run.Stream(engine.Started{}) })
		res = w.poll(t, engine.PollRequest{TaskID: task.ID, Wait: 30 * time.Second})
		if took := time.Since(start); took != 7*time.Second || len(res.Events) != 1 || res.Status != engine.StatusRunning {
			t.Errorf("an event came: %v, %+v", took, res)
		}
		start = time.Now()
		res = w.poll(t, engine.PollRequest{TaskID: task.ID, Wait: 30 * time.Second})
		if took := time.Since(start); took != 0 || len(res.Events) != 1 {
			t.Errorf("an event was there: %v, %+v", took, res)
		}
	})
}

// Old clients poll on behind the terminal event; the wait lasts.
func TestPollBehindTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		all := w.emit(t, task, story(1)...)
		for _, after := range []engine.EventID{all[2].ID, {Millis: 1 << 62, Ordinal: 1}, {Millis: 1 << 62}} {
			start := time.Now()
			res := w.poll(t, engine.PollRequest{TaskID: task.ID, After: after, Wait: time.Minute})
			if took := time.Since(start); took != time.Minute || len(res.Events) != 0 || res.Gap != nil ||
				res.Next != after || res.Status != engine.StatusCompleted || res.HasMore {
				t.Errorf("%v: %v, %+v", after, took, res)
			}
		}
	})
}

func TestPollWaitEnds(t *testing.T) {
	for name, end := range map[string]func(w *world, cancel func(), task engine.Task){
		"client gone": func(_ *world, cancel func(), _ engine.Task) { cancel() },
		"drain":       func(w *world, _ func(), _ engine.Task) { w.Drain() },
		"shutdown":    func(w *world, _ func(), _ engine.Task) { go w.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				for _, over := range []bool{false, true} {
					if over && w.Ready(context.Background())["engine"] != nil {
						continue // no further task can be made
					}
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					task := w.task(t)
					var after engine.EventID
					if over {
						after = w.emit(t, task, story(0)...)[1].ID
					}
					start := time.Now()
					time.AfterFunc(time.Second, func() { end(w, cancel, task) })
					res, err := w.Poll(ctx, alice, engine.PollRequest{TaskID: task.ID, After: after, Wait: time.Minute})
					if took := time.Since(start); err != nil || took != time.Second || len(res.Events) != 0 || res.Gap != nil {
						t.Errorf("%v, %+v, %v", took, res, err)
					}
				}
			})
		})
	}
}

// The log is trimmed past a waiting poll in one step: it gets the gap.
func TestPollWaitEndsWithAGap(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		cursor := w.emit(t, task, engine.Started{})[0].ID
		time.AfterFunc(time.Second, func() {
			drafts := make([]engine.Draft, 9)
			for i := range drafts {
				drafts[i] = engine.Draft{Type: engine.TypeMessage, CreatedAt: time.Now(), Payload: []byte(`{"message":"m"}`)}
			}
			if _, err := w.store.Append(context.Background(), engine.Append{TaskID: task.ID, Token: "t", Events: drafts}); err != nil {
				t.Error(err)
			}
		})
		res := w.poll(t, engine.PollRequest{TaskID: task.ID, After: cursor, Wait: time.Minute})
		if res.Gap == nil || res.Gap.Reason != engine.GapTrimmed || len(res.Events) == 0 || res.Gap.First != res.Events[0].ID {
			t.Errorf("%+v", res)
		}
	}, func(c *engine.Config, m *memstore.Config) {
		m.MaxStreamLength = 3
		c.Delivery.RingBytes = 1 // else the hub still has what was trimmed
	})
}

func TestPollErased(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		time.AfterFunc(time.Second, func() { w.store.Erase(context.Background(), task.ID) })
		_, err := w.Poll(context.Background(), alice, engine.PollRequest{TaskID: task.ID, Wait: time.Minute})
		wantCode(t, err, engine.CodeTaskNotFound)
	})
}

// A store that goes away during a wait and comes back is asked again, for what
// the hub does not have; one that stays away is an error.
func TestPollStoreComesBack(t *testing.T) {
	for _, back := range []bool{true, false} {
		inBubble(t, func(t *testing.T, w *world) {
			task := w.task(t)
			start := time.Now()
			time.AfterFunc(time.Second, func() {
				w.store.set(func() { w.store.onRead = func() error { return unavailable } })
				// In one batch: of two, the ring might give the first one alone.
				if _, err := w.store.Append(context.Background(), engine.Append{TaskID: task.ID, Token: "both", Events: []engine.Draft{
					{Type: engine.TypeStarted, CreatedAt: time.Now(), Payload: []byte(`{}`)},
					{Type: engine.TypeMessage, CreatedAt: time.Now(), Payload: []byte(`{"message":"m"}`)},
				}}); err != nil {
					t.Error(err)
				}
			})
			if back {
				time.AfterFunc(10*time.Second, func() { w.store.set(func() { w.store.onRead = nil }) })
			}
			res, err := w.Poll(context.Background(), alice, engine.PollRequest{TaskID: task.ID, Wait: time.Minute})
			took := time.Since(start)
			if back && (err != nil || len(res.Events) != 2 || took > 12*time.Second) {
				t.Errorf("%v, %+v, %v", took, res, err)
			}
			if !back && (engine.CodeOf(err) != engine.CodeStoreUnavailable || took != time.Minute) {
				t.Errorf("%v, %v", took, err)
			}
			w.store.set(func() { w.store.onRead = nil })
		}, func(c *engine.Config, _ *memstore.Config) { c.Delivery.RingBytes = 1 })
	}
}

// Status is never older than the events, whatever a cache says.
func TestPollStatusFits(t *testing.T) {
	w := newWorld(t)
	task := w.task(t)
	accepted := task
	w.emit(t, task, engine.Started{}, engine.Message{Text: "m"})
	running, _ := w.store.Store.Get(context.Background(), task.ID, engine.Fresh)
	all := w.emit(t, task, engine.Completed{})
	serve := func(cached engine.Task) {
		w.store.set(func() {
			w.store.onGet = func(_ string, f engine.Freshness) (engine.Task, error, bool) {
				return cached, nil, f == engine.Cached
			}
		})
	}
	for _, cached := range []engine.Task{accepted, running} {
		serve(cached)
		for after := 0; after <= len(all); after++ {
			req := engine.PollRequest{TaskID: task.ID, Max: 1}
			if after > 0 {
				req.After = all[after-1].ID
			}
			res := w.poll(t, req)
			switch {
			case after >= 2 && res.Status != engine.StatusCompleted,
				after == 1 && res.Status == engine.StatusAccepted,
				after == 0 && res.Status == engine.StatusAccepted:
				t.Errorf("cached %s, after %d: %s", cached.Status, after, res.Status)
			case after < len(all) && (len(res.Events) != 1 || res.HasMore != (after < len(all)-1)):
				t.Errorf("cached %s, after %d: %+v", cached.Status, after, res)
			}
		}
	}
}

func TestSnapshot(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	task := w.task(t)
	s, err := w.Snapshot(ctx, alice, task.ID)
	if err != nil || !s.LastEventID.IsZero() || s.Task.Status != engine.StatusAccepted {
		t.Errorf("%+v, %v", s, err)
	}
	all := w.emit(t, task, engine.Started{}, engine.Suspended{
		SuspendID: "s", Kind: engine.UserActionRequired, ReasonCode: "r", AllowedActions: []string{"a"},
	})
	s, err = w.Snapshot(ctx, alice, task.ID)
	if err != nil || s.LastEventID != all[1].ID || s.Task.Status != engine.StatusRunning || len(s.Task.Suspensions) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	// An event between the two reads is in the record and after LastEventID,
	// never the other way round.
	run := w.open(t, task)
	defer run.Close(ctx)
	w.store.set(func() {
		w.store.onGet = func(_ string, f engine.Freshness) (engine.Task, error, bool) {
			if f == engine.Fresh {
				_ = run.Emit(ctx, engine.Message{Text: "between"})
			}
			return engine.Task{}, nil, false
		}
	})
	s, err = w.Snapshot(ctx, alice, task.ID)
	if err != nil || s.LastEventID != all[1].ID {
		t.Errorf("%+v, %v", s, err)
	}
	w.store.set(func() { w.store.onGet = nil })
	all = w.emit(t, task, engine.Completed{})
	s, err = w.Snapshot(ctx, alice, task.ID)
	if err != nil || s.LastEventID != all[3].ID || s.Task.Status != engine.StatusCompleted || len(s.Task.Suspensions) != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCancel(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	task := w.task(t)
	for _, reason := range []string{strings.Repeat("é", 1001), "\xff"} {
		_, err := w.Cancel(ctx, alice, task.ID, reason)
		if e := wantCode(t, err, engine.CodeRequestValidation); e.Fields[0].Field != "reason" {
			t.Errorf("%+v", e.Fields)
		}
	}
	first := strings.Repeat("é", 1000)
	for _, reason := range []string{first, "another", ""} {
		res, err := w.Cancel(ctx, alice, task.ID, reason)
		if err != nil || res.AlreadyTerminal || res.TaskID != task.ID {
			t.Errorf("%+v, %v", res, err)
		}
	}
	got, _ := w.store.Store.Get(ctx, task.ID, engine.Fresh)
	if !got.CancelRequested || got.CancelReason != first || len(w.exec.cancelled) != 3 || w.exec.cancelled[2].CancelReason != first {
		t.Errorf("%+v, executor told %d times", got, len(w.exec.cancelled))
	}

	plain := w.task(t)
	gone, cancel := context.WithCancel(ctx)
	w.exec.onCancel = func(engine.Task) error { return unavailable }
	_, err := w.Cancel(gone, alice, plain.ID, "")
	wantCode(t, err, engine.CodeTaskSubmission)
	cancel()
	if got, _ := w.store.Store.Get(ctx, plain.ID, engine.Fresh); got.CancelReason != engine.DefaultCancelReason {
		t.Errorf("%+v", got)
	}
	w.exec.onCancel = nil

	w.emit(t, plain, engine.Cancelled{Reason: "r"})
	told := len(w.exec.cancelled)
	res, err := w.Cancel(ctx, alice, plain.ID, "")
	if err != nil || !res.AlreadyTerminal || len(w.exec.cancelled) != told {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestSubscribe(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, func(_ *engine.Config, m *memstore.Config) { m.MaxStreamLength = 3 })
	task := w.task(t)
	start := func(after engine.EventID) engine.Start {
		t.Helper()
		s, err := w.Subscribe(ctx, alice, engine.SubscribeRequest{TaskID: task.ID, After: after, Transport: "sse"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := start(engine.EventID{}); s.Over || s.Gap != nil || !s.Position.IsZero() || s.Task.ID != task.ID {
		t.Errorf("an empty log: %+v", s)
	}
	all := w.emit(t, task, engine.Started{}, engine.Message{}, engine.Message{})
	if s := start(all[1].ID); s.Over || s.Gap != nil || s.Position != all[1].ID {
		t.Errorf("within: %+v", s)
	}
	if s := start(engine.EventID{Millis: all[2].ID.Millis, Ordinal: 8}); s.Gap == nil || s.Gap.Reason != engine.GapAhead || s.Position != all[2].ID {
		t.Errorf("ahead: %+v", s)
	}
	w.emit(t, task, engine.Message{}, engine.Completed{})
	all = w.events(t, task.ID)
	s := start(engine.EventID{})
	if s.Over || s.Gap == nil || s.Gap.Reason != engine.GapTrimmed || s.Gap.First != all[0].ID || s.Position.Ordinal != 2 {
		t.Errorf("trimmed: %+v", s)
	}
	if again := start(s.Position); again.Gap != nil || again.Position != s.Position {
		t.Errorf("the position after the gap: %+v", again)
	}
	if s := start(all[2].ID); !s.Over || s.Gap != nil {
		t.Errorf("at the end: %+v", s)
	}
	// A cached record that does not know of the end must not leave anybody
	// waiting for it.
	w.store.set(func() {
		w.store.onGet = func(_ string, f engine.Freshness) (engine.Task, error, bool) {
			return task, nil, f == engine.Cached
		}
	})
	if s := start(all[2].ID); !s.Over {
		t.Errorf("at the end, by a stale record: %+v", s)
	}
	if n := w.metrics.get(engine.MetricReplays, "sse"); n != 5 {
		t.Errorf("%d replays counted", n)
	}
	if n := w.metrics.get(engine.MetricGaps, "sse"); n != 2 {
		t.Errorf("%d gaps counted", n)
	}
}

// An expired log: the gap and the terminal event, which is kept with the task.
func TestExpiredLog(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		all := w.emit(t, task, story(2)...)
		time.Sleep(90 * time.Minute) // past the log's time, within the record's
		synctest.Wait()
		last := all[len(all)-1]
		res := w.poll(t, engine.PollRequest{TaskID: task.ID})
		if res.Gap == nil || res.Gap.Reason != engine.GapExpired || len(res.Events) != 1 || res.Events[0].ID != last.ID || res.Status != engine.StatusCompleted || res.HasMore {
			t.Errorf("%+v", res)
		}
		if res := w.poll(t, engine.PollRequest{TaskID: task.ID, After: all[2].ID}); res.Gap != nil || len(res.Events) != 1 {
			t.Errorf("only the last event was missed: %+v", res)
		}
		if res := w.poll(t, engine.PollRequest{TaskID: task.ID, After: last.ID}); res.Gap != nil || len(res.Events) != 0 {
			t.Errorf("nothing was missed: %+v", res)
		}
		s, err := w.Subscribe(context.Background(), alice, engine.SubscribeRequest{TaskID: task.ID, After: all[0].ID})
		if err != nil || s.Over || s.Gap == nil || s.Gap.Reason != engine.GapExpired || s.Gap.First != last.ID {
			t.Errorf("%+v, %v", s, err)
		}
		snap, err := w.Snapshot(context.Background(), alice, task.ID)
		if err != nil || snap.LastEventID != last.ID {
			t.Errorf("%+v, %v", snap, err)
		}
	}, func(_ *engine.Config, m *memstore.Config) { m.StreamTTL, m.RecordTTL = time.Hour, time.Hour })
}
