package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// A handler asks; whoever may, answers, through Engine.Act or the route that
// calls it.
func ExampleRun_Suspend() {
	publish := func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		deadline := time.Now().Add(48 * time.Hour)
		answer, err := run.Suspend(ctx, engine.Suspended{
			SuspendID:      "publish",
			Kind:           engine.UserActionRequired,
			ReasonCode:     "publish",
			AllowedActions: []string{"approve", "reject"},
			ExpiresAt:      &deadline,
			Default:        &engine.DefaultAction{ActionType: "reject"},
		})
		if err != nil {
			return "", err
		}
		return answer.ActionType + " by " + answer.Actor, nil
	}
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		panic(err)
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("publish", publish, localexec.Restartable()))
	if err != nil {
		panic(err)
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	defer eng.Shutdown(ctx)

	ann := engine.AuthContext{Subject: "ann"}
	created, err := eng.Create(ctx, ann, engine.CreateRequest{ClientRequestID: "1", TaskType: "publish"})
	if err != nil {
		panic(err)
	}
	var cursor engine.EventID
	for {
		page, err := eng.Poll(ctx, ann, engine.PollRequest{TaskID: created.Task.ID, After: cursor, Wait: time.Minute})
		if err != nil {
			panic(err)
		}
		for _, ev := range page.Events {
			fmt.Println(ev.Type)
			switch ev.Type {
			case engine.TypeSuspended:
				answered, err := eng.Act(ctx, ann, engine.ActionRequest{
					TaskID: ev.TaskID, ClientActionID: "a-1", SuspendID: "publish", ActionType: "approve", Payload: json.RawMessage(`{}`),
				})
				fmt.Println(answered.Status, err)
			case engine.TypeCompleted:
				fmt.Println(string(ev.Payload))
				return
			}
		}
		cursor = page.Next
	}
	// Output:
	// TASK_STARTED
	// TASK_SUSPENDED
	// ACCEPTED <nil>
	// TASK_ACTION_ACCEPTED
	// TASK_COMPLETED
	// {"result":"approve by ann"}
}
