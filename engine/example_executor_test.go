package engine_test

import (
	"context"
	"fmt"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// queue is an executor whose tasks are worked on elsewhere: it hands over their
// ids. A channel stands for the system between the processes.
type queue struct{ ids chan string }

func (queue) Bind(*engine.Emitter) {} // no task runs here

// Admit is asked before anything is stored.
func (q queue) Admit(_ context.Context, spec engine.TaskSpec) (engine.Slot, error) {
	if spec.Type != "render" {
		return nil, engine.NewError(engine.CodeInvalidRequest, "unknown task type")
	}
	return q, nil // a slot that holds no place
}

// Submit returns when the other side cannot lose the task any more.
func (q queue) Submit(ctx context.Context, task engine.Task) error {
	select {
	case q.ids <- task.ID:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) // the task is failed, its creator told to try again
	}
}

func (queue) Release() {}

// Cancel has nothing to do: a run's context ends by itself, on whatever node.
func (queue) Cancel(context.Context, engine.Task) error { return nil }

// Tasks that are worked on in another process. On Redis that has an engine of its
// own on the same store, without an executor; here it is the same one.
func ExampleTaskExecutor() {
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		panic(err)
	}
	tasks := queue{ids: make(chan string, 100)}
	eng, err := engine.New(engine.Config{Store: store, Executor: tasks, Ownership: engine.OwnerOnly()})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	defer eng.Shutdown(ctx)

	work := func(id string) error {
		task, err := store.Get(ctx, id, engine.Fresh)
		if err != nil {
			return err
		}
		run, err := eng.Emitter().Open(ctx, task)
		if err != nil {
			return err // TASK_CONFLICT: another worker has it
		}
		defer run.Close(ctx)
		if err := run.Start(ctx); err != nil {
			return err
		}
		run.Text("half of it") // run.Context() ends if the task is cancelled
		return run.Emit(ctx, engine.Completed{Result: "done"})
	}

	ann := engine.AuthContext{Subject: "ann"}
	created, err := eng.Create(ctx, ann, engine.CreateRequest{ClientRequestID: "1", TaskType: "render"})
	if err != nil {
		panic(err)
	}
	if err := work(<-tasks.ids); err != nil {
		panic(err)
	}
	page, err := eng.Poll(ctx, ann, engine.PollRequest{TaskID: created.Task.ID, Wait: time.Minute})
	for _, ev := range page.Events {
		fmt.Println(ev.Type, string(ev.Payload))
	}
	fmt.Println(page.Status, err)
	// Output:
	// TASK_STARTED {}
	// TASK_MESSAGE {"message":"half of it"}
	// TASK_COMPLETED {"result":"done"}
	// COMPLETED <nil>
}
