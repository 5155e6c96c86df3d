package enginetest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/enginetest"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// A host tests what its clients see of a task without running one: the test
// itself says what happens, and when.
func ExampleExecutor() {
	t := new(testing.T) // a test has its own
	ctx := context.Background()
	auth := engine.AuthContext{Subject: "ann"}

	store, err := memstore.New(memstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	exec := enginetest.NewExecutor()
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Shutdown(ctx)

	res, err := eng.Create(ctx, auth, engine.CreateRequest{
		ClientRequestID: "1", TaskType: "summarise", Input: json.RawMessage(`{"text":"…"}`),
	})
	if err != nil {
		t.Fatal(err)
	}

	run := exec.Next(t) // the task waits for what comes now
	_ = run.Start(ctx)
	_ = run.Progress(ctx, 50, "half way")
	poll(ctx, eng, auth, res.Task.ID)

	_, _ = eng.Cancel(ctx, auth, res.Task.ID, "changed my mind")
	<-run.Context().Done()
	fmt.Println(context.Cause(run.Context()))
	_ = run.Emit(ctx, engine.Cancelled{Reason: "changed my mind"})
	poll(ctx, eng, auth, res.Task.ID)

	// Output:
	// RUNNING, 2 events
	// cancellation requested: changed my mind
	// CANCELLED, 3 events
}

func poll(ctx context.Context, eng *engine.Engine, auth engine.AuthContext, taskID string) {
	res, err := eng.Poll(ctx, auth, engine.PollRequest{TaskID: taskID, Wait: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, %d events\n", res.Status, len(res.Events))
}
