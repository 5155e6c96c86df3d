package conformance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/taskbridge/taskbridge-fiber/protocol/conformance/client"
)

const tasks = "/api/v1/tasks"

// create is the body of a create request.
func create(clientRequestID, taskType, input string) string {
	if input == "" {
		return fmt.Sprintf(`{"clientRequestId":%q,"taskType":%q}`, clientRequestID, taskType)
	}
	return fmt.Sprintf(`{"clientRequestId":%q,"taskType":%q,"input":%s}`, clientRequestID, taskType, input)
}

func created(t *testing.T, a client.Answer, status int) client.Created {
	t.Helper()
	var got client.Created
	a.Want(t, status).Decode(t, &got)
	if got.Deduplicated != (status == http.StatusOK) {
		t.Errorf("%d with deduplicated %v", status, got.Deduplicated)
	}
	return got
}

func TestCreateAnswers201AndWhereTheTaskIs(t *testing.T) {
	c := connect(t)
	id := client.FreshID()
	a := c.Post(tasks, create(id, "greet", `{"name":"Ada"}`))
	got := created(t, a, http.StatusCreated)
	if got.ClientRequestID != id {
		t.Errorf("clientRequestId %q, sent %q", got.ClientRequestID, id)
	}
	snapshot := c.Get(strings.TrimPrefix(a.Header.Get("Location"), c.Base)).Want(t, http.StatusOK)
	var s client.Snapshot
	snapshot.Decode(t, &s)
	if s.TaskID != got.TaskID {
		t.Errorf("Location leads to %s, not to %s", s.TaskID, got.TaskID)
	}
}

func TestCreateRepeatedGivesTheStatusOfNow(t *testing.T) {
	c := connect(t)
	body := create(client.FreshID(), "greet", `{"name":"Ada"}`)
	first := created(t, c.Post(tasks, body), http.StatusCreated)
	c.PollToEnd(first.TaskID, "")
	again := created(t, c.Post(tasks, body), http.StatusOK)
	if again.TaskID != first.TaskID || again.Status != "COMPLETED" {
		t.Errorf("repeated: %+v, first %+v", again, first)
	}
}

func TestCreateComparesRequests(t *testing.T) {
	type pair struct{ name, first, second string }
	for _, same := range []pair{
		{"key order", `{"a":1,"b":{"c":[1,2],"d":null}}`, `{"b":{"d":null,"c":[1,2]},"a":1}`},
		{"blanks", `{"a":[1,2]}`, " {\n\t\"a\" : [ 1 , 2 ] } "},
		{"escapes", `{"é":"\u0041\/\n"}`, `{"\u00e9":"A/\u000a"}`},
		{"surrogates", `{"a":"😀"}`, `{"a":"\ud83d\ude00"}`},
		{"1 and 1.0", `{"a":1}`, `{"a":1.0}`},
		{"100 and 1e2", `{"a":100}`, `{"a":1e2}`},
		{"0.1 and 1E-1", `{"a":0.1}`, `{"a":1E-1}`},
		{"0 and 0e9", `{"a":0}`, `{"a":0e9}`},
		{"0 and -0", `{"a":0}`, `{"a":-0}`},
		{"beyond float64", `{"a":1e400}`, `{"a":10e399}`},
		{"large integers", `{"a":9007199254740993}`, `{"a":9007199254740993.0}`},
	} {
		t.Run("equal/"+same.name, func(t *testing.T) {
			c, id := connect(t), client.FreshID()
			first := created(t, c.Post(tasks, create(id, "greet", same.first)), http.StatusCreated)
			second := created(t, c.Post(tasks, create(id, "greet", same.second)), http.StatusOK)
			if first.TaskID != second.TaskID {
				t.Errorf("two tasks: %s and %s", first.TaskID, second.TaskID)
			}
		})
	}
	for _, other := range []pair{
		{"a value", `{"a":1}`, `{"a":2}`},
		{"a key", `{"a":1}`, `{"a":1,"b":1}`},
		{"null and absent", `{"a":null}`, `{}`},
		{"text and number", `{"a":"1"}`, `{"a":1}`},
		{"true and 1", `{"a":true}`, `{"a":1}`},
		{"order in a list", `{"a":[1,2]}`, `{"a":[2,1]}`},
		{"nesting", `{"a":[[1],2]}`, `{"a":[1,[2]]}`},
		{"beyond 2^53", `{"a":9007199254740992}`, `{"a":9007199254740993}`},
		{"the 20th digit", `{"a":0.12345678901234567890}`, `{"a":0.12345678901234567891}`},
		{"underflow", `{"a":1e-400}`, `{"a":0}`},
		{"upper case", `{"A":1}`, `{"a":1}`},
		{"quotes inside", `{"a":"\",\"b\":\""}`, `{"a":"","b":""}`},
	} {
		t.Run("other/"+other.name, func(t *testing.T) {
			c, id := connect(t), client.FreshID()
			created(t, c.Post(tasks, create(id, "greet", other.first)), http.StatusCreated)
			c.Post(tasks, create(id, "greet", other.second)).Want(t, http.StatusConflict, "IDEMPOTENCY_CONFLICT")
		})
	}
	t.Run("no input is {}", func(t *testing.T) {
		c, id := connect(t), client.FreshID()
		created(t, c.Post(tasks, create(id, "greet", "")), http.StatusCreated)
		created(t, c.Post(tasks, create(id, "greet", "{}")), http.StatusOK)
	})
	t.Run("type counts", func(t *testing.T) {
		c, id := connect(t), client.FreshID()
		created(t, c.Post(tasks, create(id, "greet", "{}")), http.StatusCreated)
		c.Post(tasks, create(id, "stall", "{}")).Want(t, http.StatusConflict, "IDEMPOTENCY_CONFLICT")
	})
	t.Run("metadata does not count", func(t *testing.T) {
		c, id := connect(t), client.FreshID()
		body := func(m string) string {
			return fmt.Sprintf(`{"clientRequestId":%q,"taskType":"greet","metadata":%s}`, id, m)
		}
		created(t, c.Post(tasks, body(`{"a":1}`)), http.StatusCreated)
		created(t, c.Post(tasks, body(`{"b":[2]}`)), http.StatusOK)
	})
	t.Run("the same id of another owner is another request", func(t *testing.T) {
		c, id := connect(t), client.FreshID()
		mine := created(t, c.Post(tasks, create(id, "greet", "{}")), http.StatusCreated)
		theirs := created(t, c.As(subject()).Post(tasks, create(id, "stall", "{}")), http.StatusCreated)
		if mine.TaskID == theirs.TaskID {
			t.Error("two owners share a task")
		}
	})
}

func TestManyEqualCreatesAtOnceMakeOneTask(t *testing.T) {
	c := connect(t)
	for round := range 4 {
		id := client.FreshID()
		asJSON, asForm := []byte(create(id, "greet", `{"name":"Ada","n":1}`)), form(
			field("clientRequestId", id), field("taskType", "greet"), field("input", `{"n":1.0,"name":"Ada"}`))
		var wg sync.WaitGroup
		answers := make([]client.Answer, 50)
		errs := make([]error, len(answers))
		gate := make(chan struct{})
		for i := range answers {
			wg.Go(func() {
				<-gate
				body, kind := asJSON, "application/json"
				if i%2 == round%2 {
					body, kind = asForm.body, asForm.contentType
				}
				answers[i], errs[i] = c.Try(http.MethodPost, tasks, http.Header{"Content-Type": {kind}}, body)
			})
		}
		close(gate)
		wg.Wait()
		made, ids := 0, map[string]bool{}
		for i, a := range answers {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			var got client.Created
			a.Decode(t, &got)
			ids[got.TaskID] = true
			switch {
			case a.Status == http.StatusCreated && !got.Deduplicated:
				made++
			case a.Status != http.StatusOK || !got.Deduplicated:
				t.Errorf("%d %s", a.Status, a.Body)
			}
		}
		if made != 1 || len(ids) != 1 {
			t.Fatalf("%d were told that they created it; ids: %v", made, ids)
		}
		for id := range ids {
			client.CheckLog(t, id, c.PollToEnd(id, ""), 1)
		}
	}
}

func TestCreateRefusals(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, tc := range []struct {
		name, contentType, body string
		status                  int
		code, field             string
	}{
		{"empty", "application/json", "", 400, "INVALID_REQUEST", ""},
		{"blank", "application/json", " ", 400, "INVALID_REQUEST", ""},
		{"cut off", "application/json", `{"clientRequestId":"a"`, 400, "INVALID_REQUEST", ""},
		{"two values", "application/json", create("a", "greet", "") + create("a", "greet", ""), 400, "INVALID_REQUEST", ""},
		{"rubbish behind", "application/json", create("a", "greet", "") + "x", 400, "INVALID_REQUEST", ""},
		{"single quotes", "application/json", `{'clientRequestId':'a'}`, 400, "INVALID_REQUEST", ""},
		{"comma at the end", "application/json", `{"clientRequestId":"a","taskType":"greet",}`, 400, "INVALID_REQUEST", ""},
		{"NaN", "application/json", create("a", "greet", `{"n":NaN}`), 400, "INVALID_REQUEST", ""},
		{"leading zero", "application/json", create("a", "greet", `{"n":01}`), 400, "INVALID_REQUEST", ""},
		{"raw newline in a string", "application/json", create("a", "greet", "{\"n\":\"a\nb\"}"), 400, "INVALID_REQUEST", ""},
		{"a list", "application/json", `[]`, 422, "REQUEST_VALIDATION_ERROR", ""},
		{"null", "application/json", `null`, 422, "REQUEST_VALIDATION_ERROR", ""},
		{"a string", "application/json", `"greet"`, 422, "REQUEST_VALIDATION_ERROR", ""},
		{"nothing in it", "application/json", `{}`, 422, "REQUEST_VALIDATION_ERROR", "clientRequestId"},
		{"no type", "application/json", `{"clientRequestId":"a"}`, 422, "REQUEST_VALIDATION_ERROR", "taskType"},
		{"empty id", "application/json", create("", "greet", ""), 422, "REQUEST_VALIDATION_ERROR", "clientRequestId"},
		{"long id", "application/json", create(long, "greet", ""), 422, "REQUEST_VALIDATION_ERROR", "clientRequestId"},
		{"empty type", "application/json", create("a", "", ""), 422, "REQUEST_VALIDATION_ERROR", "taskType"},
		{"long type", "application/json", create("a", long, ""), 422, "REQUEST_VALIDATION_ERROR", "taskType"},
		{"a number for the id", "application/json", `{"clientRequestId":5,"taskType":"greet"}`, 422, "REQUEST_VALIDATION_ERROR", "clientRequestId"},
		{"null for the type", "application/json", `{"clientRequestId":"a","taskType":null}`, 422, "REQUEST_VALIDATION_ERROR", "taskType"},
		{"a list for the input", "application/json", create("a", "greet", `[]`), 422, "REQUEST_VALIDATION_ERROR", "input"},
		{"a string for the input", "application/json", create("a", "greet", `"{}"`), 422, "REQUEST_VALIDATION_ERROR", "input"},
		{"a number for the metadata", "application/json", `{"clientRequestId":"a","taskType":"greet","metadata":1}`, 422, "REQUEST_VALIDATION_ERROR", "metadata"},
		{"a field that is unknown", "application/json", `{"clientRequestId":"a","taskType":"greet","owner":"me"}`, 422, "REQUEST_VALIDATION_ERROR", "owner"},
		{"a field in another case", "application/json", `{"clientRequestId":"a","tasktype":"greet"}`, 422, "REQUEST_VALIDATION_ERROR", "taskType"},
		{"text", "text/plain", create("a", "greet", ""), 400, "INVALID_REQUEST", ""},
		{"no content type", "", create("a", "greet", ""), 400, "INVALID_REQUEST", ""},
		{"urlencoded", "application/x-www-form-urlencoded", "clientRequestId=a&taskType=greet", 400, "INVALID_REQUEST", ""},
		{"an unknown type", "application/json", create("a", "no-such-type", ""), 400, "INVALID_REQUEST", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := connect(t)
			h := http.Header{}
			if tc.contentType != "" {
				h.Set("Content-Type", tc.contentType)
			}
			a := c.Do(http.MethodPost, tasks, h, []byte(tc.body)).Want(t, tc.status, tc.code)
			if tc.field == "" {
				return
			}
			for _, e := range a.Error(t).Details.Errors {
				if e.Field == tc.field {
					return
				}
			}
			t.Errorf("no error names %s: %s", tc.field, a.Body)
		})
	}
}

func TestCreateTakesTheLongestNames(t *testing.T) {
	c := connect(t)
	// Characters, not bytes.
	body, err := json.Marshal(map[string]string{"clientRequestId": strings.Repeat("猫", 255), "taskType": "greet"})
	if err != nil {
		t.Fatal(err)
	}
	created(t, c.Post(tasks, string(body)), http.StatusCreated)
	c.Post(tasks, create("a", strings.Repeat("猫", 255), "")).Want(t, 400, "INVALID_REQUEST") // too long would be 422
}

func TestCreateTakesACharset(t *testing.T) {
	c := connect(t)
	for _, kind := range []string{"application/json; charset=utf-8", "Application/JSON;charset=UTF-8", "application/json ;x=y"} {
		h := http.Header{"Content-Type": {kind}}
		if a := c.Do(http.MethodPost, tasks, h, []byte(create(client.FreshID(), "greet", ""))); a.Status != http.StatusCreated {
			t.Errorf("%s: %d %s", kind, a.Status, a.Body)
		}
	}
}

func TestRefusedCreateLeavesNothingBehind(t *testing.T) {
	c, id := connect(t), client.FreshID()
	c.Post(tasks, create(id, "no-such-type", `{"a":1}`)).Want(t, 400, "INVALID_REQUEST")
	created(t, c.Post(tasks, create(id, "greet", `{"b":2}`)), http.StatusCreated)
}

func TestBodyLimit(t *testing.T) {
	c := connect(t)
	// Only the head: a server that knows its limit need not wait for the body.
	res, body, err := c.Exchange(http.MethodPost, "POST "+tasks+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"+
		"Content-Type: application/json\r\nContent-Length: 2000000000\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	answer(t, c, http.MethodPost, tasks, res, body).Want(t, http.StatusRequestEntityTooLarge, "REQUEST_TOO_LARGE")
}
