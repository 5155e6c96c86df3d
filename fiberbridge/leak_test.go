package fiberbridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/redis/rueidis"

	"github.com/taskbridge/taskbridge-fiber/engine"
	"github.com/taskbridge/taskbridge-fiber/internal/intime"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore"
	"github.com/taskbridge/taskbridge-fiber/rueidisstore/redistest"
)

// transcript keeps all that is logged.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// What nobody may read in a log or in an answer to somebody else. Each has a
// part that occurs nowhere else.
const (
	leakToken    = "tok3n.eyJzZWNyZXQiOiJ0b2tlbi1zM2NyM3QifQ.s1gn4ture"
	leakPayload  = "payl0ad-of-an-event"
	leakInput    = "inp0t-of-a-task"
	leakMetadata = "metad4ta-of-a-task"
	leakReason   = "reas0n-of-a-cancellation"
	leakFile     = "content-of-an-upl0ad"
	leakAnswer   = "answ3r-of-a-person"
	leakPassword = "r3dis-passw0rd"
	leakOwner    = "0wner-of-the-task"
)

// leakAuth believes leakToken and, for strangers, anything that begins with
// "stranger"; of anything else it complains as token libraries do.
func leakAuth(c *fiber.Ctx) (engine.AuthContext, error) {
	token := strings.TrimPrefix(c.Get("Authorization"), "Bearer ")
	if token == "" {
		token = c.Query("access_token")
	}
	switch {
	case token == leakToken:
		return engine.AuthContext{Subject: leakOwner}, nil
	case strings.HasPrefix(token, "stranger"):
		return engine.AuthContext{Subject: token}, nil
	}
	_, err := url.Parse("http://" + token + ":%zz")
	return engine.AuthContext{}, fmt.Errorf("malformed token %q: %w; part: %s", token, err, token[min(6, len(token)):])
}

// A whole service's life, with everything going wrong that can, leaves nothing of
// tokens, payloads and passwords in the log, at any level, nor of a task in what
// strangers are told or what is logged about them.
func TestNothingLeaks(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testNothingLeaks(t, nil) })
	if testing.Short() {
		return // make quick does without a server
	}
	t.Run("redis", func(t *testing.T) { testNothingLeaks(t, redistest.Server(t, redistest.Password(leakPassword))) })
}

func testNothingLeaks(t *testing.T, redis *redistest.Instance) {
	var log transcript
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
	setup := hostSetup{
		logger: logger,
		bridge: func(c *Config) { c.Auth = leakAuth },
		app:    fiber.Config{BodyLimit: 1 << 20},
	}
	if redis != nil {
		setup.wrap = func(mem engine.Store) engine.Store {
			_ = mem.(io.Closer).Close()
			option, err := rueidis.ParseURL("redis://:" + leakPassword + "@" + redis.Addr())
			if err != nil {
				t.Fatal(err)
			}
			wrong := option
			wrong.Password = leakPassword + "-that-is-wrong"
			command := intime.For(t, 300*time.Millisecond, func() {
				_, err = rueidisstore.New(rueidisstore.Config{Redis: wrong, Logger: logger})
			})
			if err == nil || strings.Contains(err.Error(), leakPassword) {
				t.Errorf("a wrong password: %v", err)
			}
			store, err := rueidisstore.New(rueidisstore.Config{
				Redis: option, Prefix: "leak", Logger: logger, CommandTimeout: command,
			})
			if err != nil {
				t.Fatal(err)
			}
			return store
		}
	}
	h := startHost(t, setup)
	task := leakSession(t, h)

	// What a stranger is told of the task, by every route and with every mistake,
	// and what the log says of that.
	before := len(log.String())
	told := leakStranger(t, h, task)
	for _, secret := range leakSecrets() {
		if strings.Contains(told, secret) {
			t.Errorf("a stranger is told %q", secret)
		}
	}
	if logged := log.String()[before:]; strings.Contains(logged, task) || strings.Contains(logged, leakOwner) {
		t.Errorf("of a stranger's requests the log says whose task it is, or which:\n%s", logged)
	}

	if redis != nil {
		redis.Kill()
		for _, path := range []string{"", "/events", "/events/stream"} {
			h.get(t, "/api/v1/tasks/"+task+path, bearer(leakToken))
		}
		redis.Start()
	}
	for _, secret := range leakSecrets() {
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, secret) {
				t.Errorf("%q is in the log: %s", secret, line)
			}
		}
	}
	if log.String() == "" {
		t.Error("nothing was logged: the test looks at nothing")
	}
}

// leakSecrets are the marks; a token's in its parts.
func leakSecrets() []string {
	secrets := []string{leakPayload, leakInput, leakMetadata, leakReason, leakFile, leakAnswer, leakPassword}
	return append(secrets, strings.Split(leakToken, ".")...)
}

// leakSession does all that an owner can do, right and wrong, and returns a task
// that is still open.
func leakSession(t *testing.T, h *streamHost) (task string) {
	owner := bearer(leakToken)
	post := func(path, contentType, body string, want ...int) string {
		t.Helper()
		conn := h.connect(t)
		fmt.Fprintf(conn, "POST /api/v1/tasks%s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			path, h.addr, owner, contentType, len(body), body)
		c := readHead(t, conn, "HTTP/1.1")
		text := c.all(t)
		if len(want) > 0 && c.status != want[0] {
			t.Fatalf("POST %s: %d %s", path, c.status, text)
		}
		return text
	}
	const json = "application/json"
	create := `{"clientRequestId":"%s","taskType":"test","input":{"x":"` + leakInput + `"},"metadata":{"y":"` + leakMetadata + `"}}`
	if text := post("", json, fmt.Sprintf(create, "1"), 201); strings.Contains(text, leakInput) {
		t.Errorf("a create's answer repeats the input: %s", text)
	}
	run := h.exec.Next(t)
	task = run.Task().ID
	post("", json, strings.Replace(fmt.Sprintf(create, "1"), leakInput, leakInput+"2", 1), 409)
	// Mistakes of every kind, each with a secret in it.
	for _, body := range []string{
		`{"clientRequestId":"` + leakInput, `{"` + leakInput + `":1}`, `["` + leakInput + `"]`,
		`{"clientRequestId":7,"taskType":"test","input":"` + leakInput + `"}`, strings.Repeat(leakInput, 100_000),
	} {
		post("", json, body)
		post("/"+task+"/cancel", json, strings.ReplaceAll(body, leakInput, leakReason))
		post("/"+task+"/actions", json, strings.ReplaceAll(body, leakInput, leakAnswer))
	}
	post("", "text/"+leakInput, leakInput)
	form, contentType := writeForm(t,
		part{name: "clientRequestId", value: "2"}, part{name: "taskType", value: "test"},
		part{name: "input", value: `{"x":"` + leakInput + `"}`}, part{name: "attachment", file: "a.txt", contentType: "text/plain", value: leakFile})
	post("", contentType, string(form))
	post("", contentType, string(form[:len(form)-40]))

	stream := h.get(t, ssePath(task), owner)
	stream.next(t)
	ws := h.ws(t, owner)
	ws.subscribe(t, task)
	ws.expect(t, "SUBSCRIPTION_CONFIRMED", task)
	ctx := context.Background()
	if err := run.Emit(ctx, engine.Message{Text: leakPayload}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stream.event(t).data, leakPayload) {
		t.Error("the owner does not see the payload")
	}
	ws.past(t, "TASK_STARTED", "TASK_MESSAGE", task)
	run.Text(leakPayload)
	if err := run.Emit(ctx, engine.Message{Text: leakPayload + "\xff"}); err == nil {
		t.Error("invalid UTF-8 was emitted")
	}
	if err := run.Emit(ctx, engine.Message{Text: strings.Repeat(leakPayload, 50_000)}); err == nil || strings.Contains(err.Error(), leakPayload) {
		t.Errorf("too large: %v", err)
	}
	if err := run.Emit(ctx, engine.Suspended{
		SuspendID: "s", Kind: "USER_ACTION_REQUIRED", ReasonCode: "ASK", AllowedActions: []string{"approve"}, SchemaVersion: 1,
	}); err != nil {
		t.Fatal(err)
	}
	answer := `{"clientActionId":"%s","suspendId":"%s","actionType":"%s","payload":{"z":"` + leakAnswer + `"}}`
	post("/"+task+"/actions", json, fmt.Sprintf(answer, "c1", "other", "approve"))
	post("/"+task+"/actions", json, fmt.Sprintf(answer, "c2", "s", "reject"))
	post("/"+task+"/actions", json, fmt.Sprintf(answer, "c3", "s", "approve"))
	post("/"+task+"/cancel", json, `{"reason":"`+leakReason+`"}`, 202)
	for _, frame := range []string{`{"action":"` + leakPayload + `"}`, leakPayload} {
		c := h.ws(t, owner)
		c.send(t, frame)
		c.events(t)
	}
	for _, path := range []string{"", "/events", "/events?afterEventId=" + leakPayload, "/events?waitTimeoutMs=" + leakPayload} {
		h.get(t, "/api/v1/tasks/"+task+path, owner)
	}
	// Tokens that are refused, wherever they are.
	for _, lines := range [][]string{
		{owner + "x"}, {owner[:len(owner)-2]}, {"Authorization: " + leakToken + "x"}, {"Authorization: Basic " + leakToken},
	} {
		h.get(t, "/api/v1/tasks/"+task, lines...)
	}
	h.get(t, "/api/v1/tasks/"+task+"?access_token=x"+url.QueryEscape(leakToken))
	h.ws(t, owner+"x", "Origin: http://"+h.addr).closed(t, 1008)
	h.get(t, wsPath, append([]string{owner + "x"}, wsUpgrade...)...)
	if _, err := h.eng.Revoke(ctx, engine.Revocation{Attributes: map[string]string{"token": leakToken}}); err != nil {
		t.Error(err)
	}
	_, err := h.eng.Revoke(ctx, engine.Revocation{Reason: strings.Repeat(leakToken, 1000), Subject: "x"})
	if err == nil || strings.Contains(err.Error(), leakToken) {
		t.Errorf("a revocation that is too large: %v", err)
	}
	return task
}

// leakStranger tries the task by every route and returns all that is answered.
func leakStranger(t *testing.T, h *streamHost, task string) (told string) {
	stranger := bearer("stranger")
	for _, path := range []string{"", "/events", "/events?waitTimeoutMs=10", "/events/stream", "/events/stream?lastEventId=x"} {
		told += h.get(t, "/api/v1/tasks/"+task+path, stranger, "Connection: close").all(t)
	}
	for _, path := range []string{"/cancel", "/actions"} {
		for _, body := range []string{`{}`, `{"clientActionId":"c3","suspendId":"s","actionType":"approve"}`, `{"reason":"x"}`} {
			told += h.do(t, "POST", "/api/v1/tasks/"+task+path, "HTTP/1.1", stranger, "Connection: close",
				"Content-Type: application/json", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)).all(t)
		}
	}
	c := h.ws(t, stranger)
	c.subscribe(t, task)
	for {
		m, err := c.read()
		told += m.raw
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error("the socket stayed open")
			}
			return told + err.Error()
		}
	}
}
