package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
)

// A foreign task whose record takes milliseconds to read is refused at the same
// moment as a missing one, with the limits that let records be so large.
func TestRefusalsOfLargeRecordsFitTheGrid(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		task := w.task(t)
		w.store.set(func() {
			w.store.onGet = func(id string, _ engine.Freshness) (engine.Task, error, bool) {
				if id == task.ID {
					time.Sleep(2500 * time.Microsecond) // twice, as for 1+1 MiB and more
				}
				return engine.Task{}, nil, false
			}
		})
		const grid = 12 * time.Millisecond // of 1 MiB of input
		for name, id := range map[string]string{"foreign": task.ID, "missing": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"} {
			for range 20 {
				began := time.Now()
				_, err := w.Snapshot(context.Background(), bob, id)
				wantCode(t, err, engine.CodeTaskNotFound)
				if took := time.Since(began); took < grid || took >= grid+grid/4 {
					t.Fatalf("%s: refused after %v", name, took)
				}
			}
		}
	})
}
