package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

type pages struct {
	Page int
	Seen map[string]any `json:",omitempty"`
}

// counting is a handler as one should be that goes on from its checkpoint: it
// saves every second page with the event that tells of it.
func counting(last int, stop func(page int, run *engine.Run) error) func(context.Context, *engine.Run, struct{}) (int, error) {
	return func(ctx context.Context, run *engine.Run, _ struct{}) (int, error) {
		var done pages
		if _, err := run.Saved(&done); err != nil {
			return 0, err
		}
		for page := done.Page + 1; page <= last; page++ {
			if err := stop(page, run); err != nil {
				return 0, err
			}
			told := engine.Message{Text: fmt.Sprint("page ", page)}
			if page%2 == 1 {
				run.Stream(told)
				continue
			}
			if err := run.Save(ctx, pages{Page: page}, told); err != nil {
				return 0, err
			}
		}
		return last, nil
	}
}

func wordsOf(events []engine.Event) (out []string) {
	for _, ev := range events {
		switch ev.Type {
		case engine.TypeMessage:
			out = append(out, strings.TrimSuffix(strings.TrimPrefix(string(ev.Payload), `{"message":"`), `"}`))
		case engine.TypeStarted:
			out = append(out, string(ev.Payload))
		default:
			out = append(out, strings.TrimPrefix(string(ev.Type), "TASK_"))
		}
	}
	return out
}

// A handler whose process is lost goes on from its checkpoint on another node, and
// clients are told from where.
func TestRestartFromTheCheckpoint(t *testing.T) {
	dead := 0
	var fleetOf *fleet
	newFleet(t, 1, func(f *fleet) {
		fleetOf = f
		task := f.nodes[0].create(t, "count")
		for range 3 {
			time.Sleep(2 * leaseTTL)
			f.join()
		}
		time.Sleep(2 * leaseTTL)
		events := f.nodes[0].events(t, task.ID)
		at := func(i int) string { return events[i].ID.String() }
		want := []string{
			`{}`, "page 1", "page 2", "page 3",
			`{"restarts":1,"resumesAfter":"` + at(2) + `"}`, "page 3", "page 4", "page 5",
			`{"restarts":2,"resumesAfter":"` + at(6) + `"}`, "page 5", "page 6", "page 7", "page 8", "COMPLETED",
		}
		if got := wordsOf(events); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("the log is\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}, localexec.Handle("count", counting(8, func(page int, run *engine.Run) error {
		if page == 4+2*dead && dead < 2 { // with page 3, or 5, behind the checkpoint
			if err := run.Flush(context.Background()); err != nil {
				return err
			}
			dead++
			nodes := fleetOf.all()
			fleetOf.die(nodes[len(nodes)-1])
		}
		return nil
	}), localexec.Restartable()))
}

// A shutdown hands the checkpoint over, too.
func TestShutdownHandsTheCheckpointOver(t *testing.T) {
	told := false
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "count")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err := f.nodes[0].Shutdown(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(leaseTTL / 3)
		events := f.nodes[1].events(t, task.ID)
		want := `{}|page 1|page 2|page 3|{"restarts":1,"resumesAfter":"` + events[2].ID.String() + `"}|page 3|page 4|COMPLETED`
		if got := strings.Join(wordsOf(events), "|"); got != want {
			t.Errorf("the log is %s, want %s", got, want)
		}
	}, localexec.Handle("count", counting(4, func(page int, run *engine.Run) error {
		if page == 4 && !told {
			told = true
			<-run.Context().Done()
			return context.Cause(run.Context())
		}
		return nil
	}), localexec.Restartable()))
}

// After an answer that came while the task had no process, the handler finds both:
// its checkpoint and the answer.
func TestCheckpointAndAnswer(t *testing.T) {
	var saw []string
	newFleet(t, 2, func(f *fleet) {
		task := f.nodes[0].create(t, "ask")
		synctest.Wait()
		f.die(f.nodes[0])
		time.Sleep(2 * leaseTTL)
		res, err := f.nodes[1].act(task.ID, "s", "c", "yes", "")
		wantStatus(t, res, err, engine.ActionStatusAccepted)
		synctest.Wait()
		events := f.wantLog(task, "STARTED", "MESSAGE", "SUSPENDED", "ACTION_ACCEPTED", "RESTARTED", "COMPLETED")
		if got, want := string(events[4].Payload), `{"restarts":1,"resumesAfter":"`+events[1].ID.String()+`"}`; got != want {
			t.Errorf("it says %s, want %s", got, want)
		}
		if got := strings.Join(saw, ", "); got != "false 0, true 7 yes" {
			t.Errorf("the handler saw %s", got)
		}
	}, localexec.Handle("ask", func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		var p pages
		had, err := run.Saved(&p)
		if err != nil {
			return "", err
		}
		if !had {
			saw = append(saw, fmt.Sprint(had, " ", p.Page))
			if err := run.Save(ctx, pages{Page: 7}, engine.Message{Text: "m"}); err != nil {
				return "", err
			}
		}
		answer, err := run.Suspend(ctx, question("s"))
		if err != nil {
			return "", err
		}
		saw = append(saw, fmt.Sprint(had, " ", p.Page, " ", answer.ActionType))
		return "done", nil
	}, localexec.Restartable()))
}

// A checkpoint stands for all that was streamed before it, and for nothing that was
// streamed after it, whatever batches that makes.
func TestSaveIsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		task := w.task(t)
		run, err := w.Emitter().Open(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = run.Close(context.Background()) }()
		if err := run.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.slow(10 * time.Millisecond) // so that batches form
		saved := make(chan error, 20)
		for i := range 20 {
			run.Stream(engine.Message{Text: fmt.Sprint("s", i)})
			run.Text(fmt.Sprint("t", i))
			go func() { saved <- run.Save(t.Context(), i, engine.Message{Text: fmt.Sprint("saved ", i)}) }()
			synctest.Wait() // it is behind what is being stored
			run.Stream(engine.Message{Text: "after"})
			if err := <-saved; err != nil {
				t.Fatal(err)
			}
			c, err := w.store.Checkpoint(t.Context(), task.ID)
			if err != nil || string(c.Data) != fmt.Sprint(i) {
				t.Fatalf("the checkpoint is %s, %v", c.Data, err)
			}
			for _, ev := range w.events(t, task.ID) {
				if ev.ID == c.At && string(ev.Payload) != fmt.Sprintf(`{"message":"saved %d"}`, i) {
					t.Errorf("it is at %s", ev.Payload)
				}
			}
		}
		var n int
		if had, err := run.Saved(&n); !had || err != nil || n != 19 {
			t.Errorf("the run itself has %v, %v, %d", had, err, n)
		}
	})
}

func TestSaveRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.Limits.CheckpointBytes = 100 })
		run, err := w.Emitter().Open(t.Context(), w.task(t))
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		var v any
		if had, err := run.Saved(&v); had || err != nil || v != nil {
			t.Errorf("Saved before Save: %v, %v", had, err)
		}
		if err := run.Save(ctx, map[string]any{"id": json.Number("616581622363398142"), "html": "<b>&"}); err != nil {
			t.Fatal(err)
		}
		for what, c := range map[string]struct {
			v       any
			with    engine.Payload
			field   string
			message string
		}{
			"too large":                   {strings.Repeat("x", 99), engine.Message{Text: "m"}, "checkpoint", "is 101 bytes long, at most 100 are allowed"},
			"a channel":                   {make(chan int), engine.Message{Text: "m"}, "checkpoint", "cannot be encoded as JSON"},
			"broken raw JSON":             {json.RawMessage(`{"a"`), engine.Message{Text: "m"}, "checkpoint", "cannot be encoded as JSON"},
			"a terminal event":            {1, engine.Completed{}, "type", "ends the task, and its checkpoint with it"},
			"a payload that does not fit": {1, engine.Progress{Percent: 101}, "progress", "must be a number from 0 to 100"},
		} {
			e := wantCode(t, run.Save(ctx, c.v, c.with), engine.CodeRequestValidation)
			if e == nil || len(e.Fields) != 1 || e.Fields[0].Field != c.field || e.Fields[0].Message != c.message {
				t.Errorf("%s: %+v", what, e)
			}
		}
		if had, err := run.Saved(&v); !had || err != nil || fmt.Sprint(v) != "map[html:<b>& id:616581622363398142]" {
			t.Errorf("the checkpoint before is %v, %v, %v", had, err, v)
		}
		var wrong []string
		if had, err := run.Saved(&wrong); had || engine.CodeOf(err) != engine.CodeInternal {
			t.Errorf("of another type: %v, %v", had, err)
		}
		if n := len(w.events(t, run.Task().ID)); n != 0 {
			t.Errorf("%d events", n)
		}
		if err := run.Emit(ctx, engine.Completed{}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, run.Save(ctx, 1), engine.CodeTaskAlreadyTerminal)
		_ = run.Close(ctx)

		// After something streamed was lost, the state that it was part of is no
		// checkpoint.
		run, err = w.Emitter().Open(ctx, w.task(t))
		if err != nil {
			t.Fatal(err)
		}
		run.Stream(engine.Progress{Percent: -1})
		wantCode(t, run.Save(ctx, 1), engine.CodeRequestValidation)
		_ = run.Close(ctx)
	})
}

// noCheckpoints is a store without that power.
type noCheckpoints struct{ engine.Store }

func (s noCheckpoints) Close() error { return s.Store.(io.Closer).Close() }

func TestSaveOnAStoreWithoutCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *engine.Config, _ *memstore.Config) { c.Store = noCheckpoints{c.Store} })
		run, err := w.Emitter().Open(t.Context(), w.task(t))
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, run.Save(t.Context(), 1, engine.Message{Text: "m"}), engine.CodeInternal)
		if n := len(w.events(t, run.Task().ID)); n != 0 {
			t.Errorf("%d events", n)
		}
		_ = run.Close(context.Background())
	})
}

// A worker that was taken for dead saves nothing, whatever it believes.
func TestLostWorkerSavesNothing(t *testing.T) {
	var late error
	newFleet(t, 1, func(f *fleet) {
		task := f.nodes[0].create(t, "x")
		synctest.Wait()
		f.die(f.nodes[0])
		n := f.join()
		time.Sleep(2 * leaseTTL)
		f.nodes[0].way.setCut(false)
		time.Sleep(leaseTTL)
		f.wantLog(task, "STARTED", "RESTARTED", "COMPLETED")
		if !errors.Is(late, engine.ErrLeaseLost) {
			t.Errorf("its Save gave %v", late)
		}
		_ = n
	}, localexec.Handle("x", func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		var v string
		had, err := run.Saved(&v)
		if err != nil || had {
			return v, err
		}
		if err := run.Save(ctx, "first"); err != nil {
			return "", err
		}
		if !run.Restarted() {
			<-ctx.Done()
			late = run.Save(context.Background(), "late", engine.Message{Text: "late"})
		}
		return "", context.Cause(ctx)
	}, localexec.Restartable()))
}
