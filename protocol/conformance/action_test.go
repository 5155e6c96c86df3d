package conformance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/host"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// service is one or two hosts that are one to their clients.
type service struct {
	*client.Client
	other *client.Client // of the second host, if there is one
	flags []string
}

// onEachStore runs a test on the embedded store, and on Redis with two hosts.
func onEachStore(t *testing.T, test func(t *testing.T, s service)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		c := connect(t)
		test(t, service{Client: c, other: c})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		flags := []string{"-redis", "redis://" + redistest.Server(t).Addr()}
		_, c := start(t, flags...)
		other := client.New(t, host.Start(t, flags...).URL, c.Subject)
		test(t, service{c, other, flags})
	})
}

func (s service) both() []*client.Client { return []*client.Client{s.Client, s.other} }

// suspended starts an approval and returns its id, its suspension's and when
// that expires. It takes them from the event, which is there however late it is
// looked for.
func (s service) suspended(t *testing.T, input string) (task, suspend string, expires time.Time) {
	t.Helper()
	task = s.Start("approval", input)
	var p struct {
		SuspendID string
		ExpiresAt time.Time
	}
	eventually(t, "it is suspended", func() bool {
		log := s.Poll(task, client.Poll{Wait: time.Second}).Events
		return len(log) > 1 && log[1].Type == "TASK_SUSPENDED" && json.Unmarshal(log[1].Payload, &p) == nil
	})
	return task, p.SuspendID, p.ExpiresAt
}

// action is the body of an answer.
func action(id, suspend, actionType, payload string) string {
	body, err := json.Marshal(map[string]any{"clientActionId": id, "suspendId": suspend, "actionType": actionType, "payload": json.RawMessage(payload)})
	if err != nil {
		panic(err)
	}
	return string(body)
}

func actions(task string) string { return tasks + "/" + task + "/actions" }

// acted checks the answer to an action, and that it repeats what was asked.
func acted(t *testing.T, a client.Answer, status int, task, suspend, id, want string) {
	t.Helper()
	var got struct{ TaskID, SuspendID, ClientActionID, Status string }
	a.Want(t, status).Decode(t, &got)
	if got.TaskID != task || got.SuspendID != suspend || got.ClientActionID != id || got.Status != want {
		t.Errorf("%s, want %s of %s", a.Body, want, id)
	}
}

func TestActionContract(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		task, suspend, _ := s.suspended(t, `{"question":"Publish?"}`)
		for _, c := range s.both() {
			// Unknown before not allowed, not allowed before everything else.
			c.Post(actions(task), action("a", "no-such", "approve", `{}`)).Want(t, 404, "TASK_NOT_FOUND")
			c.Post(actions(task), action("a", "no-such", "dance", `{}`)).Want(t, 404, "TASK_NOT_FOUND")
			c.Post(actions(task), action("a", suspend, "dance", `{}`)).Want(t, 409, "IDEMPOTENCY_CONFLICT")
		}
		// A refused answer leaves no receipt: the same id is free.
		const payload = `{"note":"ä","n":10,"deep":{"x":[1,null]}}`
		acted(t, s.other.Post(actions(task), action("a", suspend, "approve", payload)), 202, task, suspend, "a", "ACCEPTED")
		log := s.PollToEnd(task, "")
		client.CheckLog(t, task, log, 1)
		if len(log) != 4 || log[2].Type != "TASK_ACTION_ACCEPTED" || log[3].Type != "TASK_COMPLETED" {
			t.Fatalf("%+v", log)
		}
		var told struct {
			SuspendID, ClientActionID, ActionType string
			AcceptedAt                            time.Time
		}
		var result struct {
			Result struct {
				Decision string
				Payload  json.RawMessage
			}
		}
		for text, into := range map[*json.RawMessage]any{&log[2].Payload: &told, &log[3].Payload: &result} {
			if err := json.Unmarshal(*text, into); err != nil {
				t.Fatal(err)
			}
		}
		if told.SuspendID != suspend || told.ClientActionID != "a" || told.ActionType != "approve" || time.Since(told.AcceptedAt).Abs() > time.Minute {
			t.Errorf("%s", log[2].Payload)
		}
		if result.Result.Decision != "approve" || string(result.Result.Payload) != payload {
			t.Errorf("%s", log[3].Payload)
		}
		for _, c := range s.both() {
			// The receipt comes before whether it is open: the task is over.
			acted(t, c.Post(actions(task), action("a", suspend, "approve", `{"deep":{"x":[1.0,null]},"n":1e1,"note":"\u00e4"}`)), 200, task, suspend, "a", "DEDUPLICATED")
			c.Post(actions(task), action("a", suspend, "approve", `{"n":11}`)).Want(t, 409, "IDEMPOTENCY_CONFLICT")
			c.Post(actions(task), action("a", suspend, "reject", payload)).Want(t, 409, "IDEMPOTENCY_CONFLICT")
			acted(t, c.Post(actions(task), action("b", suspend, "reject", `{}`)), 202, task, suspend, "b", "REJECTED_ALREADY_RESOLVED")
			c.Post(actions(task), action("b", suspend, "dance", `{}`)).Want(t, 409, "IDEMPOTENCY_CONFLICT")
			c.Post(actions(task), action("b", "no-such", "approve", `{}`)).Want(t, 404, "TASK_NOT_FOUND")
			if open := c.Snapshot(task).Suspensions; len(open) != 0 {
				t.Errorf("open: %s", open)
			}
			client.CheckEqual(t, c.PollToEnd(task, ""), log)
		}
	})
}

// Metadata does not make another answer, and a body without payload is one with
// an empty payload.
func TestActionContent(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		task, suspend, _ := s.suspended(t, `{}`)
		bare := fmt.Sprintf(`{"clientActionId":"a","suspendId":%q,"actionType":"reject"}`, suspend)
		acted(t, s.Post(actions(task), bare), 202, task, suspend, "a", "ACCEPTED")
		acted(t, s.other.Post(actions(task), strings.Replace(bare, "{", `{"metadata":{"tab":2},"payload":{},`, 1)), 200, task, suspend, "a", "DEDUPLICATED")
		log := s.PollToEnd(task, "")
		if last := log[len(log)-1]; !strings.Contains(string(last.Payload), `"decision":"reject"`) || !strings.Contains(string(last.Payload), `"payload":{}`) {
			t.Errorf("%s", last.Payload)
		}
	})
}

// Every transport tells of the answer, in order and once, on the host that took
// it and on the other.
func TestActionOnEveryTransport(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		task, suspend, _ := s.suspended(t, `{}`)
		var follow []*client.Stream
		for _, c := range s.both() {
			follow = append(follow, c.Follow(task, client.SSE{}))
		}
		for _, f := range follow {
			f.Events(2)
		}
		acted(t, s.other.Post(actions(task), action("a", suspend, "approve", `{}`)), 202, task, suspend, "a", "ACCEPTED")
		log := s.PollToEnd(task, "")
		for _, f := range follow {
			h := f.ToEnd()
			client.CheckEqual(t, h.Events, log[len(log)-len(h.Events):])
		}
		for _, c := range s.both() {
			client.CheckEqual(t, c.SocketToEnd(task, "").Events, log)
		}
	})
}

func TestActionExpires(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		task, suspend, expires := s.suspended(t, `{"expiresInMs":1000}`)
		log := s.PollToEnd(task, "")
		last := log[len(log)-1]
		if late := last.CreatedAt.Sub(expires); last.Type != "TASK_FAILED" || !strings.Contains(string(last.Payload), `"SUSPENSION_EXPIRED"`) || late < 0 || late > busy(2*time.Second) {
			t.Errorf("%s %s, %v after the time", last.Type, last.Payload, late)
		}
		for _, c := range s.both() {
			acted(t, c.Post(actions(task), action("a", suspend, "approve", `{}`)), 202, task, suspend, "a", "REJECTED_ALREADY_RESOLVED")
		}
		client.CheckLog(t, task, s.PollToEnd(task, ""), 1)
	})
}

// An answer in the moment of the expiry is taken or rejected, and the log tells
// the same.
func TestActionRacesExpiry(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				task, suspend, expires := s.suspended(t, `{"expiresInMs":700}`)
				wait := time.NewTimer(time.Until(expires) + time.Duration(i-6)*3*time.Millisecond)
				<-wait.C
				a, err := s.other.Try(http.MethodPost, actions(task), http.Header{"Content-Type": {"application/json"}}, []byte(action("a", suspend, "approve", `{}`)))
				if err != nil || a.Status != 202 {
					t.Errorf("%d %s %v", a.Status, a.Body, err)
					return
				}
				log := s.PollToEnd(task, "")
				end := "TASK_FAILED"
				if strings.Contains(string(a.Body), `"ACCEPTED"`) {
					end = "TASK_COMPLETED"
				}
				if last := log[len(log)-1]; last.Type != end {
					t.Errorf("%s, and then %s %s", a.Body, last.Type, last.Payload)
				}
			})
		}
		wg.Wait()
	})
}

// Of 200 different answers at once, over two hosts, one is accepted, one event
// tells of it, and the task goes on once.
func TestActionsAtOnce(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		task, suspend, _ := s.suspended(t, `{}`)
		const n = 200
		var mu sync.Mutex
		counts, winner := map[string]int{}, ""
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range n {
			wg.Go(func() {
				<-begin
				id := fmt.Sprintf("c-%d", i)
				a, err := s.both()[i%2].Try(http.MethodPost, actions(task), http.Header{"Content-Type": {"application/json"}},
					[]byte(action(id, suspend, []string{"approve", "reject"}[i/2%2], fmt.Sprintf(`{"n":%d}`, i))))
				if err != nil || a.Status != 202 {
					t.Errorf("%d %s %v", a.Status, a.Body, err)
					return
				}
				var got struct{ Status string }
				_ = json.Unmarshal(a.Body, &got)
				mu.Lock()
				defer mu.Unlock()
				if counts[got.Status]++; got.Status == "ACCEPTED" {
					winner = id
				}
			})
		}
		close(begin)
		wg.Wait()
		if counts["ACCEPTED"] != 1 || counts["REJECTED_ALREADY_RESOLVED"] != n-1 {
			t.Errorf("%v", counts)
		}
		log := s.PollToEnd(task, "")
		client.CheckLog(t, task, log, 1)
		if len(log) != 4 || !strings.Contains(string(log[2].Payload), `"`+winner+`"`) || !strings.Contains(string(log[3].Payload), `{"n":`+strings.TrimPrefix(winner, "c-")+`}`) {
			t.Errorf("%s won: %s %s", winner, log[2].Payload, log[len(log)-1].Payload)
		}
	})
}

// The same answer many times at once is one.
func TestActionRepeatedAtOnce(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		task, suspend, _ := s.suspended(t, `{}`)
		var mu sync.Mutex
		counts := map[int]int{}
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				a, err := s.both()[i%2].Try(http.MethodPost, actions(task), http.Header{"Content-Type": {"application/json"}}, []byte(action("same", suspend, "approve", `{}`)))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				counts[a.Status]++
			})
		}
		wg.Wait()
		if counts[202] != 1 || counts[200] != 39 {
			t.Errorf("%v", counts)
		}
		client.CheckLog(t, task, s.PollToEnd(task, ""), 1)
	})
}

// Answer and cancel at once: the task ends one way, and nobody was told another.
func TestActionRacesCancel(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				task, suspend, _ := s.suspended(t, `{}`)
				var both sync.WaitGroup
				both.Go(func() {
					if _, err := s.Try(http.MethodPost, tasks+"/"+task+"/cancel", nil, nil); err != nil {
						t.Error(err)
					}
				})
				a, err := s.other.Try(http.MethodPost, actions(task), http.Header{"Content-Type": {"application/json"}}, []byte(action("a", suspend, "approve", `{}`)))
				both.Wait()
				if err != nil || a.Status != 202 {
					t.Errorf("%d %s %v", a.Status, a.Body, err)
					return
				}
				log := s.PollToEnd(task, "")
				client.CheckLog(t, task, log, 1)
				told := false
				for _, e := range log {
					told = told || e.Type == "TASK_ACTION_ACCEPTED"
				}
				if accepted := strings.Contains(string(a.Body), `"ACCEPTED"`); accepted != told {
					t.Errorf("%s, and the log %s", a.Body, client.IDs(log))
				}
			})
		}
		wg.Wait()
	})
}

func TestActionOnATaskThatIsOver(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		task, suspend, _ := s.suspended(t, `{}`)
		s.Cancel(task, `{}`)
		log := s.PollToEnd(task, "")
		acted(t, s.other.Post(actions(task), action("a", suspend, "approve", `{}`)), 202, task, suspend, "a", "REJECTED_ALREADY_RESOLVED")
		s.Post(actions(task), action("a", suspend, "dance", `{}`)).Want(t, 409, "IDEMPOTENCY_CONFLICT")
		client.CheckEqual(t, s.PollToEnd(task, ""), log)
		// A task that never asked has nothing to answer.
		finished, _ := s.Finished("greet", `{}`)
		s.Post(actions(finished), action("a", suspend, "approve", `{}`)).Want(t, 404, "TASK_NOT_FOUND")
	})
}

// Somebody else's task, an unknown one and an impossible one are answered with
// the same bytes, whatever the suspension.
func TestActionOnForeignTasks(t *testing.T) {
	onEachStore(t, func(t *testing.T, s service) {
		task, suspend, _ := s.suspended(t, `{}`)
		stranger := s.As(subject())
		seen := map[string]string{}
		for _, id := range []string{task, strings.Repeat("x", len(task)), "short", strings.ToUpper(task)} {
			for _, body := range []string{action("a", suspend, "approve", `{}`), action("a", suspend, "dance", `{}`), action("a", "no-such", "approve", `{}`)} {
				a := stranger.Post(actions(id), body).Want(t, 404, "TASK_NOT_FOUND")
				var e map[string]any
				a.Decode(t, &e)
				delete(e, "timestamp")
				seen[fmt.Sprint(e, len(a.Body), a.Header.Get("Content-Type"), a.Header.Get("Cache-Control"))] = id
			}
		}
		if len(seen) != 1 {
			t.Errorf("told apart: %v", seen)
		}
		s.As("").Post(actions(task), action("a", suspend, "approve", `{}`)).Want(t, 401, "AUTHENTICATION_ERROR")
		if open := s.Snapshot(task).Suspensions; len(open) != 1 {
			t.Errorf("%d open", len(open))
		}
		s.Cancel(task, `{}`)
	})
}

func TestActionRefusals(t *testing.T) {
	c := connect(t)
	s := service{Client: c, other: c}
	task, suspend, _ := s.suspended(t, `{}`)
	whole := action("a", suspend, "approve", `{}`)
	with := func(more string) string { return strings.Replace(whole, "{", "{"+more+",", 1) }
	for body, want := range map[string]struct {
		status int
		code   string
	}{
		``:                                      {400, "INVALID_REQUEST"},
		`{`:                                     {400, "INVALID_REQUEST"},
		whole + whole:                           {400, "INVALID_REQUEST"},
		with(`"suspendId":"x"`):                 {400, "INVALID_REQUEST"}, // twice
		"{\"actionType\":\"\xff\"}":             {400, "INVALID_REQUEST"},
		`[]`:                                    {422, "REQUEST_VALIDATION_ERROR"},
		`null`:                                  {422, "REQUEST_VALIDATION_ERROR"},
		`{}`:                                    {422, "REQUEST_VALIDATION_ERROR"},
		with(`"taskId":"x"`):                    {422, "REQUEST_VALIDATION_ERROR"},
		with(`"metadata":[]`):                   {422, "REQUEST_VALIDATION_ERROR"},
		with(`"metadata":null`):                 {422, "REQUEST_VALIDATION_ERROR"},
		action("a", suspend, "approve", `null`): {422, "REQUEST_VALIDATION_ERROR"},
		action("a", suspend, "approve", `"x"`):  {422, "REQUEST_VALIDATION_ERROR"},
		action("", suspend, "approve", `{}`):    {422, "REQUEST_VALIDATION_ERROR"},
		action(strings.Repeat("a", 256), suspend, "approve", `{}`):                  {422, "REQUEST_VALIDATION_ERROR"},
		action("a", "", "approve", `{}`):                                            {422, "REQUEST_VALIDATION_ERROR"},
		action("a", suspend, "", `{}`):                                              {422, "REQUEST_VALIDATION_ERROR"},
		action("a\r\nX: y", suspend, "approve", `{}`):                               {422, "REQUEST_VALIDATION_ERROR"},
		strings.Replace(whole, `"a"`, `1`, 1):                                       {422, "REQUEST_VALIDATION_ERROR"},
		action("a", suspend, "approve", `{"x":"`+strings.Repeat("x", 300<<10)+`"}`): {422, "REQUEST_VALIDATION_ERROR"},
	} {
		c.Post(actions(task), body).Want(t, want.status, want.code)
	}
	c.Do(http.MethodPost, actions(task), http.Header{"Content-Type": {"text/plain"}}, []byte(whole)).Want(t, 400, "INVALID_REQUEST")
	c.Do(http.MethodPost, actions(task), nil, []byte(whole)).Want(t, 400, "INVALID_REQUEST")
	acted(t, c.Post(actions(task), action(strings.Repeat("ü", 255), suspend, "approve", `{}`)), 202, task, suspend, strings.Repeat("ü", 255), "ACCEPTED")
	c.PollToEnd(task, "")
}
