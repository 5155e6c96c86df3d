package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(tidy{m},
		// fasthttp's pool of a server that is shut down sleeps for up to 10 s
		// before it looks.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		// Its clock for the Date header never ends.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// rueidis may be about to look at a topology for 1 s.
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
	)
}

// tidy runs the tests and then brings to their end the hosts whose drain, of a
// fifth of a second, was too short for that.
type tidy struct{ *testing.M }

func (t tidy) Run() int {
	var mu sync.Mutex
	var hosts []*host
	left = func(h *host) {
		mu.Lock()
		defer mu.Unlock()
		hosts = append(hosts, h)
	}
	code := t.M.Run()
	mu.Lock()
	defer mu.Unlock()
	for _, h := range hosts {
		_ = h.shutdown(patience) // what it left is for goleak to say
	}
	return code
}

// patience bounds every wait for something that should happen.
const patience = 2 * time.Minute // only a failure meets it

// demo is a host that run serves in this process.
type demo struct {
	t       *testing.T
	url     string
	signals chan os.Signal
	exit    chan int
	stderr  *bytes.Buffer // to be read after the exit
}

// client keeps no connection.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func serve(t *testing.T, flags ...string) *demo {
	t.Helper()
	d := &demo{t: t, signals: make(chan os.Signal, 2), exit: make(chan int, 1), stderr: &bytes.Buffer{}}
	stdout, write := io.Pipe()
	go func() {
		code := run(append([]string{"-addr", "127.0.0.1:0", "-drain", "200ms"}, flags...), environment(), write, d.stderr, d.signals)
		_ = write.CloseWithError(fmt.Errorf("exit code %d", code))
		d.exit <- code
	}()
	line := make([]byte, 200)
	n, err := stdout.Read(line)
	if err != nil {
		t.Fatalf("%v: %s", err, d.stderr.String())
	}
	var found bool
	d.url, found = strings.CutPrefix(strings.TrimSpace(string(line[:n])), "listening on ")
	if !found {
		t.Fatalf("it said %q", line[:n])
	}
	t.Cleanup(func() {
		select {
		case d.signals <- os.Interrupt:
		default: // it has been told
		}
		d.waitExit()
	})
	return d
}

// waitExit waits for the end and returns the exit code.
func (d *demo) waitExit() int {
	d.t.Helper()
	select {
	case code := <-d.exit:
		d.exit <- code
		return code
	case <-time.After(patience):
		d.t.Fatal("it does not exit")
		return -1
	}
}

// post sends a create request and returns the status and the body.
func (d *demo) post(taskType, input string) (int, map[string]any) {
	d.t.Helper()
	body := fmt.Sprintf(`{"clientRequestId":"%d","taskType":%q,"input":%s}`, time.Now().UnixNano(), taskType, input)
	request, err := http.NewRequest(http.MethodPost, d.url+"/api/v1/tasks", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	return d.do(request)
}

func (d *demo) do(request *http.Request) (int, map[string]any) {
	d.t.Helper()
	request.Header.Set("Authorization", "Bearer alice")
	response, err := client.Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		d.t.Fatalf("%s: %s", response.Status, body)
	}
	return response.StatusCode, answer
}

type event struct {
	Type    string
	EventID string
	Payload map[string]any
}

// start creates a task.
func (d *demo) start(taskType, input string) (taskID string) {
	d.t.Helper()
	status, answer := d.post(taskType, input)
	if status != http.StatusCreated {
		d.t.Fatalf("%d: %v", status, answer)
	}
	return answer["taskId"].(string)
}

// events polls until the task has at least n events or is over.
func (d *demo) events(taskID string, n int) []event {
	d.t.Helper()
	var all []event
	after := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		request, err := http.NewRequest(http.MethodGet,
			fmt.Sprintf("%s/api/v1/tasks/%s/events?maxEvents=500&waitTimeoutMs=1000&afterEventId=%s", d.url, taskID, after), nil)
		if err != nil {
			d.t.Fatal(err)
		}
		status, answer := d.do(request)
		if status != http.StatusOK {
			d.t.Fatalf("%d: %v", status, answer)
		}
		raw, err := json.Marshal(answer["events"])
		if err != nil {
			d.t.Fatal(err)
		}
		var page []event
		if err := json.Unmarshal(raw, &page); err != nil {
			d.t.Fatal(err)
		}
		all = append(all, page...)
		if len(all) > 0 {
			last := all[len(all)-1]
			after = last.EventID
			over := last.Type == "TASK_COMPLETED" || last.Type == "TASK_FAILED" || last.Type == "TASK_CANCELLED"
			if over || n > 0 && len(all) >= n {
				return all
			}
		}
	}
	d.t.Fatalf("only %d events: %v", len(all), all)
	return nil
}

func types(events []event) string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = strings.TrimPrefix(e.Type, "TASK_")
	}
	return strings.Join(names, " ")
}

func TestTaskTypes(t *testing.T) {
	d := serve(t)
	for _, c := range []struct {
		name, taskType, input string
		types                 string
		last                  string // JSON of the last payload
	}{
		{
			"greet", "greet", `{"name":"Ada","ignored":1}`,
			"STARTED PROGRESS PROGRESS PROGRESS COMPLETED", `{"result":{"greeting":"Hello, Ada!"}}`,
		},
		{
			"greet nobody", "greet", `{}`,
			"STARTED PROGRESS PROGRESS PROGRESS COMPLETED", `{"result":{"greeting":"Hello, world!"}}`,
		},
		{"no tokens", "tokens", `{"count":0}`, "STARTED COMPLETED", `{"result":{"tokens":0}}`},
		{
			"tokens", "tokens", `{"count":3,"size":5,"intervalMs":1,"startDelayMs":1}`,
			"STARTED MESSAGE MESSAGE MESSAGE COMPLETED", `{"result":{"tokens":3}}`,
		},
		{
			"approval that expires", "approval", `{"question":"Well?","expiresInMs":50}`,
			"STARTED SUSPENDED FAILED", `{"code":"SUSPENSION_EXPIRED","message":"nobody answered in time","retryable":false}`,
		},
		{
			"fail at once", "fail", `{"code":"C","message":"m","retryable":true}`,
			"STARTED FAILED", `{"code":"C","message":"m","retryable":true}`,
		},
		{
			"fail after steps", "fail", `{"code":"C","message":"m","afterSteps":2}`,
			"STARTED PROGRESS PROGRESS FAILED", `{"code":"C","message":"m","retryable":false}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := d.events(d.start(c.taskType, c.input), 0)
			if types(got) != c.types {
				t.Fatalf("events %s, want %s", types(got), c.types)
			}
			last, err := json.Marshal(got[len(got)-1].Payload)
			if err != nil {
				t.Fatal(err)
			}
			if string(last) != c.last {
				t.Errorf("ends with %s, want %s", last, c.last)
			}
		})
	}
}

func TestTokensAreExact(t *testing.T) {
	d := serve(t)
	for _, size := range []int{0, 1, 8, 101, 262_000} {
		count := 40
		if size > 1000 {
			count = 3
		}
		got := d.events(d.start("tokens", fmt.Sprintf(`{"count":%d,"size":%d}`, count, size)), 0)
		if len(got) != count+2 {
			t.Fatalf("size %d: %s", size, types(got))
		}
		var whole strings.Builder
		for _, e := range got[1 : count+1] {
			text, _ := e.Payload["message"].(string)
			if e.Type != "TASK_MESSAGE" || len(text) != size {
				t.Fatalf("a %s of %d bytes, want %d", e.Type, len(text), size)
			}
			whole.WriteString(text)
		}
		if want := strings.Repeat(passage, 1+count*size/len(passage))[:count*size]; whole.String() != want {
			t.Errorf("size %d: the tokens do not read on: %.300q", size, whole.String())
		}
	}
}

func TestTokensKeepTheirIntervals(t *testing.T) {
	d := serve(t)
	start := time.Now()
	d.events(d.start("tokens", `{"count":11,"intervalMs":20,"startDelayMs":100}`), 0)
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

func TestApprovalAsks(t *testing.T) {
	d := serve(t)
	taskID := d.start("approval", `{"question":"Shall we?","expiresInMs":60000}`)
	suspended := d.events(taskID, 2)[1]
	payload := suspended.Payload
	expires, err := time.Parse(time.RFC3339, fmt.Sprint(payload["expiresAt"]))
	if err != nil || time.Until(expires) < 50*time.Second || time.Until(expires) > 61*time.Second {
		t.Errorf("expiresAt %v: %v", payload["expiresAt"], err)
	}
	delete(payload, "expiresAt")
	if id, _ := payload["suspendId"].(string); id == "" {
		t.Error("no suspendId")
	}
	delete(payload, "suspendId")
	got, _ := json.Marshal(payload)
	const want = `{"allowedActions":["approve","reject"],"interaction":{"question":"Shall we?"},` +
		`"kind":"USER_ACTION_REQUIRED","reasonCode":"approval_required","schemaVersion":1}`
	if suspended.Type != "TASK_SUSPENDED" || string(got) != want {
		t.Errorf("%s %s", suspended.Type, got)
	}
}

func TestEachWaitingTaskCanBeCancelled(t *testing.T) {
	d := serve(t)
	for taskType, input := range map[string]string{
		"stall":    `{}`,
		"approval": `{}`,
		"tokens":   `{"count":1000,"intervalMs":1000}`,
	} {
		t.Run(taskType, func(t *testing.T) {
			taskID := d.start(taskType, input)
			d.events(taskID, 1)
			request, err := http.NewRequest(http.MethodPost, d.url+"/api/v1/tasks/"+taskID+"/cancel", strings.NewReader(`{"reason":"enough"}`))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			if status, answer := d.do(request); status != http.StatusAccepted {
				t.Fatalf("%d: %v", status, answer)
			}
			all := d.events(taskID, 0)
			if last := all[len(all)-1]; last.Type != "TASK_CANCELLED" || last.Payload["reason"] != "enough" {
				t.Errorf("%s %v", last.Type, last.Payload)
			}
		})
	}
}

func TestInputsOutOfBounds(t *testing.T) {
	d := serve(t)
	for _, c := range []struct{ taskType, input, naming string }{
		{"tokens", `{"count":-1}`, "count"},
		{"tokens", `{"count":1000001}`, "count"},
		{"tokens", `{"count":"3"}`, "count"},
		{"tokens", `{"count":2.5}`, "count"},
		{"tokens", `{"count":1,"intervalMs":-1}`, "intervalMs"},
		{"tokens", `{"count":1,"intervalMs":3600001}`, "intervalMs"},
		{"tokens", `{"count":1,"size":-1}`, "size"},
		{"tokens", `{"count":1,"size":262001}`, "size"},
		{"tokens", `{"count":1,"startDelayMs":-1}`, "startDelayMs"},
		{"greet", `{"name":7}`, "name"},
		{"greet", `{"name":"` + strings.Repeat("a", maxName+1) + `"}`, "name"},
		{"approval", `{"expiresInMs":0}`, "expiresInMs"},
		{"approval", `{"question":[]}`, "question"},
		{"fail", `{"afterSteps":-1}`, "afterSteps"},
		{"fail", `{"retryable":"yes"}`, "retryable"},
		{"dance", `{}`, "unknown task type"},
	} {
		status, answer := d.post(c.taskType, c.input)
		message, _ := answer["message"].(string)
		if status != http.StatusBadRequest || answer["code"] != "INVALID_REQUEST" || !strings.Contains(message, c.naming) {
			t.Errorf("%s %.40s: %d %v", c.taskType, c.input, status, answer)
		}
	}
}

func TestCheckJoinsFindings(t *testing.T) {
	if err := check(nil, nil); err != nil {
		t.Error(err)
	}
	if err := check(errors.New("a"), nil, errors.New("b")); err == nil || err.Error() != "a; b" {
		t.Error(err)
	}
}

func TestTokenAllocatesNothing(t *testing.T) {
	p := newProse(64)
	i, total := 0, 0
	if n := testing.AllocsPerRun(100, func() { i++; total += len(p.token(i)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
