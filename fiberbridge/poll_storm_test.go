package fiberbridge

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// pollPage is what a poll answers.
type pollPage struct {
	Status           string
	Events           []struct{ EventID, Type string }
	NextAfterEventID *string
	HasMore          bool
	Gap              any
}

// storm polls a task n times at once, from the cursors in turn, and returns when
// all have their answers.
func (h *streamHost) storm(t *testing.T, task string, n int, cursors []string, check func(cursor string, page pollPage)) (over *sync.WaitGroup) {
	t.Helper()
	over = new(sync.WaitGroup)
	for i := range n {
		cursor := cursors[i%len(cursors)]
		over.Go(func() {
			c := h.get(t, pollPath(task)+"&afterEventId="+cursor, "Connection: close")
			body, err := io.ReadAll(c.body)
			var page pollPage
			if err == nil {
				err = json.Unmarshal(body, &page)
			}
			if c.status != 200 || err != nil || page.Gap != nil {
				t.Errorf("%d, %v: %.300s", c.status, err, body)
				return
			}
			check(cursor, page)
			c.conn.Close()
		})
	}
	return over
}

// countingStore counts reads of logs, and of records that must not be cached.
type countingStore struct {
	engine.Store
	reads *atomic.Int64
}

func (s *countingStore) Read(ctx context.Context, id string, after engine.EventID, limit int) (engine.Page, error) {
	s.reads.Add(1)
	return s.Store.Read(ctx, id, after, limit)
}

func (s *countingStore) Get(ctx context.Context, id string, f engine.Freshness) (engine.Task, error) {
	if f == engine.Fresh {
		s.reads.Add(1)
	}
	return s.Store.Get(ctx, id, f)
}

func (s *countingStore) Close() error { return s.Store.(io.Closer).Close() }

// Hundreds of polls of one task at once, near its head and at it, cost the store
// nothing while the task is followed; each gets what follows its cursor, and a
// stream beside them what it would get alone.
func TestPollStorm(t *testing.T) {
	const polls = 200
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		var reads atomic.Int64
		n := start(hostSetup{wrap: func(s engine.Store) engine.Store { return &countingStore{s, &reads} }})
		h := n.there
		run := n.here.task(t)
		task := run.Task().ID
		stream := h.get(t, ssePath(task))
		if err := run.Emit(t.Context(), engine.Started{}); err != nil {
			t.Fatal(err)
		}
		emit(t, run, 29)
		var ids []string
		for len(ids) < 30 {
			if b := stream.next(t); b.id != "" {
				ids = append(ids, b.id)
			}
		}
		var before int64
		await(t, "this node knows that the task runs", func() bool {
			before = reads.Load()
			h.storm(t, task, 1, ids[:1], func(string, pollPage) {}).Wait()
			return reads.Load() == before
		})
		next := func(cursor string) string {
			for i, id := range ids[:len(ids)-1] {
				if id == cursor {
					return ids[i+1]
				}
			}
			return ""
		}
		h.storm(t, task, polls, ids[9:29], func(cursor string, page pollPage) {
			last := len(page.Events) - 1
			if last < 0 || page.Events[0].EventID != next(cursor) || *page.NextAfterEventID != page.Events[last].EventID || page.Status != "RUNNING" {
				t.Errorf("after %s: %+v", cursor, page)
			}
		}).Wait()
		head := ids[29]
		wait := h.storm(t, task, polls, []string{head}, func(_ string, page pollPage) {
			if len(page.Events) != 1 || page.Events[0].Type != "TASK_MESSAGE" || page.HasMore {
				t.Errorf("at the head: %+v", page)
			}
		})
		await(t, "all of them wait", func() bool { return h.pollsWaiting() == polls })
		emit(t, run, 1)
		if b := stream.next(t); !strings.Contains(b.data, "TASK_MESSAGE") {
			t.Errorf("the stream got %+v", b)
		} else {
			ids = append(ids, b.id)
		}
		wait.Wait()
		if more := reads.Load() - before; more != 0 {
			t.Errorf("the store was read %d times for %d polls of a task that is followed", more, 2*polls)
		}
		complete(t, run)
		if b := stream.next(t); !strings.Contains(b.data, "TASK_COMPLETED") {
			t.Errorf("the stream got %+v", b)
		} else {
			ids = append(ids, b.id)
		}
		h.storm(t, task, polls, ids[29:31], func(cursor string, page pollPage) {
			last := len(page.Events) - 1
			if last < 0 || page.Events[0].EventID != next(cursor) || page.Events[last].Type != "TASK_COMPLETED" || page.Status != "COMPLETED" || page.HasMore {
				t.Errorf("after %s of a task that is over: %+v", cursor, page)
			}
		}).Wait()
		await(t, "no poll is left", func() bool { return h.pollsWaiting() == 0 })
	})
}

// The same of a task that nobody follows, from its beginning.
func TestPollStormOfATaskNobodyFollows(t *testing.T) {
	const polls = 200
	overStores(t, func(t *testing.T, start func(hostSetup) nodes) {
		n := start(hostSetup{})
		h := n.there
		run := n.here.task(t)
		emit(t, run, 120)
		ids := n.here.ids(t, run.Task().ID)
		h.storm(t, run.Task().ID, polls, []string{"", ids[0], ids[60], ids[110]}, func(cursor string, page pollPage) {
			want := ids
			for i, id := range ids {
				if id == cursor {
					want = ids[i+1:]
				}
			}
			got := len(page.Events)
			if got == 0 || got > len(want) || page.Events[0].EventID != want[0] || page.Events[got-1].EventID != want[got-1] ||
				page.HasMore != (got < len(want)) {
				t.Errorf("after %q: %d events, more %v", cursor, got, page.HasMore)
			}
		}).Wait()
	})
}
