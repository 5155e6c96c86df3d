package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's clock for the Date header is never stopped, and the cleaner
		// of a server's worker pool looks up every ten seconds; Fiber's memory
		// for sessions has no end either.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/internal/storage/memory.(*Storage).gc"),
		// The compiler inlines it, or does not: under the race detector.
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/internal/storage/memory.New.StartTimeStampUpdater.func1.1"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/utils.StartTimeStampUpdater.func1.1"))
}

func serve(t *testing.T) string {
	t.Helper()
	app, bridge, err := newApp(map[string]string{"ada": "secret", "bob": "hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(bridge.Shutdown(ctx), app.ShutdownWithContext(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

// do sends a request with a cookie by hand: the cookie is for TLS, which ends in
// front of a host.
func do(t *testing.T, method, url, cookie, contentType, body string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	req.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
	return res
}

func login(t *testing.T, base, name, password, cookie string) (status int, session string) {
	t.Helper()
	res := do(t, http.MethodPost, base+"/login", cookie, "application/x-www-form-urlencoded", "name="+name+"&password="+password)
	for _, c := range res.Cookies() {
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
			t.Errorf("the cookie is %v", c)
		}
		session = c.Name + "=" + c.Value
	}
	return res.StatusCode, session
}

func TestSignInFollowAndOut(t *testing.T) {
	base := serve(t)
	tasks := base + "/api/v1/tasks"
	for _, wrong := range [][2]string{{"ada", "hunter2"}, {"ada", ""}, {"nobody", ""}, {"", ""}} {
		if status, cookie := login(t, base, wrong[0], wrong[1], ""); status != 401 || cookie != "" {
			t.Errorf("%v: %d %q", wrong, status, cookie)
		}
	}
	_, ada := login(t, base, "ada", "secret", "session_id=planted")
	if ada == "" || strings.Contains(ada, "planted") {
		t.Fatalf("the session is %q", ada)
	}
	_, elsewhere := login(t, base, "ada", "secret", "")
	_, bob := login(t, base, "bob", "hunter2", "")

	var created struct{ TaskID string }
	res := do(t, http.MethodPost, tasks, ada, "application/json", `{"clientRequestId":"1","taskType":"wait","input":{"millis":60000}}`)
	if err := json.NewDecoder(res.Body).Decode(&created); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatal(res.Status, err)
	}
	task := tasks + "/" + created.TaskID
	for cookie, want := range map[string]int{"": 401, "session_id=forged": 401, bob: 404, elsewhere: 200} {
		if res := do(t, http.MethodGet, task, cookie, "", ""); res.StatusCode != want {
			t.Errorf("with %q: %s", cookie, res.Status)
		}
	}

	here, there := do(t, http.MethodGet, task+"/events/stream", ada, "", ""), do(t, http.MethodGet, task+"/events/stream", elsewhere, "", "")
	first := bufio.NewReader(there.Body)
	if _, err := first.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if res := do(t, http.MethodPost, base+"/logout", ada, "", ""); res.StatusCode != http.StatusNoContent {
		t.Fatal(res.Status)
	}
	out := time.Now()
	text, err := io.ReadAll(here.Body)
	if err == nil || !strings.Contains(string(text), `"reason":"auth_revoked"`) || time.Since(out) > 8*time.Second {
		t.Errorf("after signing out: %v, %s", err, text)
	}
	if res := do(t, http.MethodGet, task, ada, "", ""); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("the old cookie: %s", res.Status)
	}
	// The other session of the same user goes on.
	if res := do(t, http.MethodPost, task+"/cancel", elsewhere, "application/json", ""); res.StatusCode != http.StatusAccepted {
		t.Errorf("the other session: %s", res.Status)
	}
	rest, err := io.ReadAll(first)
	if err != nil || !strings.Contains(string(rest), "TASK_CANCELLED") {
		t.Errorf("the other session's stream: %v, %s", err, rest)
	}
}

// One user who signs out more often than revocations are kept of him is signed
// out each time, and so is everybody else.
func TestManySignOuts(t *testing.T) {
	base := serve(t)
	signOut := func(name, password string) {
		t.Helper()
		_, cookie := login(t, base, name, password, "")
		if res := do(t, http.MethodPost, base+"/logout", cookie, "", ""); res.StatusCode != http.StatusNoContent {
			t.Fatalf("signing %s out: %s", name, res.Status)
		}
		if res := do(t, http.MethodGet, base+"/api/v1/tasks/0123456789abcdef0123", cookie, "", ""); res.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%s's old cookie: %s, want 401", name, res.Status)
		}
	}
	for range 130 { // Revocations.MaxPerSubject is 100
		signOut("ada", "secret")
	}
	signOut("bob", "hunter2")
}
