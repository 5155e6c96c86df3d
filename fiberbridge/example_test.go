package fiberbridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
	"github.com/taskbridge/taskbridge-fiber/engine/memstore"
	"github.com/taskbridge/taskbridge-fiber/fiberbridge"
)

// Input is what a "summarise" task works on, Result what it gives.
type Input struct {
	Text string `json:"text"`
}

// Result is the result of a "summarise" task.
type Result struct {
	Words int `json:"words"`
}

// The whole wiring: a store, an executor with the host's handlers, the engine,
// and the bridge in the host's own Fiber app.
func Example() {
	store, err := memstore.New(memstore.Config{})
	if err != nil {
		log.Fatal(err)
	}
	exec, err := localexec.New(localexec.Config{}, localexec.Handle("summarise", summarise))
	if err != nil {
		log.Fatal(err)
	}
	eng, err := engine.New(engine.Config{Store: store, Executor: exec, Ownership: engine.OwnerOnly()})
	if err != nil {
		log.Fatal(err)
	}
	bridge, err := fiberbridge.New(fiberbridge.Config{Engine: eng, Auth: authFromToken})
	if err != nil {
		log.Fatal(err)
	}

	app := fiber.New(fiber.Config{
		ErrorHandler:                 bridge.ErrorHandler(nil),
		StreamRequestBody:            true, // both: uploads pass through without being held
		DisablePreParseMultipartForm: true,
	})
	app.Server().ReadTimeout = 10 * time.Second                // Fiber has none: nobody holds a connection by sending a byte now and then
	if err := bridge.Mount(app.Group("/api/v1")); err != nil { // routes below the base path
		log.Fatal(err)
	}
	if err := bridge.MountHealth(app); err != nil {
		log.Fatal(err)
	}

	// A host listens here, until it is told to stop. This one asks itself.
	var task struct{ TaskID, Status string }
	request(app, "POST", "/api/v1/tasks", `{"clientRequestId":"r-1","taskType":"summarise","input":{"text":"to be or not"}}`, &task)
	fmt.Println(task.Status)

	var cursor string
	for seen := ""; seen != "TASK_COMPLETED"; {
		var page struct {
			Events []struct {
				Type    string
				Payload json.RawMessage
			}
			NextAfterEventID string
		}
		request(app, "GET", "/api/v1/tasks/"+task.TaskID+"/events?waitTimeoutMs=10000&afterEventId="+cursor, "", &page)
		for _, e := range page.Events {
			fmt.Println(e.Type, string(e.Payload))
			seen = e.Type
		}
		cursor = page.NextAfterEventID
	}

	// Drains streams, then engine and executor, then closes the store.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	err = bridge.Shutdown(ctx)
	cancel()
	if err != nil {
		log.Fatal(err)
	}

	// Output:
	// ACCEPTED
	// TASK_STARTED {}
	// TASK_MESSAGE {"message":"4 words"}
	// TASK_PROGRESS {"progress":90,"stage":"checking"}
	// TASK_COMPLETED {"result":{"words":4}}
}

func summarise(ctx context.Context, run *engine.Run, in Input) (Result, error) {
	words := len(strings.Fields(in.Text))
	run.Text(fmt.Sprint(words, " words"))                   // streamed: never waits for the store
	return Result{words}, run.Progress(ctx, 90, "checking") // durable when it returns
}

// authFromToken stands for the host's own authentication: it believes any name.
func authFromToken(c *fiber.Ctx) (engine.AuthContext, error) {
	subject, ok := strings.CutPrefix(c.Get(fiber.HeaderAuthorization), "Bearer ")
	if !ok {
		return engine.AuthContext{}, engine.NewError(engine.CodeAuthentication, "a bearer token is required")
	}
	return engine.AuthContext{Subject: subject}, nil
}

func request(app *fiber.App, method, path, body string, answer any) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer alice")
	req.Header.Set("Content-Type", "application/json")
	resp, err := app.Test(req, -1)
	if err != nil {
		log.Fatal(err)
	}
	err = json.NewDecoder(resp.Body).Decode(answer)
	_ = resp.Body.Close()
	if err != nil {
		log.Fatal(err)
	}
}
