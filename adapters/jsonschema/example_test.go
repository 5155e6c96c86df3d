package jsonschema_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/taskbridge/taskbridge-fiber/adapters/jsonschema"
	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
)

// A task asks for a limit; an answer without one is refused and leaves the
// question open.
func Example() {
	ctx := context.Background()
	validator, err := jsonschema.New(jsonschema.Config{})
	if err != nil {
		panic(err)
	}
	question := engine.Suspended{
		SuspendID: "limit", Kind: engine.UserActionRequired, ReasonCode: "limit_required", AllowedActions: []string{"approve", "reject"},
		Interaction: json.RawMessage(`{"question":"How much may it cost?","schemas":{"approve":{
			"type":"object","required":["limit"],"properties":{"limit":{"type":"number","exclusiveMinimum":0}}}}}`),
	}
	spend := func(ctx context.Context, run *engine.Run, _ struct{}) (string, error) {
		if err := validator.Check(question); err != nil {
			return "", err
		}
		answer, err := run.Suspend(ctx, question)
		if err != nil {
			return "", err
		}
		return answer.ActionType + " " + string(answer.Payload), nil
	}

	store, err := memstore.New(memstore.Config{})
	if err != nil {
		panic(err)
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("spend", spend))
	if err != nil {
		panic(err)
	}
	eng, err := engine.New(engine.Config{
		Store: store, Executor: exec, Ownership: engine.OwnerOnly(), ActionValidator: validator,
	})
	if err != nil {
		panic(err)
	}
	defer eng.Shutdown(ctx)

	alice := engine.AuthContext{Subject: "alice"}
	created, err := eng.Create(ctx, alice, engine.CreateRequest{ClientRequestID: "r-1", TaskType: "spend"})
	if err != nil {
		panic(err)
	}
	for suspended := false; !suspended; time.Sleep(time.Millisecond) {
		s, err := eng.Snapshot(ctx, alice, created.Task.ID)
		if err != nil {
			panic(err)
		}
		suspended = len(s.Task.Suspensions) > 0
	}
	for _, payload := range []string{`{}`, `{"limit":"all"}`, `{"limit":12.5}`} {
		res, err := eng.Act(ctx, alice, engine.ActionRequest{
			TaskID: created.Task.ID, ClientActionID: "a-1", SuspendID: "limit", ActionType: "approve", Payload: json.RawMessage(payload),
		})
		var refused *engine.Error
		if errors.As(err, &refused) {
			fmt.Println(refused.Code, refused.Fields[0].Field, refused.Fields[0].Message)
			continue
		}
		fmt.Println(res.Status)
	}
	for {
		page, err := eng.Poll(ctx, alice, engine.PollRequest{TaskID: created.Task.ID, Max: 100})
		if err != nil {
			panic(err)
		}
		if last := page.Events[len(page.Events)-1]; last.Type == engine.TypeCompleted {
			fmt.Println(string(last.Payload))
			return
		}
		time.Sleep(time.Millisecond)
	}
	// Output:
	// REQUEST_VALIDATION_ERROR payload missing property 'limit'
	// REQUEST_VALIDATION_ERROR payload.limit got string, want number
	// ACCEPTED
	// {"result":"approve {\"limit\":12.5}"}
}
