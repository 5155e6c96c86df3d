package engine_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// ReadBytes counts what is read of logs, for TestPollPagesInBytes.
func (s *store) ReadBytes(ctx context.Context, id string, after engine.EventID, limit, maxBytes int) (engine.Page, error) {
	if h := hook(s, &s.onRead); h != nil {
		if err := h(); err != nil {
			return engine.Page{}, err
		}
	}
	page, err := s.Store.ReadBytes(ctx, id, after, limit, maxBytes)
	for _, ev := range page.Events {
		s.readBytes.Add(int64(len(ev.Payload)))
	}
	return page, err
}

// A poll's page is bounded in bytes as clients see it, and has one event at
// least. What is over the bound is not read first; the pages make the whole log.
func TestPollPagesInBytes(t *testing.T) {
	const large, bound = 200 << 10, 512 << 10
	for _, from := range []string{"store", "ring"} {
		t.Run(from, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				task := w.task(t)
				payloads := []engine.Payload{engine.Started{}}
				for range 10 {
					payloads = append(payloads, engine.Message{Text: strings.Repeat("x", large)})
				}
				all := w.emit(t, task, payloads...)
				req := engine.PollRequest{TaskID: task.ID, Max: 500, MaxBytes: bound}
				if from == "ring" {
					req.Wait = time.Minute
					w.poll(t, req) // it has the task followed
					synctest.Wait()
				}
				reads := w.reads()
				w.store.readBytes.Store(0)
				var got []engine.Event
				for more := true; more; {
					res := w.poll(t, req)
					var size int
					for _, ev := range res.Events {
						body, _ := ev.MarshalJSON()
						size += len(body)
					}
					if n := len(res.Events); n == 0 || size > bound || n == 1 && res.HasMore {
						t.Fatalf("a page of %d events and %d bytes", n, size)
					}
					got = append(got, res.Events...)
					req.After, more = res.Next, res.HasMore
				}
				if !slices.EqualFunc(got, all, func(a, b engine.Event) bool { return a.ID == b.ID }) {
					t.Errorf("%d events of %d", len(got), len(all))
				}
				if from == "ring" && reads.Load() != 0 {
					t.Errorf("the store was read %d times", reads.Load())
				}
				// The event that reached the bound is read again with the next page.
				if n := w.store.readBytes.Load(); n > 2*10*large {
					t.Errorf("%d bytes were read for a log of %d", n, 10*large)
				}
				req.After, req.MaxBytes = engine.EventID{}, 1
				if res := w.poll(t, req); len(res.Events) != 1 || !res.HasMore {
					t.Errorf("an event over the bound: %d events, more %v", len(res.Events), res.HasMore)
				}
			})
		})
	}
}

// A store that knows no bound in bytes has its pages cut.
func TestPollPagesInBytesOfAnyStore(t *testing.T) {
	w := newWorld(t, func(c *engine.Config, _ *memstore.Config) {
		c.Store = struct {
			engine.Store
			io.Closer
		}{c.Store, c.Store.(io.Closer)}
	})
	task := w.task(t)
	all := w.emit(t, task, story(10)...)
	res := w.poll(t, engine.PollRequest{TaskID: task.ID, MaxBytes: 1})
	if len(res.Events) != 1 || !res.HasMore || res.Next != all[0].ID {
		t.Errorf("%+v", res)
	}
	_, err := w.Poll(t.Context(), alice, engine.PollRequest{TaskID: task.ID, MaxBytes: -1})
	wantCode(t, err, engine.CodeRequestValidation)
}
