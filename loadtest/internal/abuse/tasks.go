package abuse

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// createBody is a create request; input is JSON.
func createBody(requestID, taskType, input string) string {
	return fmt.Sprintf(`{"clientRequestId":%q,"taskType":%q,"input":%s}`, requestID, taskType, input)
}

// create makes a task of the attacker's and returns its id, "" if it is refused.
func (a *attacker) create(ctx context.Context, client *http.Client, body string) string {
	status, answer := a.request(ctx, client, http.MethodPost, a.Base+"/tasks", body, a.bearer(), jsonType)
	var created struct {
		TaskID string `json:"taskId"`
	}
	if status == http.StatusCreated || status == http.StatusOK {
		_ = json.Unmarshal(answer, &created)
	}
	return created.TaskID
}

// prepare makes a task that the attack needs.
func (a *attacker) prepare(ctx context.Context, taskType, input string) string {
	client := a.client(1)
	for ctx.Err() == nil {
		if id := a.create(ctx, client, createBody(rand.Text(), taskType, input)); id != "" {
			return id
		}
		rest(ctx, 100*time.Millisecond)
	}
	a.fail(fmt.Errorf("no task of type %q could be made", taskType))
	return ""
}

// await polls a task until seen is true of its page.
func (a *attacker) await(ctx context.Context, id string, seen func(status, next string) bool) {
	client := a.client(1)
	var next string
	for ctx.Err() == nil {
		path := a.Base + "/tasks/" + id + "/events?maxEvents=500&waitTimeoutMs=1000&afterEventId=" + next
		_, answer := a.request(ctx, client, http.MethodGet, path, "", a.bearer())
		var page struct {
			Status           string `json:"status"`
			NextAfterEventID string `json:"nextAfterEventId"`
		}
		if json.Unmarshal(answer, &page) == nil {
			next = page.NextAfterEventID
		}
		if seen(page.Status, next) {
			return
		}
		rest(ctx, 10*time.Millisecond)
	}
}

// end cancels tasks when the attack is over, so that what is left of it is not
// theirs.
func (a *attacker) end(ctx context.Context, client *http.Client, ids ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	for _, id := range ids {
		if id != "" && ctx.Err() == nil {
			a.request(ctx, client, http.MethodPost, a.Base+"/tasks/"+id+"/cancel", "", a.bearer())
		}
	}
}

// padding makes a create large; the demo host ignores it.
func padding(n int) string { return `{"padding":"` + strings.Repeat("x", n) + `"}` }

// largeInput is an input of nearly 1 MiB, the library's limit.
var largeInput = padding(mib - 1024)

func largeCreates(ctx context.Context, a *attacker) {
	n := a.pick(8, 4)
	client := a.client(n)
	var made atomic.Int64
	side(n, func(int) {
		for ctx.Err() == nil && made.Add(1) <= int64(a.pick(1000, 300)) {
			a.create(ctx, client, createBody(rand.Text(), "greet", largeInput))
		}
	})
	<-ctx.Done()
}

func repeatedCreates(ctx context.Context, a *attacker) {
	n := a.pick(8, 4)
	client := a.client(n)
	body := createBody(rand.Text(), "greet", largeInput)
	var made atomic.Int64
	side(n, func(int) {
		for ctx.Err() == nil && made.Add(1) <= 100_000 {
			a.create(ctx, client, body)
		}
	})
	<-ctx.Done()
}

// endlessTasks starts tasks that never end, more than the demo host has workers
// for, and in the end cancels them, so that what is left is not theirs.
func endlessTasks(ctx context.Context, a *attacker) {
	const hands = 16
	client := a.client(hands)
	ids := make([][]string, hands)
	var made atomic.Int64
	side(hands, func(i int) {
		for ctx.Err() == nil && made.Add(1) <= int64(a.pick(12_000, 1280)) {
			if id := a.create(ctx, client, createBody(rand.Text(), "stall", "{}")); id != "" {
				ids[i] = append(ids[i], id)
			}
		}
	})
	<-ctx.Done()
	side(hands, func(i int) { a.end(ctx, client, ids[i]...) })
}
