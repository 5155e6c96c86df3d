// Goclient creates a task, polls until it asks, answers, and polls until it is
// over. The client beside it is generated when the test runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(host string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := NewClientWithResponses(host, WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer ada")
		return nil
	}))
	if err != nil {
		return err
	}
	created, err := client.CreateTaskWithResponse(ctx, CreateTaskJSONRequestBody{
		ClientRequestId: "go-1",
		TaskType:        "approval",
		Input:           &map[string]any{"question": "Ship it?"},
		Metadata:        &map[string]any{"from": "go"},
	})
	if err != nil {
		return err
	}
	if created.JSON201 == nil {
		return fmt.Errorf("create: %s %s", created.Status(), created.Body)
	}
	taskID := created.JSON201.TaskId

	var cursor *string
	wait := 10_000
	for {
		page, err := client.PollEventsWithResponse(ctx, taskID, &PollEventsParams{AfterEventId: cursor, WaitTimeoutMs: &wait})
		if err != nil {
			return err
		}
		if page.JSON200 == nil {
			return fmt.Errorf("poll: %s %s", page.Status(), page.Body)
		}
		for _, event := range page.JSON200.Events {
			switch event.Type {
			case TASKSUSPENDED:
				asked, err := event.Payload.AsPayloadSuspended()
				if err != nil {
					return err
				}
				answer, err := client.SubmitActionWithResponse(ctx, taskID, SubmitActionJSONRequestBody{
					ClientActionId: "go-a1",
					SuspendId:      asked.SuspendId,
					ActionType:     "approve",
					Payload:        &map[string]any{"ticket": 616581622363398},
				})
				if err != nil {
					return err
				}
				if answer.JSON202 == nil || answer.JSON202.Status != ActionResponseStatusACCEPTED {
					return fmt.Errorf("answer: %s %s", answer.Status(), answer.Body)
				}
			case TASKCOMPLETED:
				completed, err := event.Payload.AsPayloadCompleted()
				if err != nil {
					return err
				}
				result, _ := completed.Result.(map[string]any)
				payload, _ := result["payload"].(map[string]any)
				ticket, _ := payload["ticket"].(float64)
				fmt.Printf("COMPLETED %v %.0f\n", result["decision"], ticket)
				return nil
			case TASKFAILED, TASKCANCELLED:
				return errors.New("the task ended with " + string(event.Type))
			}
		}
		cursor = page.JSON200.NextAfterEventId
	}
}
