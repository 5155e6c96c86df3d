package conformance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/internal/intime"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/host"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// recovery is how long a task of a process that was killed may take to go on:
// its lease has to run out first (30 s, and a third).
const recovery = 75 * time.Second

// goesOn waits for the end and checks that the task was answered, and went on,
// once.
func goesOn(t *testing.T, c *client.Client, task, decision string) {
	t.Helper()
	after, log := "", []client.Event(nil)
	for deadline := time.Now().Add(recovery); ; {
		page := c.Poll(task, client.Poll{After: after, Wait: time.Second})
		if log = append(log, page.Events...); len(log) > 0 && log[len(log)-1].Terminal() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no end in %v; status %s, events %s", recovery, page.Status, client.IDs(log))
		}
		if page.NextAfterEventID != nil {
			after = *page.NextAfterEventID
		}
	}
	client.CheckLog(t, task, log, 1)
	var types []string
	restarts := 0
	for _, e := range log {
		var p struct{ Restarts int }
		if err := json.Unmarshal(e.Payload, &p); err != nil {
			t.Fatal(err)
		}
		if p.Restarts > 0 {
			if restarts++; e.Type != "TASK_STARTED" || p.Restarts != restarts {
				t.Errorf("restart %d is %s", restarts, e)
			}
			continue
		}
		types = append(types, e.Type)
	}
	if got := strings.Join(types, " "); got != "TASK_STARTED TASK_SUSPENDED TASK_ACTION_ACCEPTED TASK_COMPLETED" {
		t.Fatalf("events %s", got)
	}
	if restarts == 0 {
		t.Errorf("nothing says that the task was begun again: %s", client.IDs(log))
	}
	if last := log[len(log)-1]; !strings.Contains(string(last.Payload), `"decision":"`+decision+`"`) {
		t.Errorf("%s", last.Payload)
	}
}

// kill ends a host without a word.
func kill(t *testing.T, h *host.Host) {
	t.Helper()
	if err := h.Kill(); err != nil {
		t.Error(err)
	}
}

// A question outlives every process: asked before, answered after.
func TestSuspensionSurvivesARestartOfEverything(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, h *host.Host){
		"killed": kill,
		"drained": func(t *testing.T, h *host.Host) {
			if err := h.Terminate(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), client.Patience)
			defer cancel()
			if code, err := h.Wait(ctx); err != nil || code != 0 {
				t.Fatalf("%d %v", code, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flags := []string{"-redis", "redis://" + redistest.Server(t).Addr(), "-drain", "2s"}
			first, c := start(t, flags...)
			task, suspend, _ := service{Client: c}.suspended(t, `{"question":"Still there?","expiresInMs":600000}`)
			end(t, first)

			second := client.New(t, host.Start(t, flags...).URL, c.Subject)
			if open := second.Snapshot(task).Suspensions; len(open) != 1 {
				t.Fatalf("%d open suspensions", len(open))
			}
			acted(t, second.Post(actions(task), action("a", suspend, "approve", `{}`)), 202, task, suspend, "a", "ACCEPTED")
			goesOn(t, second, task, "approve")
			acted(t, second.Post(actions(task), action("a", suspend, "approve", `{}`)), 200, task, suspend, "a", "DEDUPLICATED")
		})
	}
}

// The host that took the answer dies at once, and so does the one that ran the
// task: a third goes on with it, once.
func TestAnswerSurvivesWhoTookIt(t *testing.T) {
	t.Parallel()
	flags := []string{"-redis", "redis://" + redistest.Server(t).Addr()}
	worker, c := start(t, flags...)
	taker := host.Start(t, flags...)
	task, suspend, _ := service{Client: c}.suspended(t, `{}`)
	kill(t, worker)
	acted(t, client.New(t, taker.URL, c.Subject).Post(actions(task), action("a", suspend, "reject", `{}`)), 202, task, suspend, "a", "ACCEPTED")
	kill(t, taker)
	goesOn(t, client.New(t, host.Start(t, flags...).URL, c.Subject), task, "reject")
}

// Nobody answers, and nobody was there when the time was over: the next process
// ends it within two seconds.
func TestSuspensionExpiresWhileNobodyIsThere(t *testing.T) {
	t.Parallel()
	flags := []string{"-redis", "redis://" + redistest.Server(t).Addr()}
	var c *client.Client
	var task, suspend string
	var expires time.Time
	intime.Try(t, 1500*time.Millisecond, func(life time.Duration) bool {
		var first *host.Host
		first, c = start(t, flags...)
		task, suspend, expires = service{Client: c}.suspended(t, fmt.Sprintf(`{"expiresInMs":%d}`, life.Milliseconds()))
		kill(t, first)
		return time.Now().Before(expires)
	})
	time.Sleep(time.Until(expires)) // the time itself is what is waited for
	second := client.New(t, host.Start(t, flags...).URL, c.Subject)
	listening := time.Now()
	log := second.PollToEnd(task, "")
	if last := log[len(log)-1]; last.Type != "TASK_FAILED" || !strings.Contains(string(last.Payload), "SUSPENSION_EXPIRED") || last.CreatedAt.Sub(listening) > busy(2*time.Second) {
		t.Errorf("%s %s, %v after there was somebody", last.Type, last.Payload, last.CreatedAt.Sub(listening))
	}
	acted(t, second.Post(actions(task), action("a", suspend, "approve", `{}`)), 202, task, suspend, "a", "REJECTED_ALREADY_RESOLVED")
}
