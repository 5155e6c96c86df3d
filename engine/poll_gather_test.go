package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

const gather = 50 * time.Millisecond

// pollToEnd polls until the task is over: all events, and how many requests it
// took.
func (w *world) pollToEnd(t *testing.T, req engine.PollRequest, pause time.Duration) (events []engine.Event, requests int) {
	t.Helper()
	for {
		res := w.poll(t, req)
		requests++
		events = append(events, res.Events...)
		if req.After = res.Next; res.Status.Terminal() && !res.HasMore {
			return events, requests
		}
		time.Sleep(pause)
	}
}

func TestPollGathersFromABusyTask(t *testing.T) {
	const events = 202
	for name, tc := range map[string]struct {
		gather, away time.Duration
		least, most  int
	}{
		"not at all":                  {0, 0, events - 2, events},
		"the client is near":          {gather, 0, 10, 30},
		"and the client is some away": {gather, 12 * time.Millisecond, 10, 30},
		"for the longest time":        {time.Second, 0, 1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				task := w.task(t)
				run := w.open(t, task)
				defer run.Close(context.Background())
				go func() {
					for i, p := range story(events - 2) {
						if i > 0 {
							time.Sleep(5 * time.Millisecond)
						}
						run.Stream(p)
					}
				}()
				got, requests := w.pollToEnd(t, engine.PollRequest{TaskID: task.ID, Wait: time.Minute, Gather: tc.gather}, tc.away)
				for i, ev := range got {
					if ev.ID.Ordinal != uint64(i+1) {
						t.Fatalf("event %d is %v", i, ev.ID)
					}
				}
				if len(got) != events || requests < tc.least || requests > tc.most {
					t.Errorf("%d events in %d requests", len(got), requests)
				}
			})
		})
	}
}

// What nothing followed, and what nothing can follow, leaves at once.
func TestPollGatherIsNotLate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		run := w.open(t, task)
		defer run.Close(context.Background())
		req := engine.PollRequest{TaskID: task.ID, Wait: time.Minute, Gather: gather}
		took := func(what string, want time.Duration, events int) {
			t.Helper()
			began := time.Now()
			res := w.poll(t, req)
			if got := time.Since(began); got != want || len(res.Events) != events {
				t.Errorf("%s: %d events after %v, want %d after %v", what, len(res.Events), got, events, want)
			}
			req.After = res.Next
		}
		emit := func(p engine.Payload) {
			if err := run.Emit(context.Background(), p); err != nil {
				t.Error(err)
			}
		}
		after := func(d time.Duration, p ...engine.Payload) {
			time.AfterFunc(d, func() {
				for _, p := range p {
					emit(p)
				}
			})
		}
		after(time.Second, engine.Started{})
		took("the first event", time.Second, 1)
		time.Sleep(10 * time.Second)
		after(2*time.Second, engine.Message{Text: "a"})
		took("an event after a pause", 2*time.Second, 1)
		time.Sleep(time.Second)
		after(51*time.Millisecond, engine.Message{Text: "a"})
		took("an event after a shorter one", 51*time.Millisecond, 1)
		after(20*time.Millisecond, engine.Message{Text: "a"})
		took("an event of a busy task", 20*time.Millisecond+gather, 1)
		emit(engine.Message{Text: "a"})
		emit(engine.Message{Text: "b"})
		time.Sleep(time.Hour)
		took("those of a task that was busy once", 0, 2)
		emit(engine.Message{Text: "c"})
		took("one that is there already, after a pause", 0, 1)
		req.Max = 3
		after(20*time.Millisecond, engine.Message{Text: "d"}, engine.Message{Text: "e"}, engine.Message{Text: "f"})
		took("a full page", 20*time.Millisecond, 3)
		req.Max = 0
		req.Wait = 30 * time.Millisecond
		after(20*time.Millisecond, engine.Message{Text: "g"})
		took("a wait that ends before", 30*time.Millisecond, 1)
		req.Wait = time.Minute
		after(10*time.Millisecond, engine.Message{Text: "h"})
		after(25*time.Millisecond, engine.Completed{Result: "i"})
		took("the end, at the next look", 10*time.Millisecond+gather/2, 2)
	})
}

// A revocation and a shutdown end the gathering too.
func TestPollGatherEnds(t *testing.T) {
	for name, end := range map[string]func(w *world) error{
		"revoked": func(w *world) error {
			_, err := w.Revoke(context.Background(), engine.Revocation{Subject: alice.Subject})
			return err
		},
		"drained": func(w *world) error { w.Drain(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				task := w.task(t)
				all := w.emit(t, task, engine.Started{}, engine.Message{Text: "a"})
				began := time.Now()
				done := make(chan error, 1)
				go func() {
					res, err := w.Poll(context.Background(), alice, engine.PollRequest{
						TaskID: task.ID, After: all[0].ID, Wait: time.Minute, Gather: time.Second,
					})
					if err == nil && len(res.Events) != 1 {
						t.Errorf("%d events", len(res.Events))
					}
					done <- err
				}()
				synctest.Wait()
				if err := end(w); err != nil {
					t.Fatal(err)
				}
				if err := <-done; (err != nil) != (name == "revoked") {
					t.Errorf("%v", err)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("after %v", took)
				}
			})
		})
	}
}
