package fiberbridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/engine/localexec"
)

// runQuestions asks two things at once and completes with the answers.
func runQuestions(ctx context.Context, run *engine.Run, _ struct{}) (map[string]engine.Action, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	answers := map[string]engine.Action{}
	for _, id := range []string{"first", "second"} {
		wg.Go(func() {
			a, err := run.Suspend(ctx, engine.Suspended{
				SuspendID: id, Kind: engine.UserActionRequired, ReasonCode: "test", AllowedActions: []string{"approve", "reject"},
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				answers[id] = a
			}
		})
	}
	wg.Wait()
	if len(answers) < 2 {
		return nil, errors.New("not answered")
	}
	return answers, nil
}

// runBrief asks what expires at once.
func runBrief(ctx context.Context, run *engine.Run, _ struct{}) (any, error) {
	until := time.Now().Add(time.Millisecond)
	_, err := run.Suspend(ctx, engine.Suspended{
		SuspendID: "brief", Kind: engine.UserActionRequired, ReasonCode: "test", AllowedActions: []string{"approve"}, ExpiresAt: &until,
	})
	return nil, err
}

func askingHost(t *testing.T, change func(*hostOptions)) *httpHost {
	t.Helper()
	exec, err := localexec.New(localexec.Config{CancelGrace: time.Second},
		localexec.Handle("questions", runQuestions), localexec.Handle("brief", runBrief), localexec.Handle("ask", runAsk))
	if err != nil {
		t.Fatal(err)
	}
	return newHTTPHost(t, func(o *hostOptions) {
		o.engine.Executor = exec
		if change != nil {
			change(o)
		}
	})
}

func (h *httpHost) act(t testing.TB, taskID, id, suspendID, action, payload string) reply {
	t.Helper()
	if payload == "" {
		payload = "{}"
	}
	return h.do(t, "POST", "/tasks/"+taskID+"/actions", fmt.Sprintf(`{"clientActionId":%q,"suspendId":%q,"actionType":%q,"payload":%s}`, id, suspendID, action, payload))
}

func (h *httpHost) suspended(t testing.TB, taskType string, n int) string {
	t.Helper()
	id := h.create(t, taskType, "")
	eventually(t, func() bool {
		asked := 0
		for _, e := range h.poll(t, id, "").Events {
			if e.Type == "TASK_SUSPENDED" {
				asked++
			}
		}
		return asked == n
	})
	return id
}

func TestAction(t *testing.T) {
	h := askingHost(t, nil)
	id := h.suspended(t, "questions", 2)
	want := func(r reply, status int, body string) {
		t.Helper()
		if r.status != status || !strings.HasPrefix(r.body, body) || r.header.Get("Content-Type") != "application/json" || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v\nwant %d %s", r, status, body)
		}
	}
	answer := func(client, suspension, status string) string {
		return fmt.Sprintf(`{"taskId":%q,"suspendId":%q,"clientActionId":%q,"status":%q}`, id, suspension, client, status)
	}
	refusal := func(code engine.Code, message string) string {
		return fmt.Sprintf(`{"code":%q,"message":%q`, code, message)
	}
	unknown := refusal(engine.CodeTaskNotFound, "no such suspension")
	want(h.act(t, id, "a", "third", "approve", ""), 404, unknown)
	want(h.act(t, id, "a", "third", "dance", ""), 404, unknown)
	want(h.act(t, id, "a", "first", "dance", ""), 409, `{"code":"IDEMPOTENCY_CONFLICT"`)
	want(h.act(t, id, "a", "first", "approve", `{"n":1.0,"m":{"x":"\u00e4"}}`), 202, answer("a", "first", "ACCEPTED"))
	want(h.act(t, id, "a", "first", "approve", `{"m":{"x":"ä"},"n":1}`), 200, answer("a", "first", "DEDUPLICATED"))
	want(h.act(t, id, "a", "first", "approve", `{"n":2}`), 409, `{"code":"IDEMPOTENCY_CONFLICT"`)
	want(h.act(t, id, "a", "first", "reject", `{"n":1,"m":{"x":"ä"}}`), 409, `{"code":"IDEMPOTENCY_CONFLICT"`)
	want(h.act(t, id, "a", "second", "approve", `{"n":1,"m":{"x":"ä"}}`), 409, `{"code":"IDEMPOTENCY_CONFLICT"`)
	want(h.act(t, id, "b", "first", "approve", ""), 202, answer("b", "first", "REJECTED_ALREADY_RESOLVED"))
	want(h.act(t, id, "b", "second", "reject", ""), 202, answer("b", "second", "ACCEPTED"))
	h.until(t, id, "COMPLETED")
	got := result(h.poll(t, id, ""))
	for _, part := range []string{`"actor":"alice"`, `"payload":{"n":1.0,"m":{"x":"\u00e4"}}`, `"clientActionId":"b"`} {
		if !strings.Contains(got, part) {
			t.Errorf("the handler got %s, without %s", got, part)
		}
	}
	want(h.act(t, id, "b", "second", "reject", ""), 200, answer("b", "second", "DEDUPLICATED"))
	want(h.act(t, id, "c", "second", "reject", ""), 202, answer("c", "second", "REJECTED_ALREADY_RESOLVED"))

	brief := h.create(t, "brief", "")
	h.until(t, brief, "FAILED")
	if r := h.act(t, brief, "a", "brief", "approve", ""); r.status != 202 || !strings.Contains(r.body, `"status":"REJECTED_ALREADY_RESOLVED"`) && !strings.Contains(r.body, `"status":"REJECTED_EXPIRED"`) {
		t.Error(r)
	}
}

func TestActionRefusals(t *testing.T) {
	h := askingHost(t, nil)
	id := h.suspended(t, "questions", 2)
	const ok = `{"clientActionId":"a","suspendId":"first","actionType":"approve"}`
	for name, want := range map[string]struct {
		contentType, body string
		status            int
		code              engine.Code
	}{
		"no body":        {"application/json", "", 400, engine.CodeInvalidRequest},
		"malformed":      {"application/json", ok[:30], 400, engine.CodeInvalidRequest},
		"two":            {"application/json", ok + ok, 400, engine.CodeInvalidRequest},
		"invalid UTF-8":  {"application/json", "{\"clientActionId\":\"\xff\"}", 400, engine.CodeInvalidRequest},
		"not JSON":       {"text/plain", ok, 400, engine.CodeInvalidRequest},
		"a form":         {"multipart/form-data; boundary=x", "--x--", 400, engine.CodeInvalidRequest},
		"no type":        {"", ok, 400, engine.CodeInvalidRequest},
		"no object":      {"application/json", "[]", 422, engine.CodeRequestValidation},
		"missing":        {"application/json", "{}", 422, engine.CodeRequestValidation},
		"mistyped":       {"application/json", `{"clientActionId":1,"suspendId":"first","actionType":"approve"}`, 422, engine.CodeRequestValidation},
		"payload":        {"application/json", strings.Replace(ok, "{", `{"payload":[],`, 1), 422, engine.CodeRequestValidation},
		"null payload":   {"application/json", strings.Replace(ok, "{", `{"payload":null,`, 1), 422, engine.CodeRequestValidation},
		"unknown":        {"application/json", strings.Replace(ok, "{", `{"taskId":"x",`, 1), 422, engine.CodeRequestValidation},
		"a long id":      {"application/json", strings.Replace(ok, `"a"`, `"`+strings.Repeat("a", 256)+`"`, 1), 422, engine.CodeRequestValidation},
		"a line break":   {"application/json", strings.Replace(ok, `"a"`, `"a\nb"`, 1), 422, engine.CodeRequestValidation},
		"a large one":    {"application/json", strings.Replace(ok, "{", `{"payload":{"x":"`+strings.Repeat("x", 300<<10)+`"},`, 1), 422, engine.CodeRequestValidation},
		"nested too far": {"application/json", strings.Replace(ok, "{", `{"payload":`+strings.Repeat(`{"a":`, 300)+"1"+strings.Repeat("}", 300)+`,`, 1), 422, engine.CodeRequestValidation},
	} {
		req := newRequest("POST", "/api/v1/tasks/"+id+"/actions", want.body)
		req.Header.Del("Content-Type")
		if want.contentType != "" {
			req.Header.Set("Content-Type", want.contentType)
		}
		if r := h.send(t, req); r.status != want.status || r.code() != want.code {
			t.Errorf("%s: %v", name, r)
		}
	}
	anonymous := newRequest("POST", "/api/v1/tasks/"+id+"/actions", ok)
	anonymous.Header.Del("Authorization")
	if r := h.send(t, anonymous); r.status != 401 {
		t.Error(r)
	}
	if r := h.do(t, "GET", "/tasks/"+id+"/actions", ""); r.status != 405 || r.code() != engine.CodeInvalidRequest {
		t.Error(r)
	}
	// Nothing of that has answered anything.
	if r := h.do(t, "POST", "/tasks/"+id+"/actions", ok); r.status != 202 || !strings.Contains(r.body, "ACCEPTED") {
		t.Error(r)
	}
}

// What a suspension asks for is the validator's to say, and nobody else hears.
func TestActionValidator(t *testing.T) {
	says := error(nil)
	h := askingHost(t, func(o *hostOptions) {
		o.engine.ActionValidator = validator(func(s engine.Suspension, action string, payload json.RawMessage) error {
			if s.SuspendID != "first" || action != "approve" || !json.Valid(payload) {
				t.Errorf("asked about %s %s %s", s.SuspendID, action, payload)
			}
			return says
		})
	})
	id := h.suspended(t, "questions", 2)
	unfit := engine.NewError(engine.CodeRequestValidation, "the payload does not fit")
	unfit.Fields = []engine.FieldError{{Field: "payload.amount", Message: "is required"}}
	says = unfit
	for range 2 { // a refused answer leaves no receipt
		if r := h.act(t, id, "a", "first", "approve", `{"n":1}`); r.status != 422 || !strings.Contains(r.body, `"field":"payload.amount"`) {
			t.Error(r)
		}
	}
	says = errors.New("secret")
	if r := h.act(t, id, "a", "first", "approve", ""); r.status != 500 || strings.Contains(r.body, "secret") {
		t.Error(r)
	}
	says = nil
	if r := h.act(t, id, "a", "first", "approve", `{"n":2}`); r.status != 202 || !strings.Contains(r.body, `"ACCEPTED"`) {
		t.Error(r)
	}
	says = unfit // asked before whether the payload fits: was it the same answer?
	if r := h.act(t, id, "a", "first", "approve", `{"n":2}`); r.status != 200 {
		t.Error(r)
	}
}

type validator func(s engine.Suspension, actionType string, payload json.RawMessage) error

func (v validator) Validate(_ context.Context, _ engine.Task, s engine.Suspension, actionType string, payload json.RawMessage) error {
	return v(s, actionType, payload)
}

// Of two hundred different answers at once one is accepted, one event tells of
// it, and the task goes on once.
func TestActionTogether(t *testing.T) {
	h := askingHost(t, nil)
	base, client := h.listen(t)
	id := h.suspended(t, "questions", 2)
	const n = 200
	counts := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			req, _ := http.NewRequest(http.MethodPost, base+"/tasks/"+id+"/actions",
				strings.NewReader(fmt.Sprintf(`{"clientActionId":"c-%d","suspendId":"first","actionType":"approve","payload":{"n":%d}}`, i, i)))
			req.Header.Set("Authorization", "Bearer alice")
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			var answer struct{ Status string }
			r := read(t, resp)
			_ = json.Unmarshal([]byte(r.body), &answer)
			mu.Lock()
			defer mu.Unlock()
			counts[fmt.Sprint(r.status, answer.Status)]++
		})
	}
	wg.Wait()
	if counts["202ACCEPTED"]+counts["202 ACCEPTED"] != 1 || len(counts) != 2 || counts["202 REJECTED_ALREADY_RESOLVED"]+counts["202REJECTED_ALREADY_RESOLVED"] != n-1 {
		t.Errorf("%v", counts)
	}
	h.act(t, id, "other", "second", "reject", "")
	h.until(t, id, "COMPLETED")
	accepted := 0
	for _, e := range h.poll(t, id, "").Events {
		if e.Type == "TASK_ACTION_ACCEPTED" {
			accepted++
		}
	}
	if accepted != 2 {
		t.Errorf("%d events", accepted)
	}
}
